"""Claims that outlive their process: made in one, taken up in another."""

import asyncio
from typing import Any

import pytest

from sssnbus import (
    Bus,
    ClaimLost,
    ClosedError,
    InvalidName,
    InvalidOption,
    StateError,
    UnknownMessage,
    WorkQueueChannel,
)
from sssnbus.stores import Leases, QueueStore
from sssnbus.testing import ManualClock
from tests.channels.test_work_queue import counts
from tests.channels.tools import data, python, until, waits


async def test_hold(timed: Bus, clock: ManualClock) -> None:
    """Only time or settling ends a held claim: not the end of the channel that made it."""
    queue = timed.work_queue("q")
    await queue.write_many("s", range(2))
    held = await queue.hold("w", 60)
    assert held is not None
    assert (data(held.message), held.worker, held.attempt, held.settled) == (0, "w", 1, False)
    assert held.deadline == clock.elapsed() + 60
    renewed = await queue.read("w", exclusive=True)
    await queue.stop()
    async with WorkQueueChannel("q", store=await timed.store(), clock=clock) as again:
        assert await counts(again) == (1, 0, 1, 0)
        assert [m.id for m in await again.peek(9)] == [renewed[0].id]
        clock.advance(61)
        assert await counts(again) == (2, 0, 0, 0)
        with pytest.raises(ClaimLost):
            await again.resume(held.message.id, held.token)


async def test_nothing_to_hold(bus: Bus) -> None:
    """Nothing ready, nothing held; a claim without length or worker is refused."""
    queue = bus.work_queue("q")
    assert await queue.hold("w", 5) is None
    await queue.write("s", 1)
    for seconds in (0, -1, float("nan")):
        with pytest.raises(InvalidOption):
            await queue.hold("w", seconds)
    with pytest.raises(InvalidName):
        await queue.hold("", 5)
    assert await counts(queue) == (1, 0, 0, 0)


async def test_resume_and_ack(bus: Bus) -> None:
    """Whoever has id and token can say that the message is done, once."""
    queue = bus.work_queue("q", keep_done=True)
    await queue.write("s", 1, metadata={"k": "v"})
    held = await queue.hold("w", 60)
    assert held is not None
    resumed = await queue.resume(held.message.id, held.token)
    assert (resumed.message, resumed.token, resumed.attempt) == (held.message, held.token, 1)
    assert resumed.deadline == pytest.approx(held.deadline, abs=1)
    await resumed.ack()
    assert (await queue.statistics()).done == 1
    with pytest.raises(StateError):
        await resumed.ack()
    with pytest.raises(ClaimLost):
        await held.ack()
    with pytest.raises(ClaimLost):
        await queue.resume(held.message.id, held.token)
    await queue.vacuum()
    with pytest.raises(UnknownMessage):
        await queue.resume(held.message.id, held.token)


async def test_resume_and_give_back(timed: Bus, clock: ManualClock) -> None:
    """A resumed claim can fail, wait, be given back or be made longer, as any other."""
    queue = timed.work_queue("q", max_deliveries=2)
    await queue.write("s", 1)
    held = await queue.hold("w", 60)
    assert held is not None
    await (await queue.resume(held.message.id, held.token)).extend(600)
    clock.advance(300)
    await (await queue.resume(held.message.id, held.token)).release()
    assert await counts(queue) == (1, 0, 0, 0)
    held = await queue.hold("w", 60)
    assert held is not None
    assert held.attempt == 1
    await (await queue.resume(held.message.id, held.token)).nack(delay=30, error="boom")
    assert await counts(queue) == (0, 1, 0, 0)
    clock.advance(31)
    held = await queue.hold("w", 60)
    assert held is not None
    resumed = await queue.resume(held.message.id, held.token)
    assert (resumed.attempt, resumed.message.metadata["last_error"]) == (2, "boom")
    await resumed.nack(error="again")
    assert await counts(queue) == (0, 0, 0, 1), "its last attempt"


