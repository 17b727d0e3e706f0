"""Stopping while the store does not answer: it takes the grace, and little more."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sssnbus import Bus, ClosedError
from sssnbus.delivery import fanout, shield
from sssnbus.message import ChannelMessage
from sssnbus.stores import MemoryStore
from sssnbus.stores.loop import outlive
from tests.channels.tools import Gate, Recorder, data, until

GUARD = 20.0
"""Seconds after which a test fails: a mute store never answers."""


class Mute(MemoryStore):
    """A store that gives no answers while it is mute, not even to who is cancelled, as real ones do."""

    def __init__(self) -> None:
        super().__init__()
        self.speaks: asyncio.Future[None] | None = None
        self.asked: list[str] = []

    def hush(self) -> None:
        """Answer nothing until ``speak``."""
        self.speaks = asyncio.get_running_loop().create_future()
        self.asked.clear()

    def speak(self) -> None:
        """Answer everything that was asked meanwhile."""
        assert self.speaks is not None, "it is mute"
        self.speaks.set_result(None)
        self.speaks = None

    async def _answer(self, verb: str) -> None:
        self.asked.append(verb)
        if self.speaks is not None:
            await outlive(self.speaks)

    async def append(self, *args: Any, **options: Any) -> Any:
        await self._answer("append")
        return await super().append(*args, **options)

    async def last(self, *args: Any) -> Any:
        await self._answer("last")
        return await super().last(*args)

    async def read(self, *args: Any, **options: Any) -> Any:
        await self._answer("read")
        return await super().read(*args, **options)

    async def declare(self, *args: Any) -> Any:
        await self._answer("declare")
        return await super().declare(*args)

    async def claim(self, *args: Any, **options: Any) -> Any:
        await self._answer("claim")
        return await super().claim(*args, **options)

    async def settle(self, *args: Any, **options: Any) -> Any:
        await self._answer("settle")
        return await super().settle(*args, **options)

    async def put(self, *args: Any, **options: Any) -> Any:
        await self._answer("put")
        return await super().put(*args, **options)


@pytest.fixture
async def store() -> AsyncIterator[Mute]:
    """Give a store that speaks in the end, since nothing else would end those who wait for it."""
    store = Mute()
    yield store
    if store.speaks is not None:
        store.speak()
    await store.aclose()


async def ended(bus: Bus, grace: float) -> None:
    """Stop a bus. Cancelling that would help nobody who waits too long, so it is watched."""
    stopping = asyncio.ensure_future(bus.stop(grace))
    await asyncio.wait([stopping], timeout=GUARD)
    assert stopping.done()
    stopping.result()


async def others_end() -> None:
    """Wait until no task is left but the one that runs."""
    async with asyncio.timeout(GUARD):
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a store less time for what is left at the end: these answer at once, or never."""
    for module in (fanout, shield):
        monkeypatch.setattr(module, "PARTING", 0.02)


async def test_unanswered(store: Mute, caplog: pytest.LogCaptureFixture) -> None:
    """A stop gives claims, durable places and handlers that write their time, and tells what was left."""
    gate, recorder, writing = Gate(), Recorder(), Gate()
    bus = Bus(store)
    await bus.start()
    events, jobs = bus.broadcast("events"), bus.work_queue("jobs")

    async def write(message: ChannelMessage) -> None:
        await writing(message)
        await events.write("s", "late")

    await jobs.write_many("s", range(4))
    async with jobs.claim("w"):
        pass
    assert [data(m) for m in await jobs.read("reader", exclusive=True)] == [1]
    await jobs.subscribe("w", gate)
    await gate.entered.wait()
    await bus.work_queue("others").subscribe("w", recorder)
    iterating = jobs.subscribe("iterator")
    await iterating
    assert data(await anext(iterating)) == 3
    await events.subscribe("durable", recorder, durable=True)
    await events.subscribe("live", write)
    await events.write("s", 1, confirm="stored")
    await recorder.reach(1)
    await writing.entered.wait()
    store.hush()
    writing.opened.set()
    assert bus._fanout is not None
    bus._fanout.tail(store).check()
    await until(lambda: {"append", "read"} <= {*store.asked})
    await ended(bus, 0.1)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    for what in (
        "The place of subscription 'durable'",
        "Worker 'w' of queue 'jobs' has ended, but",
        "Queue 'jobs' did not give back",
    ):
        assert any(text.startswith(what) for text in told), told
    store.speak()
    await others_end()
    # It was asked to free them, and did so late. What was acked does not come again.
    async with Bus(store) as bus:
        found = await bus.work_queue("jobs").read("w", exclusive=True, limit=9)
        assert sorted(data(message) for message in found) == [1, 2, 3]
        async with bus.broadcast("events").subscribe("durable", durable=True) as subscription:
            assert subscription.position == 1
    assert gate.seen == []


async def test_handler_that_ends_slowly(store: Mute) -> None:
    """A cancelled handler takes the time it needs to end, if the store is there; its message goes back."""
    entered, cleaned = asyncio.Event(), asyncio.Event()
    bus = Bus(store)
    await bus.start()

    async def handle(message: ChannelMessage) -> None:
        entered.set()
        try:
            await asyncio.sleep(1e6)
        finally:
            await cleaned.wait()

    queue = bus.work_queue("jobs")
    await queue.subscribe("w", handle)
    await queue.write("s", 1)
    await entered.wait()
    store.asked.clear()
    stopping = asyncio.ensure_future(bus.stop(grace=0))
    await until(lambda: store.asked.count("last") == 3)
    assert not stopping.done()
    cleaned.set()
    await stopping
    async with Bus(store) as bus:
        assert [data(m) for m in await bus.work_queue("jobs").read("w", exclusive=True)] == [1]


async def test_start_that_hangs(store: Mute) -> None:
    """A channel that is being started does not keep its bus from stopping."""
    bus = Bus(store)
    await bus.start()
    store.hush()
    channel = bus.broadcast("events")
    writing = asyncio.ensure_future(channel.write("s", 1))
    await until(lambda: "declare" in store.asked)
    await ended(bus, 0.01)
    assert not writing.done()
    store.speak()
    await writing
    await others_end()
    with pytest.raises(ClosedError):
        await channel.write("s", 2)
