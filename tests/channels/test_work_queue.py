"""The work queue: each message is one worker's."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sssnbus import (
    Bus,
    BusTimeout,
    ChannelMessage,
    ClaimLost,
    ClosedError,
    InvalidOption,
    QueueFull,
    Retry,
    StateError,
    WorkQueueChannel,
)
from sssnbus.testing import ManualClock
from tests.channels.tools import Failing, Gate, Recorder, cancelled, data, quiet, until


async def counts(queue: WorkQueueChannel) -> tuple[int, int, int, int]:
    """Return how many are ready, delayed, leased and dead."""
    statistics = await queue.statistics()
    return statistics.ready, statistics.delayed, statistics.leased, statistics.dead


def test_claim_timeout() -> None:
    """A queue takes id, name and claim_timeout, and refuses a claim without length (SN-37)."""
    queue = WorkQueueChannel("jobs", "Jobs", claim_timeout=60.0)
    assert (queue.id, queue.name) == ("jobs", "Jobs")
    with pytest.raises(InvalidOption):
        WorkQueueChannel("jobs", claim_timeout=0)


@pytest.mark.parametrize(("given", "seconds"), [({}, 300.0), ({"claim_timeout": 60.0}, 60.0)])
async def test_length_of_a_claim(
    timed: Bus, clock: ManualClock, given: dict[str, Any], seconds: float
) -> None:
    """A claim lasts 300 seconds unless told otherwise (SN-37)."""
    queue = timed.work_queue("jobs", **given)
    await queue.write("service", 1)
    async with queue.claim("w") as claim:
        assert claim.deadline - clock.elapsed() == pytest.approx(seconds, abs=1)


async def test_each_message_is_one_workers(bus: Bus) -> None:
    """A read claims up to n; what is claimed is hidden from the others (SN-38)."""
    queue = bus.work_queue("jobs")
    await queue.write_many("service", range(5))
    a = await queue.read("a", limit=2, exclusive=True)
    b = await queue.read("b", limit=10, exclusive=True)
    assert ([data(m) for m in a], [data(m) for m in b]) == ([0, 1], [2, 3, 4])
    assert await queue.read("c", exclusive=True) == []
    assert await counts(queue) == (0, 0, 5, 0)


async def test_shared_read_is_refused(bus: Bus) -> None:
    """A read that is not exclusive is a TypeError that says so, and claims nothing (SN-39)."""
    queue = bus.work_queue("jobs")
    await queue.write("service", 1)
    with pytest.raises(TypeError, match="exclusive"):
        await queue.read("a")
    with pytest.raises(TypeError, match="exclusive"):
        await queue.read("a", exclusive=False)
    assert await counts(queue) == (1, 0, 0, 0)


async def test_acknowledge(bus: Bus) -> None:
    """What is acknowledged is gone for good, for everybody (SN-40)."""
    queue = bus.work_queue("jobs")
    await queue.write_many("service", range(3))
    messages = await queue.read("a", limit=2, exclusive=True)
    await queue.acknowledge("a", [message.id for message in messages])
    assert [data(m) for m in await queue.read("a", limit=9, exclusive=True)] == [2]
    assert await queue.read("b", exclusive=True) == []
    assert await counts(queue) == (0, 0, 1, 0)


async def test_nack(bus: Bus) -> None:
    """A nack releases at once, and anybody can claim the message next, the caller too (SN-41)."""
    queue = bus.work_queue("jobs")
    await queue.write("service", 1)
    for worker in ("a", "b", "b"):
        (message,) = await queue.read(worker, exclusive=True)
        await queue.nack(worker, [message.id])
    assert len(await queue.read("c", exclusive=True)) == 1


@pytest.mark.parametrize("verb", ["nack", "acknowledge", "release"])
async def test_only_the_holder_settles(bus: Bus, verb: str) -> None:
    """Somebody who does not hold the claim is refused; the holder keeps it (SN-42, SN-43)."""
    queue = bus.work_queue("jobs")
    await queue.write("service", 1)
    (message,) = await queue.read("a", exclusive=True)
    with pytest.raises(ClaimLost, match=message.id):
        await getattr(queue, verb)("b", [message.id])
    assert await counts(queue) == (0, 0, 1, 0)
    await queue.acknowledge("a", [message.id])
    assert await counts(queue) == (0, 0, 0, 0)


@pytest.mark.parametrize("verb", ["nack", "acknowledge", "release"])
async def test_settling_a_list_is_all_or_nothing(bus: Bus, verb: str) -> None:
    """One id that is not held refuses the whole list (SN-43)."""
    queue = bus.work_queue("jobs")
    await queue.write_many("service", range(2))
    messages = await queue.read("a", limit=2, exclusive=True)
    with pytest.raises(ClaimLost) as caught:
        await getattr(queue, verb)("a", [messages[0].id, "unknown", messages[1].id])
    assert caught.value.ids == ("unknown",)
    assert await counts(queue) == (0, 0, 2, 0)


async def test_settled_claims_are_not_remembered(bus: Bus) -> None:
    """An id is acknowledged once; a second time it is not held any more (SN-43)."""
    queue = bus.work_queue("jobs")
    await queue.write("service", 1)
    (message,) = await queue.read("a", exclusive=True)
    await queue.acknowledge("a", [message.id])
    with pytest.raises(ClaimLost):
        await queue.acknowledge("a", [message.id])


async def test_workers_share_ten_tasks(bus: Bus) -> None:
    """Three workers that loop until nothing is left share ten tasks, none done twice (SN-45)."""
    queue, done = bus.work_queue("jobs"), list[int]()
    await queue.write_many("service", range(10))

    async def work(name: str) -> None:
        while messages := await queue.read(name, limit=2, exclusive=True):
            for message in messages:
                await asyncio.sleep(0)
                done.append(data(message))
            await queue.acknowledge(name, [message.id for message in messages])

    await asyncio.gather(*(work(name) for name in "abc"))
    assert sorted(done) == list(range(10))
    assert await counts(queue) == (0, 0, 0, 0)


async def test_retries_are_visible(bus: Bus) -> None:
    """A message that failed says how often and why (SN-46)."""
    queue = bus.work_queue("jobs", retry=Retry(initial=0))
    await queue.write("service", 1, metadata={"k": "v"})
    (message,) = await queue.read("a", exclusive=True)
    assert message.metadata == {"k": "v"}
    await queue.nack("a", [message.id], error=ValueError("no good"))
    (message,) = await queue.read("a", exclusive=True)
    assert message.metadata == {"k": "v", "retries": 1, "last_error": "ValueError: no good"}


async def test_release_counts_no_attempt(bus: Bus) -> None:
    """What is released is as if it had never been taken."""
    queue = bus.work_queue("jobs", max_deliveries=1)
    await queue.write("service", 1)
    for _ in range(3):
        (message,) = await queue.read("a", exclusive=True)
        assert "retries" not in message.metadata
        await queue.release("a", [message.id])
    assert await counts(queue) == (1, 0, 0, 0)


async def test_subscribe(bus: Bus) -> None:
    """Workers ack what their handler returns from."""
    queue, recorder = bus.work_queue("jobs"), Recorder()
    await queue.write("service", 1)
    await queue.subscribe("w", recorder)
    await queue.write("service", 2)
    await recorder.reach(2)
    await quiet(bus)
    assert recorder.seen == [1, 2]
    await until_empty(queue)
    (worker,) = (await queue.statistics()).workers
    assert (worker.name, worker.done, worker.failed, worker.lost) == ("w", 2, 0, 0)


async def until_empty(queue: WorkQueueChannel) -> None:
    """Wait until nothing is left in a queue."""
    async with asyncio.timeout(20):
        while (await counts(queue))[:3] != (0, 0, 0):  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.001)


async def test_failing_handler(bus: Bus) -> None:
    """A handler that raises gets the message again, and after the last attempt it is dead (SN-46)."""
    queue = bus.work_queue("jobs", retry=Retry(initial=0), max_deliveries=3)
    failing = Failing()
    await queue.subscribe("w", failing)
    await queue.write("service", 1)
    await until_empty(queue)
    assert failing.seen == [1, 1, 1]
    assert [m.metadata.get("retries") for m in failing.messages] == [None, 1, 2]
    assert await counts(queue) == (0, 0, 0, 1)


async def test_retry_pauses(timed: Bus, clock: ManualClock) -> None:
    """A failed message waits for its pause, and does not hold up the others."""
    queue = timed.work_queue("jobs", retry=Retry(initial=10, jitter=False))
    seen: list[int] = []

    async def handler(message: ChannelMessage) -> None:
        seen.append(data(message))
        if len(seen) == 1:
            raise ValueError

    await queue.subscribe("w", handler)
    await queue.write_many("service", [0, 1])
    await until(lambda: seen == [0, 1])
    await quiet(timed)
    assert (await counts(queue))[:2] == (0, 1)
    clock.advance(9)
    await quiet(timed)
    assert seen == [0, 1]
    clock.advance(2)
    await until(lambda: seen == [0, 1, 0])
    await until_empty(queue)


async def test_concurrency(bus: Bus) -> None:
    """So many messages are handled at a time as was asked for."""
    queue, meeting, running, most = bus.work_queue("jobs"), asyncio.Barrier(4), [0], [0]

    async def handler(message: ChannelMessage) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await meeting.wait()
        running[0] -= 1

    await queue.write_many("service", range(12))
    await queue.subscribe("w", handler, concurrency=4)
    await until_empty(queue)
    assert most == [4]


async def test_batches(bus: Bus) -> None:
    """A worker can claim and settle several messages in one step."""
    queue, recorder = bus.work_queue("jobs"), Recorder()
    await queue.write_many("service", range(10))
    await queue.subscribe("w", recorder, batch=4)
    await until_empty(queue)
    assert recorder.seen == list(range(10))


async def test_failure_within_a_batch(bus: Bus) -> None:
    """One message of a batch that fails does not touch the others."""
    queue, seen = bus.work_queue("jobs", retry=Retry(initial=0), max_deliveries=2), list[int]()

    async def handler(message: ChannelMessage) -> None:
        seen.append(data(message))
        if data(message) == 1:
            raise ValueError

    await queue.write_many("service", range(4))
    await queue.subscribe("w", handler, batch=4)
    await until_empty(queue)
    assert sorted(seen) == [0, 1, 1, 2, 3]
    assert [data(letter) for letter in await queue.dead_letters.list()] == [1]


async def test_iterate(bus: Bus) -> None:
    """In a loop, asking for the next message acks the last, and leaving the block does too."""
    queue, seen = bus.work_queue("jobs"), list[int]()
    await queue.write_many("service", range(4))
    async with queue.subscribe("w") as workers:
        async for message in workers:
            assert workers.claim is not None
            assert workers.claim.message is message
            seen.append(data(message))
            if len(seen) == 3:
                break
    assert seen == [0, 1, 2]
    assert await counts(queue) == (1, 0, 0, 0)


async def test_iteration_left_by_an_exception(bus: Bus) -> None:
    """Leaving the block by an exception gives the message another attempt."""
    queue = bus.work_queue("jobs", retry=Retry(initial=0))
    await queue.write("service", 1)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # the block is what raises
        async with queue.subscribe("w") as workers:
            async for _ in workers:
                raise ZeroDivisionError
    (message,) = await queue.read("a", exclusive=True)
    assert message.metadata["retries"] == 1


async def test_tasks_iterate_each_for_itself(bus: Bus) -> None:
    """When several tasks iterate, asking for the next acks only what the asking task had."""
    queue, hold, held = bus.work_queue("jobs"), asyncio.Event(), list[Any]()
    await queue.write_many("service", range(3))
    async with queue.subscribe("w") as workers:

        async def slow() -> None:
            held.append(await anext(workers))
            await hold.wait()

        task = asyncio.ensure_future(slow())
        await until(lambda: bool(held))
        await anext(workers)
        await anext(workers)
        assert (await counts(queue))[2] == 2
        await cancelled(task)


async def test_closing_ends_an_iteration(bus: Bus) -> None:
    """Closing the subscription ends the loop of whoever waits in it."""
    queue = bus.work_queue("jobs")
    async with queue.subscribe("w") as workers:
        waiting = asyncio.ensure_future(anext(workers, None))
        await quiet(bus)
        await queue.unsubscribe("w")
        assert await asyncio.wait_for(waiting, 10) is None
    await queue.write("service", 1)
    assert await counts(queue) == (1, 0, 0, 0)
    with pytest.raises(ClosedError):
        await workers


async def test_listen_times_out(timed: Bus, clock: ManualClock) -> None:
    """Listening to a queue ends by a TimeoutError when nothing is ready for so long (BV-17)."""
    queue = timed.work_queue("jobs")
    async with queue.subscribe("w") as workers:
        waiting = asyncio.ensure_future(anext(workers.listen(timeout=10)))
        await quiet(timed)
        clock.advance(10)
        with pytest.raises(TimeoutError) as caught:
            await waiting
        assert isinstance(caught.value, BusTimeout)
        with pytest.raises(InvalidOption):
            await anext(workers.listen(timeout=-1))


async def test_workers_with_a_handler_are_not_iterated(bus: Bus) -> None:
    """Workers with a handler cannot be iterated; an iterator has no concurrency of its own."""
    queue = bus.work_queue("jobs")
    workers = await queue.subscribe("w", Recorder())
    with pytest.raises(StateError):
        await anext(workers)
    with pytest.raises(InvalidOption):
        queue.subscribe("w", concurrency=2)


async def test_unsubscribe_lets_the_handler_finish(bus: Bus) -> None:
    """Ending workers claims nothing more, and the message at hand is finished and acked (FX-15)."""
    queue, gate = bus.work_queue("jobs"), Gate()
    await queue.write_many("service", range(2))
    await queue.subscribe("w", gate)
    await gate.entered.wait()
    ending = asyncio.ensure_future(queue.unsubscribe("w"))
    await quiet(bus)
    assert not ending.done()
    gate.opened.set()
    await ending
    assert gate.seen == [0]
    assert await counts(queue) == (1, 0, 0, 0)


async def test_handler_beyond_grace(bus: Bus) -> None:
    """A handler that is cancelled at the end of grace has not failed: its message goes back untouched."""
    queue, gate = bus.work_queue("jobs"), Gate()
    await queue.write("service", 1)
    await queue.subscribe("w", gate, batch=3)
    await gate.entered.wait()
    await queue.unsubscribe("w", grace=0)
    (message,) = await queue.read("a", exclusive=True)
    assert message.metadata == {}


async def test_handler_time_out(timed: Bus, clock: ManualClock) -> None:
    """A handler that takes longer than its time-out has failed."""
    queue, gate = timed.work_queue("jobs", max_deliveries=1), Gate()
    await queue.subscribe("w", gate, timeout=5)
    await queue.write("service", 1)
    await gate.entered.wait()
    clock.advance(5)
    await until_empty(queue)
    (letter,) = await queue.dead_letters.list()
    assert letter.metadata["dead"]["error"].startswith("TimeoutError")


async def test_delay(timed: Bus, clock: ManualClock) -> None:
    """A delayed message is handed out when its time has come, to somebody who waits already."""
    queue = timed.work_queue("jobs")
    at = datetime.fromtimestamp(clock.time() + 20, UTC)
    await queue.write("service", "later", delay=timedelta(seconds=10))
    await queue.write("service", "latest", at=at)
    assert (await counts(queue))[:2] == (0, 2)
    waiting = asyncio.ensure_future(anext(aiter_claims(queue)))
    await quiet(timed)
    clock.advance(9)
    await quiet(timed)
    assert not waiting.done()
    clock.advance(1.5)
    assert data(await waiting) == "later"
    clock.advance(10)
    (message,) = await queue.read("a", exclusive=True)
    assert data(message) == "latest"


async def aiter_claims(queue: WorkQueueChannel) -> Any:
    """Wait for one message."""
    async with queue.claim("w") as claim:
        yield claim.message


async def test_priority(bus: Bus) -> None:
    """Higher priorities come first, and within one the order of writing (SB-204)."""
    queue = bus.work_queue("jobs", priorities=True)
    for n, priority in enumerate((0, 5, -1, 5, 0)):
        await queue.write("service", n, priority=priority)
    assert [data(m) for m in await queue.read("a", limit=9, exclusive=True)] == [1, 3, 0, 4, 2]


async def test_ordering_key(bus: Bus) -> None:
    """Messages of one key are handled one at a time and in order, beside those of other keys."""
    queue = bus.work_queue("jobs")
    for n in range(4):
        await queue.write("service", n, key="ab"[n % 2])
    first = await queue.read("w", limit=9, exclusive=True)
    assert [data(m) for m in first] == [0, 1]
    await queue.acknowledge("w", [first[0].id])
    assert [data(m) for m in await queue.read("w", limit=9, exclusive=True)] == [2]


async def test_backing_off_holds_the_key(timed: Bus, clock: ManualClock) -> None:
    """While the head of a key waits for its retry, the rest of the key waits with it."""
    queue = timed.work_queue("jobs", retry=Retry(initial=10, jitter=False))
    await queue.write_many("service", range(2), key="k")
    await queue.write("service", "other", key="j")
    seen: list[Any] = []

    async def handler(message: ChannelMessage) -> None:
        seen.append(data(message))
        if len(seen) == 1:
            raise ValueError

    await queue.subscribe("w", handler)
    await until(lambda: seen == [0, "other"])
    await quiet(timed)
    clock.advance(11)
    await until(lambda: seen == [0, "other", 0, 1])


async def test_ordering_key_wakes_the_next(bus: Bus) -> None:
    """Whoever waits gets the next message of a key as soon as the one before is done."""
    queue, recorder = bus.work_queue("jobs"), Recorder()
    await queue.subscribe("w", recorder, concurrency=3)
    await queue.write_many("service", range(20), key="k")
    await recorder.reach(20)
    assert recorder.seen == list(range(20))


async def test_max_depth(bus: Bus) -> None:
    """A full queue refuses what is too much, all of it; it takes more when there is room."""
    queue = bus.work_queue("jobs", max_depth=3)
    await queue.write_many("service", range(2))
    with pytest.raises(QueueFull, match="holds 2 messages and takes no more than 3"):
        await queue.write_many("service", range(2))
    await queue.write("service", 2)
    with pytest.raises(QueueFull):
        await queue.write("service", 3)
    (message,) = await queue.read("a", exclusive=True)
    with pytest.raises(QueueFull):
        await queue.write("service", 3)
    await queue.acknowledge("a", [message.id])
    await queue.write("service", 3)


async def test_queues_never_evict(bus: Bus) -> None:
    """A queue keeps everything, however much it is."""
    queue = bus.work_queue("jobs")
    for n in range(0, 11_000, 1000):
        await queue.write_many("service", range(n, n + 1000))
    assert (await counts(queue))[0] == 11_000


async def test_clear_and_remove(bus: Bus) -> None:
    """The host can remove messages from a queue, claimed ones too; their claims are lost (SN-47)."""
    queue = bus.work_queue("jobs")
    ids = [str(receipt) for receipt in await queue.write_many("service", range(4))]
    (message,) = await queue.read("a", exclusive=True)
    assert await queue.remove([ids[0], ids[1]]) == 2
    with pytest.raises(ClaimLost):
        await queue.acknowledge("a", [message.id])
    assert await queue.clear() == 2
    assert await counts(queue) == (0, 0, 0, 0)


async def test_wait_for_another_handle(file_url: str) -> None:
    """Who waits for a message gets one that another process writes (FX-10)."""
    async with Bus(file_url) as one, Bus(file_url) as two:
        waiting = asyncio.ensure_future(anext(aiter_claims(one.work_queue("jobs"))))
        await quiet(one)
        await two.work_queue("jobs").write("service", 1)
        assert data(await waiting) == 1


async def test_no_message_twice_between_handles(file_url: str) -> None:
    """Workers of several handles share a queue: no message is handed out twice (SN-38, SN-45)."""
    async with Bus(file_url) as one, Bus(file_url) as two:
        recorders = [Recorder() for _ in range(4)]
        for bus, recorder in zip((one, one, two, two), recorders, strict=True):
            await bus.work_queue("jobs").subscribe("w", recorder, batch=3)
        await one.work_queue("jobs").write_many("service", range(100))
        await until_empty(one.work_queue("jobs"))
    seen = [value for recorder in recorders for value in recorder.seen]
    assert sorted(seen) == list(range(100))
