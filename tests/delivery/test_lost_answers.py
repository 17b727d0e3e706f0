"""Workers and durable subscriptions outlive what a store could not answer, whether it did it or not."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sssnbus import BroadcastChannel, ChannelMessage, WorkQueueChannel
from sssnbus.errors import OutcomeUnknown, StoreUnavailable
from sssnbus.stores.memory import MemoryStore


class Lossy(MemoryStore):
    """Loses the next answer to a verb, as a network does; the request got through or it did not."""

    def __init__(self) -> None:
        super().__init__()
        self.verb, self.arrives = "", True
        self.lost = asyncio.Event()
        self.pause, self.paused = asyncio.Event(), asyncio.Event()
        self.pause.set()

    def lose(self, verb: str, *, arrives: bool) -> None:
        """Lose the answer to one verb, once."""
        self.verb, self.arrives = verb, arrives

    async def claim(self, *args: Any, **more: Any) -> Any:
        found = await self._do("claim", super().claim, *args, **more)
        self.paused.set()
        await self.pause.wait()
        return found

    async def settle(self, *args: Any, **more: Any) -> Any:
        return await self._do("settle", super().settle, *args, **more)

    async def put(self, *args: Any, **more: Any) -> Any:
        return await self._do("put", super().put, *args, **more)

    async def append(self, *args: Any, **more: Any) -> Any:
        return await self._do("append", super().append, *args, **more)

    async def _do(self, verb: str, do: Callable[..., Any], *args: Any, **more: Any) -> Any:
        if verb != self.verb:
            return await do(*args, **more)
        self.verb = ""
        if self.arrives:
            await do(*args, **more)
        self.lost.set()
        raise OutcomeUnknown("lossy", verb)


class Handler:
    """Keeps what it is given, and waits at the first one until it is told to go on."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[object] = asyncio.Queue()
        self.go_on = asyncio.Event()

    async def __call__(self, message: ChannelMessage) -> None:
        self.got.put_nowait(message.content.data)
        await self.go_on.wait()


@pytest.mark.parametrize("arrives", [True, False])
async def test_claim(arrives: bool) -> None:
    """A queue's worker goes on with what it can have. (This store ends no lease of its own process.)"""
    store, handler = Lossy(), Handler()
    handler.go_on.set()
    async with WorkQueueChannel(id="jobs", name="Jobs", store=store) as jobs:
        await jobs.subscribe("w", handler)
        store.lose("claim", arrives=arrives)
        await jobs.write("me", 1)
        await store.lost.wait()
        await jobs.write("me", 2)
        async with asyncio.timeout(10):
            assert await handler.got.get() == (2 if arrives else 1)
    await store.aclose()


async def free(jobs: WorkQueueChannel) -> None:
    """Wait until nobody holds a message, and the queue is empty."""
    async with asyncio.timeout(10):
        while (counts := await jobs.statistics()).leased or counts.ready or counts.delayed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("arrives", [True, False])
async def test_settlement(arrives: bool) -> None:
    """What a worker is done with is acked in the end, and not held for nobody as long as the worker lives."""
    store, handler = Lossy(), Handler()
    handler.go_on.set()
    async with WorkQueueChannel(id="jobs", name="Jobs", store=store) as jobs:
        await jobs.subscribe("w", handler)
        store.lose("settle", arrives=arrives)
        await jobs.write("me", 1)
        await store.lost.wait()
        await free(jobs)
        assert handler.got.qsize() == 1
    await store.aclose()


@pytest.mark.parametrize("arrives", [True, False])
async def test_settlement_of_a_block(arrives: bool) -> None:
    """One who holds a message for the length of a block is told, and has it acked as soon as that works."""
    store = Lossy()
    async with WorkQueueChannel(id="jobs", name="Jobs", store=store) as jobs:
        await jobs.write("me", 1)
        store.lose("settle", arrives=arrives)
        with pytest.raises(OutcomeUnknown):
            async with jobs.claim("w"):
                pass
        await free(jobs)
    await store.aclose()


