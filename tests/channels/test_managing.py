"""What those do who run a queue: choose, look, move, and keep what is done."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sssnbus import (
    Bus,
    ChannelKindMismatch,
    InvalidName,
    InvalidOption,
    MessageConflict,
    MissingAbility,
    UsageError,
    WorkQueueChannel,
)
from sssnbus.stores import SelectiveClaim, SQLiteStore
from tests.channels.test_damaged import damage
from tests.channels.test_work_queue import counts
from tests.channels.tools import Recorder, cancelled, data, until, waits, without


async def filled(bus: Bus, count: int = 5, **options: Any) -> tuple[WorkQueueChannel, list[str]]:
    """Return a queue of numbers and their ids."""
    queue = bus.work_queue("q", **options)
    return queue, [str(receipt) for receipt in await queue.write_many("s", range(count))]


async def done_of(queue: WorkQueueChannel) -> int:
    """Return how many messages are done but kept."""
    return (await queue.statistics()).done


async def until_done(queue: WorkQueueChannel, count: int) -> None:
    """Wait until so many messages are done."""
    async with asyncio.timeout(20):
        while await done_of(queue) < count:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0)


async def test_done_messages_are_kept(bus: Bus) -> None:
    """With keep_done every way to settle leaves the message, until vacuum (SB-103, SB-182, SB-268)."""
    queue, ids = await filled(bus, 6, keep_done=True)
    (message,) = await queue.read("w", exclusive=True)
    await queue.acknowledge("w", [message.id])
    async with queue.claim("w"):
        pass
    async with queue.claim("w") as claim:
        await claim.ack()
    async with queue.subscribe("w") as workers:
        await anext(workers)
    recorder = Recorder()
    workers = await queue.subscribe("w", recorder)
    await recorder.reach(2)
    await until_done(queue, 6)
    await workers.aclose()
    assert await done_of(queue) == 6
    assert await queue.read("w", exclusive=True) == []
    assert await queue.peek() == []
    other = bus.work_queue("other", keep_done=True)
    await other.write("s", 1)
    (message,) = await other.read("w", exclusive=True)
    await other.acknowledge("w", [message.id])
    assert await queue.vacuum() == 6
    assert (await done_of(queue), await done_of(other)) == (0, 1)
    assert await queue.vacuum() == 0
    assert await other.remove([message.id]) == 1
    assert await other.remove(ids) == 0


async def test_done_messages_take_no_place(bus: Bus) -> None:
    """What is done does not count for max_depth, and its ordering key goes on."""
    queue = bus.work_queue("q", keep_done=True, max_depth=2)
    await queue.write_many("s", range(2), key="k")
    for expected in range(2):
        async with queue.claim("w") as claim:
            assert data(claim.message) == expected
    await queue.write_many("s", range(2))
    assert await counts(queue) == (2, 0, 0, 0)
    assert await done_of(queue) == 2


async def test_without_keep_done_nothing_stays(bus: Bus) -> None:
    """By default a message is gone when it is acked."""
    queue, _ = await filled(bus, 1)
    async with queue.claim("w"):
        pass
    assert (await done_of(queue), await queue.vacuum()) == (0, 0)


async def test_chosen_reads(bus: Bus) -> None:
    """A read takes messages by id or between two ids, and leaves the others (SB-093 to SB-096)."""
    queue, ids = await filled(bus, 6)

    async def read(**chosen: Any) -> list[Any]:
        return [data(m) for m in await queue.read("w", exclusive=True, limit=9, **chosen)]

    assert await read(ids=[ids[3]]) == [3]
    assert await read(ids=[ids[3], "1" * 19]) == []
    assert await read(ids=[]) == []
    assert await read(after=ids[0], before=ids[2]) == [1]
    assert await read(after=ids[4]) == [5]
    assert await read(before=ids[0]) == []
    assert await read(before="9" * 19) == [0, 2, 4]


async def test_peek(bus: Bus) -> None:
    """Peeking shows ready messages, oldest first, as often as one likes, and claims none (SB-053, SB-183)."""
    queue, ids = await filled(bus)
    await queue.write("s", "urgent", priority=5)
    await queue.write("s", "later", delay=60)
    await queue.read("w", exclusive=True, ids=[ids[1]])
    for _ in range(2):
        assert [data(m) for m in await queue.peek()] == [0]
        assert [data(m) for m in await queue.peek(9)] == [0, 2, 3, 4, "urgent"]
    assert [data(m) for m in await queue.peek(9, ids=[ids[4], ids[1], ids[0]])] == [0, 4]
    assert [data(m) for m in await queue.peek(9, after=ids[0], before=ids[3])] == [2]
    assert await counts(queue) == (5, 1, 1, 0)


VERBS: dict[str, Callable[..., Awaitable[Any]]] = {
    "read": lambda queue, **options: queue.read("w", exclusive=True, **options),
    "peek": lambda queue, **options: queue.peek(**options),
    "move": lambda queue, **options: queue.move("other", **options),
    "observe": lambda queue, **options: anext(queue.observe(**options)),
}
BOUNDS: list[dict[str, Any]] = [
    {"after": "2024-01-15"},
    {"before": 1_700_000_000_000_000_000},
    {"after": "1" * 20},
    {"before": "١" * 19},
]
CHOICES: list[dict[str, Any]] = [{"ids": "1" * 19}, {"ids": [5]}, {"limit": 0}]


@pytest.mark.parametrize(
    ("verb", "options"),
    [(verb, options) for verb in VERBS for options in BOUNDS + (CHOICES if verb != "observe" else [])],
)
async def test_bad_choice(bus: Bus, verb: str, options: dict[str, Any]) -> None:
    """A choice that makes no sense is refused before anything happens (SB-093, SB-101)."""
    queue, _ = await filled(bus, 1)
    with pytest.raises(InvalidOption):
        await VERBS[verb](queue, **options)
    assert await counts(queue) == (1, 0, 0, 0)


async def test_a_store_that_cannot_choose() -> None:
    """Choosing from a store that cannot is refused by name; all else works there."""
    store = without(SelectiveClaim)
    async with Bus(store) as bus:
        queue, ids = await filled(bus, 3)
        for refused in (
            queue.peek(ids=ids),
            queue.read("w", exclusive=True, after=ids[0]),
            queue.move("b", before=ids[2]),
            anext(queue.observe(after=ids[0])),
        ):
            with pytest.raises(MissingAbility, match="SelectiveClaim"):
                await refused
        assert len(await queue.peek(9)) == 3
        assert len(await queue.move("b", limit=2)) == 2
    await store.aclose()


async def test_move(bus: Bus) -> None:
    """Messages move to the end of another queue, oldest first, with ids and no past (SB-054, SB-183)."""
    queue, ids = await filled(bus)
    there = bus.work_queue("there")
    await there.write("s", "first")
    (message,) = await queue.read("w", exclusive=True)
    await queue.nack("w", [message.id], error="boom")
    (moved,) = await queue.move("there", ids=[ids[0]])
    assert (moved.id, data(moved), moved.metadata) == (ids[0], 0, {})
    assert [data(m) for m in await queue.move("there", limit=2)] == [1, 2]
    assert [data(m) for m in await queue.move("there", after=ids[3])] == [4]
    assert [data(m) for m in await queue.peek(9)] == [3]
    found = await there.read("w", exclusive=True, limit=9)
    assert [data(m) for m in found] == ["first", 0, 1, 2, 4]
    assert [m.id for m in found[1:]] == [*ids[:3], ids[4]]
    assert [m.metadata for m in found] == [{}] * 5
    assert await queue.move("there", ids=["1" * 19]) == []


async def test_move_takes_ready_or_done(bus: Bus) -> None:
    """By id a done message moves as well, and is ready again; a leased or delayed one never does (SB-093)."""
    queue, ids = await filled(bus, 3, keep_done=True)
    later = await queue.write("s", "later", delay=60)
    (message,) = await queue.read("w", exclusive=True)
    await queue.acknowledge("w", [message.id])
    await queue.read("w", exclusive=True)
    assert [data(m) for m in await queue.move("there", limit=9)] == [2]
    assert await queue.move("there", ids=[ids[1], str(later)]) == []
    assert [data(m) for m in await queue.move("there", ids=[ids[0]])] == [0]
    assert await counts(queue) == (0, 1, 1, 0)
    assert [data(m) for m in await bus.work_queue("there").peek(9)] == [2, 0]


async def test_move_is_refused(bus: Bus) -> None:
    """A move to itself, to a broadcast channel or to no name at all moves nothing (SB-054)."""
    queue, ids = await filled(bus)
    await bus.broadcast("events").write("s", 1)
    with pytest.raises(UsageError) as raised:
        await queue.move("q")
    assert str(raised.value) == "Source and destination queues cannot be the same"
    with pytest.raises(ChannelKindMismatch):
        await queue.move("events")
    for name in ("", "-x", "q!dead", "../q", "a" * 513):
        with pytest.raises(InvalidName):
            await queue.move(name)
    await bus.work_queue("there").write("s", "another", id=ids[1])
    with pytest.raises(MessageConflict):
        await queue.move("there", limit=9)
    assert await counts(queue) == (5, 0, 0, 0)


async def test_move_passes_a_limit(bus: Bus) -> None:
    """A move fills a queue beyond its max_depth, which is for writers."""
    queue, _ = await filled(bus)
    there = bus.work_queue("there", max_depth=1)
    await there.write("s", 1)
    assert len(await queue.move("there", limit=5)) == 5
    assert await counts(there) == (6, 0, 0, 0)


async def test_move_wakes_workers_here(bus: Bus) -> None:
    """Workers of the target who wait in this process get what is moved."""
    queue, _ = await filled(bus)
    recorder = Recorder()
    await bus.work_queue("there").subscribe("w", recorder)
    await until(lambda: waits(bus.work_queue("there")))
    assert len(await queue.move("there", limit=9)) == 5
    await recorder.reach(5)
    assert recorder.seen == [0, 1, 2, 3, 4]


async def test_cancelled_move_wakes_workers(file_url: str) -> None:
    """Who waits here gets what a move has moved although it was cancelled, and need not look."""
    path = file_url.removeprefix("sqlite:///").partition("?")[0]
    store = SQLiteStore(path, durability="process", poll_interval=3600, doorbells=False)
    async with Bus(store) as bus:
        queue, there, recorder = bus.work_queue("q"), bus.work_queue("there"), Recorder()
        await there.subscribe("w", recorder)
        moved = 0
        for step in range(12):
            await until(lambda: waits(there))
            await queue.write("s", step)
            task = asyncio.ensure_future(queue.move("there"))
            for _ in range(step):
                await asyncio.sleep(0)
            await cancelled(task)
            moved += not (await counts(queue))[0]
            await queue.clear()
            await recorder.reach(moved)
        assert len(recorder.seen) == moved > 0
    await store.aclose()


async def test_move_wakes_workers_elsewhere(file_url: str) -> None:
    """Workers of the target who wait elsewhere are told, and need not look by themselves."""
    path = file_url.removeprefix("sqlite:///").partition("?")[0]
    stores = [SQLiteStore(path, durability="process", poll_interval=3600) for _ in range(2)]
    async with Bus(stores[0]) as here, Bus(stores[1]) as elsewhere:
        waiting = asyncio.ensure_future(elsewhere.work_queue("there").claim("w").__aenter__())
        queue, _ = await filled(here)
        await until(lambda: waits(elsewhere.work_queue("there")))
        await queue.move("there")
        claim = await asyncio.wait_for(waiting, 20)
        assert data(claim.message) == 0
        await claim.ack()
    for store in stores:
        await store.aclose()


async def test_many_move_at_once(file_url: str) -> None:
    """Several who move all at once: one gets everything, or each a part, and nothing twice (SB-169)."""
    async with Bus(file_url) as first, Bus(file_url) as second, Bus(file_url) as third:
        await filled(first, 100)
        movers = [bus.work_queue("q").move("there", limit=1000) for bus in (first, second, third)]
        moved = await asyncio.gather(*movers)
        assert sorted(map(len, moved)) == [0, 0, 100]
        singles = [bus.work_queue("there").move("q") for bus in (first, second, third) for _ in range(10)]
        ids = [message.id for (message,) in await asyncio.gather(*singles)]
        assert len(set(ids)) == 30
        assert await counts(first.work_queue("there")) == (70, 0, 0, 0)


async def test_damaged_messages(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged message is passed over aloud by who looks, and does not stop a move (SB-120)."""
    queue = bus.work_queue("q")
    await damage(bus, queue)
    await queue.write("s", 1)
    assert [data(m) for m in await queue.peek(9)] == [1]
    assert "damaged" in caplog.text
    assert [data(m) async for m in queue.observe(follow=False)] == [1]
    assert [data(m) for m in await queue.move("there", limit=9)] == [1]
    assert await counts(queue) == (0, 0, 0, 0)
    there = bus.work_queue("there")
    assert [data(m) for m in await there.read("w", exclusive=True, limit=2)] == [1]
    await until(lambda: "It goes to the dead letters" in caplog.text)


async def test_nack_with_a_delay(timed: Bus, clock: Any) -> None:
    """A nack may say when to try again, and then only time makes the message ready."""
    queue, _ = await filled(timed, 1)
    (message,) = await queue.read("w", exclusive=True)
    await queue.nack("w", [message.id], delay=30, error="later")
    assert await counts(queue) == (0, 1, 0, 0)
    assert await queue.read("w", exclusive=True) == []
    waiting = asyncio.ensure_future(queue.claim("w").__aenter__())
    clock.advance(29)
    assert await queue.read("w", exclusive=True) == []
    clock.advance(2)
    claim = await asyncio.wait_for(waiting, 20)
    assert (claim.attempt, claim.message.metadata) == (2, {"retries": 1, "last_error": "later"})
    await claim.nack(delay=5)
    assert await counts(queue) == (0, 1, 0, 0)
