"""How much of a broadcast channel's past is kept."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from sssnbus import BroadcastChannel, Bus, ChannelMessage, Gap, InvalidOption, Retention, StoreUnavailable
from sssnbus.stores import MemoryStore
from sssnbus.testing import ManualClock
from tests.channels.tools import data, quiet


async def kept(channel: BroadcastChannel) -> int:
    """Return how many messages are there."""
    return (await channel.statistics()).messages


async def test_by_count(bus: Bus) -> None:
    """A channel keeps so many messages, and at most a tenth more for a moment (SN-50)."""
    channel = bus.broadcast("events", retention=Retention(max_count=100))
    for n in range(0, 1000, 5):
        await channel.write_many("service", range(n, n + 5))
        assert await kept(channel) <= 115
    last = [data(m) for m in await channel.read("x", limit=200)][-100:]
    assert last == list(range(900, 1000))


async def test_by_bytes(bus: Bus) -> None:
    """A channel keeps so many bytes, with the same slack (SN-50)."""
    channel = bus.broadcast("events", retention=Retention(max_bytes=10_000))
    for _ in range(100):
        await channel.write("service", b"x" * 500)
    assert (await channel.statistics()).size <= 12_000


async def test_by_age(timed: Bus, clock: ManualClock) -> None:
    """What is older goes, by the clock, without anybody writing (SN-50)."""
    channel = timed.broadcast("events", retention=Retention(max_age=timedelta(seconds=60)))
    await channel.write("service", 0)
    clock.advance(40)
    await channel.write("service", 1)
    clock.advance(0.5)
    await quiet(timed)
    assert await kept(channel) == 2
    for left in (1, 0):
        clock.advance(30)
        async with asyncio.timeout(20):
            while await kept(channel) != left:  # noqa: ASYNC110  # what is waited for has no event
                await asyncio.sleep(0.001)


async def test_is_recorded(bus: Bus) -> None:
    """Retention is recorded in the store and holds for every process; the last one given wins (SN-50)."""
    store = await bus.store()
    async with BroadcastChannel("events", store=store, retention=Retention(max_count=10)):
        pass
    async with BroadcastChannel("events", store=store) as channel:
        for n in range(50):
            await channel.write("service", n)
        assert await kept(channel) <= 12
    async with BroadcastChannel("events", store=store, retention=Retention(max_count=40)) as channel:
        await channel.write_many("service", range(100))
        assert 40 <= await kept(channel) <= 45


async def test_memory_keeps_ten_thousand() -> None:
    """The memory store keeps 10,000 messages of a channel by default."""
    async with BroadcastChannel("events") as channel:
        for _ in range(12):
            await channel.write_many("service", range(1000))
        assert 10_000 <= await kept(channel) <= 11_000


async def test_files_keep_everything(file_url: str) -> None:
    """The other stores keep everything until told otherwise."""
    async with BroadcastChannel("events", store=file_url) as channel:
        for _ in range(12):
            await channel.write_many("service", range(1000))
        assert await kept(channel) == 12_000


async def test_sequences_go_on(bus: Bus) -> None:
    """Sequences go on after everything was removed, and readers are told of the gap (SN-47)."""
    channel = bus.broadcast("events", retention=Retention(max_count=1))
    await channel.write("service", 0)
    await channel.read("x")
    for n in range(1, 10):
        await channel.write("service", n)
    history = await channel.read("x")
    assert history.gap == Gap(2, 9)
    assert [(m.sequence, data(m)) for m in history] == [(10, 9)]


@pytest.mark.parametrize(
    "bounds", [{"max_count": 0}, {"max_bytes": 0}, {"max_age": timedelta(0)}, {"max_count": True}]
)
def test_bad_bounds(bounds: dict[str, Any]) -> None:
    """Bounds without sense are refused when they are made."""
    with pytest.raises(InvalidOption):
        Retention(**bounds)


async def test_trouble_while_trimming(caplog: pytest.LogCaptureFixture) -> None:
    """A store that cannot trim now is asked again later; the writer does not notice."""

    class Stuck(MemoryStore):
        fails = True

        async def trim(self, log: str, **bounds: Any) -> int:
            if self.fails:
                raise StoreUnavailable("it is away")
            return await super().trim(log, **bounds)

    store = Stuck()
    async with BroadcastChannel("events", store=store, retention=Retention(max_count=5)) as channel:
        await channel.write_many("service", range(10))
        assert "could not be trimmed" in caplog.text
        store.fails = False
        await channel.write("service", 10)
        assert await kept(channel) <= 6
    await store.aclose()


async def test_gap_with_a_topic(bus: Bus) -> None:
    """A subscription with a pattern is told of what went, whatever it was, and goes on behind it."""
    channel = bus.broadcast("events")
    for n in range(1, 11):
        await channel.write("service", n, topic="rare" if n % 4 == 0 else "often")
    await channel.evict(max_count=5)
    async with channel.subscribe("a", start=1, topic="rare") as subscription:
        events = subscription.events()
        assert await anext(events) == Gap(1, 5)
        message = await anext(events)
        assert isinstance(message, ChannelMessage)
        assert message.sequence == 8
        assert await subscription.lag() == 0