@pytest.mark.parametrize("arrives", [True, False])
async def test_settlement_of_an_iteration(arrives: bool) -> None:
    """One who iterates is told, and has the message acked as soon as that works."""
    store = Lossy()
    async with WorkQueueChannel(id="jobs", name="Jobs", store=store) as jobs:
        await jobs.write("me", 1)
        store.lose("settle", arrives=arrives)
        async with jobs.subscribe("w") as messages:
            await anext(messages)
            with pytest.raises(OutcomeUnknown):
                await anext(messages)
        await free(jobs)
    await store.aclose()


async def test_settlement_without_the_store() -> None:
    """A worker that is cancelled while its store is away ends: a loop that ends waits for it."""

    class Away(MemoryStore):
        asked = asyncio.Event()

        async def settle(self, *args: Any, **more: Any) -> Any:
            self.asked.set()
            raise StoreUnavailable("away")

    store, handler = Away(), Handler()
    handler.go_on.set()
    async with WorkQueueChannel(id="jobs", name="Jobs", store=store) as jobs:
        workers = await jobs.subscribe("w", handler)
        await jobs.write("me", 1)
        await store.asked.wait()
        for task in workers._tasks:
            task.cancel()
        _, waiting = await asyncio.wait(workers._tasks, timeout=20)
        assert not waiting
    await store.aclose()


async def test_settlement_of_a_claim_that_was_cancelled() -> None:
    """What a cancelled claim got is given back in the end."""
    store = Lossy()
    async with WorkQueueChannel(id="jobs", name="Jobs", store=store) as jobs:
        await jobs.write("me", 1)
        store.pause.clear()
        claiming = asyncio.create_task(jobs.read("w", exclusive=True))
        await store.paused.wait()
        store.lose("settle", arrives=False)
        claiming.cancel()
        store.pause.set()
        with pytest.raises(asyncio.CancelledError):
            await claiming
        async with jobs.claim("w", timeout=10) as claim:
            assert claim.attempt == 1
    await store.aclose()


@pytest.mark.parametrize("arrives", [True, False])
async def test_place(arrives: bool) -> None:
    """A durable subscription goes on, its record whole, and loses its name to nobody."""
    store, handler = Lossy(), Handler()
    async with BroadcastChannel(id="events", name="Events", store=store) as events:
        subscription = await events.subscribe("s", handler, durable=True)
        await events.write("me", 1, confirm="stored")
        assert await handler.got.get() == 1
        store.lose("put", arrives=arrives)
        handler.go_on.set()
        await store.lost.wait()
        await events.write("me", 2)
        assert await handler.got.get() == 2
        await subscription.aclose()
        again = await events.subscribe("s", handler, durable=True)
        await events.write("me", 3)
        assert await handler.got.get() == 3
        await again.aclose()
    await store.aclose()


@pytest.mark.parametrize("arrives", [True, False])
async def test_beginning(arrives: bool) -> None:
    """A durable subscription that could not begin does not keep its name from the next try."""
    store, handler = Lossy(), Handler()
    handler.go_on.set()
    async with BroadcastChannel(id="events", name="Events", store=store) as events:
        store.lose("put", arrives=arrives)
        with pytest.raises(OutcomeUnknown):
            await events.subscribe("s", handler, durable=True)
        await events.subscribe("s", handler, durable=True)
        await events.write("me", 1)
        assert await handler.got.get() == 1
    await store.aclose()


@pytest.mark.parametrize("arrives", [True, False])
async def test_burial(arrives: bool) -> None:
    """A message that failed for good becomes one dead letter, however often that has to be tried."""
    store, through = Lossy(), asyncio.Event()

    async def fail_first(message: ChannelMessage) -> None:
        if message.content.data == 1:
            store.lose("append", arrives=arrives)
            raise ValueError
        through.set()

    async with BroadcastChannel(id="events", name="Events", store=store) as events:
        await events.subscribe("s", fail_first, durable=True, max_deliveries=1)
        await events.write("me", 1, confirm="stored")
        await store.lost.wait()
        await events.write("me", 2, confirm="stored")
        async with asyncio.timeout(10):
            await through.wait()
        assert [letter.content.data for letter in await events.dead_letters.list()] == [1]
    await store.aclose()
