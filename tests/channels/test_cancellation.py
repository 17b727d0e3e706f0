"""Cancelled at every step of the loop: nothing is stranded, nothing lost, nothing half done.

A verb is begun as a task and cancelled after k steps, for every k until it ends by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sssnbus import BroadcastChannel, Bus, ChannelMessage, Claim, WorkQueueChannel
from sssnbus.stores import Records
from tests.channels.test_work_queue import counts
from tests.channels.tools import Recorder, cancelled, data, until

LIMIT = 400
"""More steps than any verb takes."""


async def steps_of(
    verb: Callable[[], Awaitable[Any]], after: Callable[[bool, Any], Awaitable[None]], most: int = LIMIT
) -> int:
    """Run a verb again and again, cancelled one step later each time; return how often it was cancelled."""
    for step in range(most):
        task = asyncio.ensure_future(verb())
        for _ in range(step):
            if task.done():
                break
            await asyncio.sleep(0)
        task.cancel()
        result: Any = (await asyncio.gather(task, return_exceptions=True))[0]
        done = not isinstance(result, BaseException)
        assert done or isinstance(result, asyncio.CancelledError), result
        await after(done, result)
        if done:
            return step
    return most


async def test_write(bus: Bus) -> None:
    """A cancelled write is stored as a whole or not at all; what is stored is delivered, in order."""
    channel, recorder, tried = bus.broadcast("c"), Recorder(), [0]
    await channel.subscribe("a", recorder)

    async def write() -> None:
        tried[0] += 1
        await channel.write_many("s", [(tried[0] * 10), (tried[0] * 10) + 1])

    async def after(done: bool, result: Any) -> None:
        stored = [data(m) for m in await channel.read("x", after=0, limit=10_000)]
        pairs = sorted({value // 10 for value in stored})
        assert stored == [value for n in pairs for value in (n * 10, n * 10 + 1)]
        assert not done or tried[0] in pairs
        await until(lambda: len(recorder.messages) >= len(stored))
        assert recorder.seen == stored

    assert await steps_of(write, after)


async def test_read(bus: Bus) -> None:
    """A cancelled read moves nothing."""
    channel = bus.broadcast("c")
    await channel.write_many("s", range(3))
    names = iter(range(LIMIT))

    async def after(done: bool, result: Any) -> None:
        if not done:
            name = f"r{next(names)}"
            assert [data(m) for m in await channel.read(name)] == [0, 1, 2]
        again = [data(m) for m in await channel.read("x")]
        assert again == ([] if done else [0, 1, 2])
        await channel.read("x", after=0, limit=1)
        channel._readers._readers.pop("x")

    assert await steps_of(lambda: channel.read("x"), after)


async def test_queue_write(bus: Bus) -> None:
    """A cancelled write to a queue is stored as a whole or not at all."""
    queue = bus.work_queue("q")
    total = [0]

    async def after(done: bool, result: Any) -> None:
        ready = (await counts(queue))[0]
        assert ready - total[0] in ((2,) if done else (0, 2))
        total[0] = ready

    assert await steps_of(lambda: queue.write_many("s", [1, 2]), after)


async def test_claiming_read(bus: Bus) -> None:
    """A cancelled claim strands nothing: the messages are ready again, with no attempt counted."""
    queue = bus.work_queue("q")
    await queue.write_many("s", range(3))

    async def after(done: bool, result: Any) -> None:
        if done:
            await queue.release("w", [message.id for message in result])
        assert await counts(queue) == (3, 0, 0, 0)

    assert await steps_of(lambda: queue.read("w", limit=3, exclusive=True), after)
    messages = await queue.read("w", limit=3, exclusive=True)
    assert [message.metadata for message in messages] == [{}, {}, {}]


async def test_claim_block(bus: Bus) -> None:
    """A block that is cancelled anywhere, entering and leaving included, leaves nothing leased."""
    queue, done_ids = bus.work_queue("q"), list[str]()
    await queue.write_many("s", range(LIMIT))
    left = [LIMIT]

    async def work() -> None:
        async with queue.claim("w") as claim:
            await asyncio.sleep(0)
            done_ids.append(claim.message.id)

    async def after(done: bool, result: Any) -> None:
        ready, delayed, leased, dead = await counts(queue)
        assert (delayed, leased, dead) == (0, 0, 0)
        assert left[0] - ready in ((1,) if done else (0, 1))
        left[0] = ready

    assert await steps_of(work, after)


async def test_waiting_claim(bus: Bus) -> None:
    """A claim that is cancelled while a message arrives passes it on to somebody else."""
    queue = bus.work_queue("q")
    for step in range(40):
        first = asyncio.ensure_future(queue.claim("a").__aenter__())
        second = asyncio.ensure_future(queue.claim("b").__aenter__())
        for _ in range(5):
            await asyncio.sleep(0)
        writing = asyncio.ensure_future(queue.write("s", step))
        for _ in range(step):
            await asyncio.sleep(0)
        await cancelled(first)
        await writing
        if first.cancelled():
            claim = await asyncio.wait_for(second, 10)
        else:
            claim = first.result()
            await cancelled(second)
        await claim.ack()
        assert await counts(queue) == (0, 0, 0, 0)


async def test_settling(bus: Bus) -> None:
    """A cancelled ack that had begun is finished; one that had not is still held."""
    queue = bus.work_queue("q")

    async def after(done: bool, result: Any) -> None:
        messages = list(queue._running.held._claims.values()) if queue._running else []
        assert (await counts(queue))[2] == len(messages)
        for claim in messages:
            await queue.acknowledge("w", [claim.message.id])
        assert await counts(queue) == (0, 0, 0, 0)

    for _ in range(2):
        await queue.write("s", 1)

    async def acknowledge() -> None:
        (message,) = ready
        await queue.acknowledge("w", [message.id])

    for step in range(12):
        await queue.clear()
        await queue.write("s", 1)
        ready = await queue.read("w", exclusive=True)
        task = asyncio.ensure_future(acknowledge())
        for _ in range(step):
            await asyncio.sleep(0)
        await cancelled(task)
        await after(not task.cancelled(), None)


async def test_subscribe(bus: Bus) -> None:
    """A subscription cancelled while it begins leaves nothing behind, and the name is free."""
    channel = bus.broadcast("c")
    await channel.write_many("s", range(3))

    async def after(done: bool, result: Any) -> None:
        if done:
            await result.aclose()
        assert (await channel.statistics()).subscriptions == ()
        assert [s.active for s in await channel.subscriptions()] in ([], [False])
        await channel.write("s", 9, timeout=10)

    async def subscribe() -> object:
        return await channel.subscribe("a", Recorder(), durable=True, start="earliest")

    assert await steps_of(subscribe, after)


async def test_iterating(bus: Bus) -> None:
    """A durable iterator that is cancelled anywhere loses nothing: the message comes to the next."""
    channel = bus.broadcast("c")
    seen: list[int] = []
    for n in range(30):
        await channel.write("s", n)
    async with channel.subscribe("a", durable=True, start="earliest") as subscription:
        step = 0
        while len(seen) < 30:
            task = asyncio.ensure_future(anext(subscription))
            for _ in range(step % 12):
                await asyncio.sleep(0)
            step += 1
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(result, ChannelMessage):
                seen.append(data(result))
            elif step % 12 == 0:
                seen.append(data(await anext(subscription)))
    assert seen == list(range(30))
    assert [(s.position, s.active) for s in await channel.subscriptions()] == [(30, False)]


async def test_stop(store_url: str) -> None:
    """A stop that is cancelled is finished all the same: nothing stays leased or owned."""
    for step in range(10):
        async with Bus(store_url) as bus:
            store = await bus.store()
            channel, queue = bus.broadcast("c"), bus.work_queue("q")
            await channel.subscribe("a", Recorder(), durable=True)
            await queue.write("s", 1)
            await queue.read("w", exclusive=True)
            for stop in (channel.stop, queue.stop):
                task = asyncio.ensure_future(stop())
                for _ in range(step):
                    await asyncio.sleep(0)
                await cancelled(task)
                await stop()
            async with WorkQueueChannel("q", store=store) as again:
                assert (await counts(again))[2] == 0
                await again.clear()
            async with BroadcastChannel("c", store=store) as events:
                assert [s.active for s in await events.subscriptions()] == [False]


async def test_drain_and_unsubscribe(bus: Bus) -> None:
    """An unsubscribe that is cancelled has ended the subscription all the same."""
    channel = bus.broadcast("c")
    for step in range(8):
        recorder = Recorder()
        await channel.subscribe("a", recorder)
        task = asyncio.ensure_future(channel.unsubscribe("a"))
        for _ in range(step):
            await asyncio.sleep(0)
        await cancelled(task)
        await channel.unsubscribe("a")
        await channel.write("s", 1, timeout=10)
        assert recorder.seen == []


async def test_settling_otherwise(bus: Bus) -> None:
    """A nack, a release or an extension that is cancelled happened as a whole or not at all."""
    queue = bus.work_queue("q", max_deliveries=10_000)
    await queue.write("s", 1)

    async def nack() -> None:
        await queue.nack("w", [ids[0]])

    async def back_off() -> None:
        await queue.nack("w", [ids[0]], delay=0.001)

    async def release() -> None:
        await queue.release("w", [ids[0]])

    async def extend() -> None:
        await queue.extend("w", [ids[0]], 600)

    async def after(done: bool, result: Any) -> None:
        # Whatever came of it, the message is there once, and can be claimed, or settled, again.
        ready, delayed, leased, dead = await counts(queue)
        assert (ready + delayed + leased, dead) == (1, 0)
        if leased:
            await queue.release("w", ids)
        claim = await asyncio.wait_for(queue.claim("x").__aenter__(), 20)
        await claim.release()
        (message,) = await queue.read("w", exclusive=True)
        ids[:] = [message.id]

    ids = [message.id for message in await queue.read("w", exclusive=True)]
    for verb in (nack, back_off, release, extend):
        assert await steps_of(verb, after), verb


async def test_settling_a_claim(bus: Bus) -> None:
    """The same of a claim in hand, and of one that was taken up elsewhere."""
    queue = bus.work_queue("q", max_deliveries=10_000)
    await queue.write("s", 1)
    claims: list[Claim] = []

    async def take() -> None:
        held = await queue.hold("w", 600)
        assert held is not None
        claims[:] = [await queue.resume(held.message.id, held.token)]

    async def after(done: bool, result: Any) -> None:
        ready, delayed, leased, dead = await counts(queue)
        assert (ready + delayed + leased, dead) == (1, 0)
        assert leased or claims[0].settled
        if leased:
            claims[0].settled = False
            await claims[0].release()
        await take()

    await take()
    verbs = (lambda: claims[0].nack(delay=0), lambda: claims[0].release(), lambda: claims[0].extend(900))
    for verb in verbs:
        assert await steps_of(verb, after)


async def test_holding(bus: Bus) -> None:
    """A hold that is cancelled holds nothing; taking one up changes nothing."""
    queue = bus.work_queue("q")
    await queue.write("s", 1)

    async def after(done: bool, result: Any) -> None:
        assert (await counts(queue))[2] == (1 if done else 0)
        if done:
            assert isinstance(result, Claim)
            await steps_of(lambda: queue.resume(result.message.id, result.token), unchanged)
            await result.release()

    async def unchanged(done: bool, result: Any) -> None:
        assert await counts(queue) == (0, 0, 1, 0)

    assert await steps_of(lambda: queue.hold("w", 600), after)
    (message,) = await queue.read("w", exclusive=True)
    assert "retries" not in message.metadata, "no attempt was counted"


async def test_moving(bus: Bus) -> None:
    """A cancelled move has moved all or nothing, and whoever waits for what has moved gets it."""
    queue, there = bus.work_queue("q"), bus.work_queue("there")
    recorder = Recorder()
    await there.subscribe("w", recorder)
    moved = 0

    async def after(done: bool, result: Any) -> None:
        nonlocal moved
        left = (await counts(queue))[0]
        assert left in ((0,) if done else (0, 3))
        moved += 3 - left
        await recorder.reach(moved)
        await queue.clear()
        await queue.write_many("s", range(3))

    await queue.write_many("s", range(3))
    assert await steps_of(lambda: queue.move("there", limit=3), after)
    assert recorder.seen == [0, 1, 2] * (moved // 3)


async def test_redriving(bus: Bus) -> None:
    """A cancelled redrive has sent back all or nothing of a batch, and the workers get it."""
    queue, recorder = bus.work_queue("q", max_deliveries=1), Recorder()
    back = 0

    async def bury() -> None:
        await queue.write_many("s", range(3))
        for message in await queue.read("x", exclusive=True, limit=3):
            await queue.nack("x", [message.id], error="no good")

    async def after(done: bool, result: Any) -> None:
        nonlocal back
        ready, _, _, dead = await counts(queue)
        assert (ready, dead) in (((3, 0),) if done else ((3, 0), (0, 3)))
        async with queue.subscribe("w") as workers:
            for _ in range(ready):
                recorder.messages.append(await asyncio.wait_for(anext(workers), 20))
        back += ready
        await queue.dead_letters.purge()
        await bury()

    await bury()
    assert await steps_of(queue.dead_letters.redrive, after)
    assert recorder.seen == [0, 1, 2] * (back // 3)


async def test_writing_to_many(bus: Bus) -> None:
    """A copy for each queue is written by a cancelled write, or none, and whoever waits gets it."""
    names, recorders = ["a", "b", "c"], [Recorder() for _ in range(3)]
    for name, recorder in zip(names, recorders, strict=True):
        await bus.work_queue(name).subscribe("w", recorder)
    tried = 0

    async def write() -> None:
        nonlocal tried
        tried += 1
        await bus.write_to(names, "s", tried)

    async def after(done: bool, result: Any) -> None:
        lasts = {(await bus.work_queue(name).statistics()).last for name in names}
        assert len(lasts) == 1
        for recorder in recorders:
            await recorder.reach(max(lasts))

    assert await steps_of(write, after)
    assert recorders[0].seen == recorders[1].seen == recorders[2].seen


async def test_deleting(bus: Bus) -> None:
    """A cancelled delete can be done again, and then nothing of the channel is left."""
    for step in range(30):
        queue = bus.work_queue("q", max_deliveries=1)
        await queue.write_many("s", range(3))
        (message,) = await queue.read("w", exclusive=True)
        await queue.nack("w", [message.id])
        task = asyncio.ensure_future(bus.delete("q"))
        for _ in range(step):
            await asyncio.sleep(0)
        await cancelled(task)
        await bus.delete("q")
        assert await bus.channels() == []
        store = await bus.store()
        assert isinstance(store, Records)
        assert await store.names("channel:q") == {}
