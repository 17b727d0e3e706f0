"""Looking on: what a queue holds and what comes, each once, without touching it."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest

from sssnbus import (
    Bus,
    ChannelMessage,
    ClosedError,
    InvalidOption,
    StoreReset,
    UnknownMessage,
    WorkQueueChannel,
)
from sssnbus.delivery.policy import PAGE
from sssnbus.stores import Catalogue, MemoryStore
from sssnbus.testing import ManualClock, run_until_idle
from tests.channels.test_work_queue import counts
from tests.channels.tools import data, until

Messages = AsyncGenerator[ChannelMessage, None]


async def next_of(messages: Messages) -> Any:
    """Return the next value; a message that does not come fails."""
    return data(await asyncio.wait_for(anext(messages), 20))


async def all_of(queue: WorkQueueChannel, *args: Any, **options: Any) -> list[Any]:
    """Return what is there to see now."""
    return [data(m) async for m in queue.observe(*args, follow=False, **options)]


class Looker:
    """A task that keeps what it sees."""

    def __init__(self, messages: Messages) -> None:
        self.seen: list[Any] = []
        self.task = asyncio.ensure_future(self._look(messages))

    async def _look(self, messages: Messages) -> None:
        async for message in messages:
            self.seen.append(data(message))

    async def sees(self, *values: Any) -> None:
        """Wait until it has seen exactly these."""
        await until(lambda: len(self.seen) >= len(values) or self.task.done())
        assert self.seen == list(values)


async def test_what_is_there_and_what_comes(bus: Bus) -> None:
    """First what is there, oldest first, then each new message, and nothing is claimed (SB-161, SB-171)."""
    queue = bus.work_queue("q")
    await queue.write_many("s", range(3), priority=1)
    await queue.write("s", 3, priority=9)
    looker = Looker(queue.observe())
    await looker.sees(0, 1, 2, 3)
    await queue.write_many("s", [4, 5])
    await looker.sees(0, 1, 2, 3, 4, 5)
    assert await counts(queue) == (6, 0, 0, 0)
    await queue.stop()
    await asyncio.wait_for(looker.task, 20)


async def test_many_pages(bus: Bus) -> None:
    """A queue of many pages is seen whole, moved messages with old ids too (SB-090)."""
    queue, number = bus.work_queue("q"), 2 * PAGE + 10
    await bus.work_queue("old").write("s", "old")
    await queue.write_many("s", range(number))
    await bus.work_queue("old").move("q")
    await queue.write("s", "new")
    assert await all_of(queue) == [*range(number), "old", "new"]
    assert len(await queue.read("w", exclusive=True, limit=PAGE + 5)) == PAGE + 5
    assert await all_of(queue) == [*range(PAGE + 5, number), "old", "new"]
    assert len(await all_of(queue, ready=False)) == number + 2


async def test_where_it_begins(bus: Bus) -> None:
    """An observation begins where it is told to, and shows only what lies between its bounds (SB-102)."""
    queue = bus.work_queue("q")
    ids = [str(receipt) for receipt in await queue.write_many("s", range(5))]
    assert await all_of(queue, "new") == []
    assert await all_of(queue, 3) == [2, 3, 4]
    assert await all_of(queue, ids[3]) == [3, 4]
    assert await all_of(queue, datetime(2020, 1, 1, tzinfo=UTC)) == [0, 1, 2, 3, 4]
    assert await all_of(queue, datetime(2200, 1, 1, tzinfo=UTC)) == []
    assert await all_of(queue, after=ids[1], before=ids[4]) == [2, 3]
    with pytest.raises(UnknownMessage):
        await all_of(queue, "unknown")
    for start in (0, 7, datetime(2020, 1, 1)):  # without a zone on purpose
        with pytest.raises(InvalidOption):
            await all_of(queue, start)
    await queue.clear()
    assert await all_of(queue) == []
    assert await all_of(queue, "earliest") == []


async def test_states(timed: Bus, clock: ManualClock) -> None:
    """What is delayed or leased is seen when it is ready, what is done never; unless all is asked for."""
    queue = timed.work_queue("q", keep_done=True)
    await queue.write_many("s", ["done", "leased"])
    await queue.write("s", "delayed", delay=60)
    await queue.write("s", "ready")
    done, leased = await queue.read("w", exclusive=True, limit=2)
    await queue.acknowledge("w", [done.id])
    assert await all_of(queue) == ["ready"]
    assert await all_of(queue, ready=False) == ["done", "leased", "delayed", "ready"]
    looker = Looker(queue.observe())
    await looker.sees("ready")
    await queue.nack("w", [leased.id], delay=10)
    clock.advance(5)
    await looker.sees("ready")
    clock.advance(6)
    await looker.sees("ready", "leased")
    clock.advance(50)
    await looker.sees("ready", "leased", "delayed")
    await queue.stop()
    await looker.task


async def test_leases_that_end_by_time(timed: Bus, clock: ManualClock) -> None:
    """A message whose holder let time run out is seen then: no bell rings for that."""
    queue = timed.work_queue("q")
    await queue.write("s", 1)
    held = await queue.hold("w", 10)
    assert held is not None
    looker = Looker(queue.observe())
    await queue.write("s", 2)
    await looker.sees(2)
    await held.extend(20)
    clock.advance(11)
    await looker.sees(2)
    for _ in range(4):
        clock.advance(5)
        await asyncio.sleep(0.01)
    await looker.sees(2, 1)
    await queue.stop()
    await looker.task


async def test_what_is_gone_is_not_seen(bus: Bus) -> None:
    """A message that is done or removed before its turn is not seen, and stops nothing."""
    queue = bus.work_queue("q")
    await queue.write_many("s", range(3))
    await queue.read("w", exclusive=True)
    messages = queue.observe()
    assert await next_of(messages) == 1
    assert await next_of(messages) == 2
    waiting = asyncio.ensure_future(anext(messages))
    async with queue.claim("w"):
        pass
    await queue.clear()
    await queue.write("s", 3)
    assert data(await asyncio.wait_for(waiting, 20)) == 3
    await messages.aclose()


async def test_given_back(bus: Bus) -> None:
    """A leased message that is given back is seen then, once, and one seen before not again."""
    queue = bus.work_queue("q")
    await queue.write_many("s", range(2))
    (first,) = await queue.read("w", exclusive=True)
    looker = Looker(queue.observe())
    await looker.sees(1)
    await queue.release("w", [first.id])
    await looker.sees(1, 0)
    for message in await queue.read("w", exclusive=True, limit=2):
        await queue.release("w", [message.id])
    await queue.write("s", 2)
    await looker.sees(1, 0, 2)
    await queue.stop()
    await looker.task


async def test_from_another_process(file_url: str) -> None:
    """What others write, move and give back is seen (SB-164)."""
    async with Bus(file_url) as bus, Bus(file_url) as other:
        looker = Looker(bus.work_queue("q").observe())
        queue = other.work_queue("q")
        await queue.write("s", 0)
        await looker.sees(0)
        await other.work_queue("there").write("s", 1)
        await other.work_queue("there").move("q")
        await looker.sees(0, 1)
        await bus.stop()
        await looker.task


async def test_leaving_early(bus: Bus) -> None:
    """An observation that is left, cancelled or never begun leaves nothing behind."""
    queue = bus.work_queue("q")
    await queue.write("s", 1)
    queue.observe()
    messages = queue.observe()
    assert await next_of(messages) == 1
    await messages.aclose()
    looker = Looker(queue.observe())
    await looker.sees(1)
    looker.task.cancel()
    await asyncio.gather(looker.task, return_exceptions=True)
    assert queue._running is not None
    await until(lambda: queue._running is not None and not queue._running.observations)
    await queue.stop()
    with pytest.raises(ClosedError):
        await anext(queue.observe())


async def test_deleted_meanwhile(bus: Bus) -> None:
    """Whoever looks at a queue that is deleted elsewhere is told, and misses nothing in silence."""
    queue = bus.work_queue("q")
    await queue.write_many("s", range(5))
    looker = Looker(queue.observe())
    await looker.sees(0, 1, 2, 3, 4)
    store = await bus.store()
    assert isinstance(store, Catalogue)
    await store.drop("q")
    await queue.write("s", 9)
    with pytest.raises(StoreReset):
        await asyncio.wait_for(looker.task, 20)


async def test_stopped_between_two_looks() -> None:
    """That the store is closed before an observation has noticed its end is no error either."""

    class Slow(MemoryStore):
        gate: asyncio.Event | None = None

        async def read(self, *args: Any, **options: Any) -> Any:
            page = await super().read(*args, **options)
            if self.gate is not None:
                await self.gate.wait()
            return page

    store = Slow()
    async with Bus(store) as bus:
        queue = bus.work_queue("q")
        await queue.write("s", 1)
        store.gate = asyncio.Event()
        lookers = Looker(queue.observe(1)), Looker(queue.observe(1))
        await run_until_idle()
        running = queue._running
        assert running is not None
        assert len(running.observations) == 2
        # To this one the stop is not told: for it the store is gone without a word.
        running.observations.pop()
    await store.aclose()
    store.gate.set()
    results = await asyncio.gather(*(looker.task for looker in lookers), return_exceptions=True)
    assert {type(result) for result in results} == {type(None), ClosedError}


@pytest.mark.parametrize("step", range(0, 60, 6))
async def test_stopped_anywhere(store_url: str, step: int) -> None:
    """An observation ends without an error wherever it is when the bus is stopped."""
    async with Bus(store_url) as bus:
        queue = bus.work_queue("q")
        await queue.write_many("s", range(3))
        looker = Looker(queue.observe())
        for _ in range(step):
            await asyncio.sleep(0)
        await bus.stop()
        try:
            await asyncio.wait_for(looker.task, 20)
        except ClosedError:
            # It had not begun.
            assert not looker.seen
    assert looker.seen == [0, 1, 2][: len(looker.seen)]
