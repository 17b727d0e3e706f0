"""Stores that can do less than others, or nothing for a while."""

import asyncio
from typing import Any

import pytest

from sssnbus import (
    BroadcastChannel,
    Bus,
    Claim,
    MissingAbility,
    Retention,
    StoreReadOnly,
    StoreUnavailable,
    WorkQueueChannel,
)
from sssnbus.stores import ByID, Catalogue, LogStore, MemoryStore
from sssnbus.testing import ManualClock, run_until_idle
from tests.channels.test_work_queue import counts
from tests.channels.tools import Recorder, data


class Plain(LogStore, ByID, Catalogue):
    """A store of logs and nothing else: no records, no queues, no hints. What it does is borrowed."""

    url, durability = "plain://", "none"

    def __init__(self) -> None:
        self.inner = MemoryStore()

    async def open(self) -> None:
        await self.inner.open()

    async def aclose(self, grace: float = 5.0) -> None:
        await self.inner.aclose()

    async def append(self, *args: Any, **options: Any) -> Any:
        return await self.inner.append(*args, **options)

    async def read(self, *args: Any, **options: Any) -> Any:
        return await self.inner.read(*args, **options)

    async def last(self, *args: Any) -> Any:
        return await self.inner.last(*args)

    async def locate(self, *args: Any) -> Any:
        return await self.inner.locate(*args)

    async def trim(self, *args: Any, **options: Any) -> Any:
        return await self.inner.trim(*args, **options)

    async def remove(self, *args: Any) -> Any:
        return await self.inner.remove(*args)

    async def find(self, *args: Any) -> Any:
        return await self.inner.find(*args)

    async def declare(self, *args: Any) -> Any:
        return await self.inner.declare(*args)

    async def logs(self, *args: Any) -> Any:
        return await self.inner.logs(*args)

    async def counts(self, *args: Any) -> Any:
        return await self.inner.counts(*args)

    async def drop(self, *args: Any) -> Any:
        return await self.inner.drop(*args)

    async def vacuum(self, *args: Any, **options: Any) -> Any:
        return await self.inner.vacuum(*args, **options)

    async def usage(self) -> Any:
        return await self.inner.usage()


async def test_plain_store() -> None:
    """A plain store is enough for live subscriptions; what it lacks is named when it is asked for."""
    store, recorder = Plain(), Recorder()
    async with BroadcastChannel("c", store=store, retention=Retention(max_count=50)) as channel:
        await channel.subscribe("a", recorder)
        await channel.write("s", 1)
        assert recorder.seen == [1]
        assert [data(m) for m in await channel.read("x")] == [1]
        assert await channel.subscriptions() == []
        with pytest.raises(MissingAbility, match="Records"):
            await channel.subscribe("b", durable=True)
        with pytest.raises(MissingAbility, match="Records"):
            await channel.read("x", durable=True)
        with pytest.raises(MissingAbility, match="Records"):
            await channel.forget("b")
        with pytest.raises(MissingAbility, match="QueueStore"):
            await channel.dead_letters.redrive()
        assert len((await channel.statistics()).subscriptions) == 1
    with pytest.raises(MissingAbility, match="QueueStore"):
        await WorkQueueChannel("q", store=store).start()
    await store.aclose()


class Away(MemoryStore):
    """A store that hands nothing out for a while, and takes nothing back."""

    error: Exception | None = None

    async def claim(self, *args: Any, **options: Any) -> Any:
        if self.error is not None:
            raise self.error
        return await super().claim(*args, **options)

    async def read(self, *args: Any, **options: Any) -> Any:
        if self.error is not None:
            raise self.error
        return await super().read(*args, **options)

    async def settle(self, *args: Any, **options: Any) -> Any:
        if self.error is not None:
            raise self.error
        return await super().settle(*args, **options)


async def test_workers_outlive_trouble(clock: ManualClock) -> None:
    """Workers whose store is away ask again, and go on when it is back."""
    store, recorder = Away(clock=clock), Recorder()
    async with WorkQueueChannel("q", store=store, clock=clock) as queue:
        store.error = StoreUnavailable("it is away")
        workers = await queue.subscribe("w", recorder)
        await queue.write("s", 1)
        for _ in range(5):
            await run_until_idle()
            clock.advance(1)
        assert (recorder.seen, workers.error) == ([], None)
        store.error = None
        while not recorder.seen:
            clock.advance(1)
            await run_until_idle()
        assert await counts(queue) == (0, 0, 0, 0)
    await store.aclose()


async def test_stops_without_its_store(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A queue that cannot give back what it holds ends all the same, and says so: the store frees it."""
    store = Away(clock=clock)
    async with Bus(store, clock=clock) as bus:
        queue = bus.work_queue("q")
        await queue.write("s", 1)
        assert len(await queue.read("w", exclusive=True)) == 1
        store.error = StoreUnavailable("it is away")
    assert "Queue 'q' did not give back what it held: it is away" in caplog.text
    await store.aclose()


async def test_workers_end_by_trouble_that_stays(clock: ManualClock) -> None:
    """Workers whose store fails for good end, and tell why."""
    store = Away(clock=clock)
    async with WorkQueueChannel("q", store=store, clock=clock) as queue:
        store.error = StoreReadOnly("x")
        workers = await queue.subscribe("w", Recorder())
        await run_until_idle()
        assert workers.error is store.error
    await store.aclose()


async def test_catch_up_outlives_trouble(clock: ManualClock) -> None:
    """A subscription that reads its history from a store that is away goes on when it is back."""
    store, recorder = Away(clock=clock), Recorder()
    async with BroadcastChannel("c", store=store, clock=clock) as channel:
        gate = asyncio.Event()

        async def handler(message: Any) -> None:
            await gate.wait()
            await recorder(message)

        await channel.subscribe("a", handler, buffer=1)
        for n in range(4):
            await channel.write("s", n, confirm="stored")
            await run_until_idle()
        store.error = StoreUnavailable("it is away")
        gate.set()
        for _ in range(3):
            await run_until_idle()
            clock.advance(1)
        assert recorder.seen == [0, 1]
        store.error = None
        while len(recorder.seen) < 4:
            clock.advance(1)
            await run_until_idle()
        assert recorder.seen == [0, 1, 2, 3]
    await store.aclose()


async def test_error_in_a_block_is_not_hidden(clock: ManualClock) -> None:
    """A block that raises lets its own error out, even if the store cannot take the nack now."""

    class Stuck(MemoryStore):
        async def settle(self, *args: Any) -> Any:
            raise StoreUnavailable("it is away")

    store, entered = Stuck(clock=clock), list[Claim]()
    queue = WorkQueueChannel("q", store=store, clock=clock)
    await queue.start()
    await queue.write("s", 1)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # the block is what raises
        async with queue.claim("w") as claim:
            entered.append(claim)
            raise ZeroDivisionError
    assert entered
    await queue.stop()
    await store.aclose()