async def test_stale_tokens(timed: Bus, clock: ManualClock) -> None:
    """A token that is not the newest changes nothing, and says so."""
    queue = timed.work_queue("q")
    id = await queue.write("s", 1)
    with pytest.raises(ClaimLost):
        await queue.resume(id, "made up")
    first = await queue.hold("a", 10)
    assert first is not None
    resumed = await queue.resume(id, first.token)
    clock.advance(11)
    second = await queue.hold("b", 10)
    assert second is not None
    with pytest.raises(ClaimLost) as raised:
        await queue.resume(id, first.token)
    assert (raised.value.ids, raised.value.worker) == ((str(id),), None)
    for verb in (resumed.ack, resumed.nack, resumed.release):
        with pytest.raises(ClaimLost):
            await verb()
        resumed.settled = False
    with pytest.raises(ClaimLost):
        await resumed.extend(60)
    assert await counts(queue) == (0, 0, 1, 0)
    await (await queue.resume(id, second.token)).ack()
    with pytest.raises(UnknownMessage):
        await queue.resume("unknown", "x")
    with pytest.raises(InvalidName):
        await queue.resume("no id at all", "x")


async def test_a_failed_settlement_keeps_the_claim(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold that could not be settled can be settled again, and is not given back with the channel."""
    queue = bus.work_queue("q")
    await queue.write("s", 1)
    held = await queue.hold("w", 60)
    assert held is not None
    store = await bus.store()
    with monkeypatch.context() as patch:
        patch.setattr(store, "settle", away)
        with pytest.raises(StateError):
            await held.ack()
    assert not held.settled
    await queue.stop()
    async with WorkQueueChannel("q", store=store) as again:
        assert await counts(again) == (0, 0, 1, 0)
        await (await again.resume(held.message.id, held.token)).ack()
        assert await counts(again) == (0, 0, 0, 0)


async def test_what_is_held_while_the_bus_stops(file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold whose answer comes when its bus is stopping is given back before the store closes."""
    async with Bus(file_url) as bus, Bus(file_url) as other:
        await other.work_queue("q").write("s", 1)
        queue, store = bus.work_queue("q"), await bus.store()
        assert isinstance(store, QueueStore)
        real, asked, go = store.claim, asyncio.Event(), asyncio.Event()

        async def slow(*args: Any, **more: Any) -> Leases:
            leases = await real(*args, **more)
            asked.set()
            await go.wait()
            return leases

        monkeypatch.setattr(store, "claim", slow)
        holding = asyncio.create_task(queue.hold("w", 600))
        await asked.wait()
        stopping = asyncio.create_task(bus.stop())
        await until(lambda: queue._place is None)
        for _ in range(100):
            await asyncio.sleep(0)
        go.set()
        with pytest.raises(ClosedError):
            await holding
        await stopping
        assert await counts(other.work_queue("q")) == (1, 0, 0, 0)


async def away(*args: object) -> object:
    """Stand in for a verb of a store that is out of reach."""
    raise StateError("as the test wants it")


async def test_a_held_message_comes_back_by_time(timed: Bus, clock: ManualClock) -> None:
    """Who waits gets a held message as soon as its time is over, one attempt further."""
    queue = timed.work_queue("q")
    await queue.write("s", 1)
    assert await queue.hold("w", 10) is not None
    waiting = asyncio.ensure_future(queue.claim("x").__aenter__())
    await until(lambda: waits(queue))
    clock.advance(11)
    claim = await asyncio.wait_for(waiting, 20)
    assert claim.attempt == 2
    await claim.ack()


async def test_across_processes(file_url: str) -> None:
    """A process holds a message and ends; another one settles it with what the first has printed."""
    async with Bus(file_url) as bus:
        queue = bus.work_queue("q")
        await queue.write_many("s", range(2))
        script = """
        import asyncio, os, sys
        from sssnbus import Bus

        async def main():
            async with Bus(sys.argv[1]) as bus:
                queue = bus.work_queue("q")
                first, second = [await queue.hold("elsewhere", 600) for _ in range(2)]
                print(first.message.id, first.token, second.message.id, second.token, flush=True)
                if sys.argv[2] == "die":
                    os.kill(os.getpid(), 9)

        asyncio.run(main())
        """
        for ending in ("leave", "die"):
            run = await asyncio.to_thread(python, script, file_url, ending)
            first, token, second, other = run.stdout.split()
            assert await counts(queue) == (0, 0, 2, 0)
            await (await queue.resume(second, other)).release()
            claim = await queue.resume(first, token)
            assert claim.attempt == 1
            await claim.release()
        assert await counts(queue) == (2, 0, 0, 0)
