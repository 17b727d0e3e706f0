"""Reading a broadcast channel at one's own pace."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sssnbus import (
    BroadcastChannel,
    Bus,
    ChannelMessage,
    ExclusiveReadError,
    Gap,
    InvalidOption,
    UnknownMessage,
    UsageError,
    WorkQueueChannel,
)
from tests.channels.tools import Recorder, cancelled, data


async def fill(channel: BroadcastChannel, count: int) -> list[str]:
    """Write 0, 1, 2 and so on; return the ids."""
    return [str(receipt) for receipt in await channel.write_many("service", range(count))]


def values(messages: list[ChannelMessage]) -> list[Any]:
    """Return the plain values."""
    return [data(message) for message in messages]


async def test_late_joiner_reads_history(bus: Bus) -> None:
    """Nothing old is pushed to a late subscriber; read gives it, oldest first (SN-22, SN-23, BV-35)."""
    channel, carol = bus.broadcast("events"), Recorder()
    await channel.write("service", "user.login")
    await channel.write("service", "user.logout")
    await channel.subscribe("carol", carol)
    assert carol.seen == []
    history = await channel.read("carol", limit=100)
    assert len(history) == 2
    assert [data(message) for message in history] == ["user.login", "user.logout"]


async def test_readers_are_independent(bus: Bus) -> None:
    """A second read returns only what is new; another reader still gets all (SN-24)."""
    channel = bus.broadcast("events")
    await fill(channel, 2)
    assert values(await channel.read("carol")) == [0, 1]
    assert values(await channel.read("carol")) == []
    await channel.write("service", 2)
    assert values(await channel.read("carol")) == [2]
    assert values(await channel.read("dave")) == [0, 1, 2]


async def test_limit(bus: Bus) -> None:
    """A read returns ten messages unless told otherwise, and the next one goes on (SN-25)."""
    channel = bus.broadcast("events")
    await fill(channel, 25)
    assert values(await channel.read("carol")) == list(range(10))
    assert values(await channel.read("carol", limit=14)) == list(range(10, 24))
    assert values(await channel.read("carol", limit=100)) == [24]


async def test_after_id(bus: Bus) -> None:
    """After an id, or a sequence, overrides the place, and the place moves from there (SN-26)."""
    channel = bus.broadcast("events")
    ids = await fill(channel, 5)
    await channel.read("carol")
    assert values(await channel.read("carol", after=ids[1], limit=2)) == [2, 3]
    assert values(await channel.read("carol")) == [4]
    assert values(await channel.read("carol", after=1, limit=2)) == [1, 2]


async def test_after_unknown_id(bus: Bus) -> None:
    """An unknown id is an error that moves nothing (SN-26)."""
    channel = bus.broadcast("events")
    await fill(channel, 3)
    await channel.read("carol", limit=1)
    with pytest.raises(UnknownMessage, match="holds no message with id 'nonsense'"):
        await channel.read("carol", after="nonsense")
    assert values(await channel.read("carol")) == [1, 2]


@pytest.mark.parametrize("after", [-1, 4, 10**9, True, 1.0])
async def test_after_beyond_the_end(bus: Bus, after: int) -> None:
    """A sequence that the channel has not reached is an error that moves nothing (SN-26)."""
    channel = bus.broadcast("events")
    await fill(channel, 3)
    await channel.read("carol", limit=1)
    with pytest.raises(InvalidOption, match="after"):
        await channel.read("carol", after=after)
    assert values(await channel.read("carol")) == [1, 2]


async def test_exclusive_read_is_refused(bus: Bus) -> None:
    """An exclusive read is a TypeError with a way out; nothing moves (SN-31, SN-32, SN-33, SN-34)."""
    channel = bus.broadcast("events")
    await fill(channel, 1)
    with pytest.raises(TypeError, match="BroadcastChannel does not support exclusive reads") as caught:
        await channel.read("reader", exclusive=True)
    assert isinstance(caught.value, ExclusiveReadError)
    for word in ("subscribe", "read", WorkQueueChannel.__name__):
        assert word in str(caught.value)
    assert values(await channel.read("reader")) == [0]


async def test_exclusive_read_before_start() -> None:
    """An exclusive read is refused before the channel is even asked (SN-34)."""
    with pytest.raises(ExclusiveReadError):
        await BroadcastChannel(id="events").read("reader", exclusive=True)


async def test_one_consumer_in_many_tasks(bus: Bus) -> None:
    """Tasks that read as one consumer share its place: each message goes to one of them."""
    channel = bus.broadcast("events")
    await fill(channel, 30)
    parts = await asyncio.gather(*(channel.read("carol", limit=5) for _ in range(6)))
    assert sorted(value for part in parts for value in values(part)) == list(range(30))


async def test_gap(bus: Bus) -> None:
    """What was removed unread is told as a gap, once."""
    channel = bus.broadcast("events")
    await fill(channel, 3)
    await channel.read("carol", limit=1)
    await channel.clear()
    history = await channel.read("carol")
    assert (list(history), history.gap) == ([], Gap(2, 3))
    assert (await channel.read("carol")).gap is None
    assert (await channel.read("dave")).gap is None


async def test_place_of_a_cancelled_read(bus: Bus) -> None:
    """A cancelled read moves nothing."""
    channel = bus.broadcast("events")
    await fill(channel, 2)
    reading = asyncio.ensure_future(channel.read("carol"))
    await asyncio.sleep(0)
    if not reading.done():
        await cancelled(reading)
        assert values(await channel.read("carol")) == [0, 1]


async def test_places_live_in_the_channel_object(tmp_path: Path) -> None:
    """A place that was not asked to be kept is gone with the channel object."""
    for _ in range(2):
        async with BroadcastChannel("events", store=f"sqlite:///{tmp_path}/x.db") as channel:
            await channel.write("service", 0)
            assert values(await channel.read("carol"))[0] == 0


async def test_durable_read(tmp_path: Path) -> None:
    """A durable place is saved when the next read begins: what came last comes again (BV-09)."""
    url = f"sqlite:///{tmp_path}/x.db"
    async with BroadcastChannel("events", store=url) as channel:
        await fill(channel, 6)
        assert values(await channel.read("carol", limit=2, durable=True)) == [0, 1]
        assert values(await channel.read("carol", limit=2, durable=True)) == [2, 3]
    async with BroadcastChannel("events", store=url) as channel:
        assert values(await channel.read("carol", limit=2, durable=True)) == [2, 3]
        assert values(await channel.read("carol", limit=2, durable=True)) == [4, 5]
        assert values(await channel.read("carol", limit=2, durable=True)) == []
    async with BroadcastChannel("events", store=url) as channel:
        assert values(await channel.read("carol", limit=2, durable=True)) == []


async def test_history_of_another_handle(file_url: str) -> None:
    """What one handle wrote, another finds in the history, after a restart too (BV-04, BV-09, BV-39)."""
    async with Bus(file_url) as one, Bus(file_url) as two:
        await fill(one.broadcast("events"), 3)
        assert values(await two.broadcast("events").read("carol")) == [0, 1, 2]
    async with Bus(file_url) as three:
        assert values(await three.broadcast("events").read("carol")) == [0, 1, 2]


async def test_three_and_then_nothing(bus: Bus) -> None:
    """Three written are three read, in order, and then nothing, without waiting (FX-17, FX-18)."""
    channel = bus.broadcast("events")
    await fill(channel, 3)
    assert [values(await channel.read("x", limit=1)) for _ in range(4)] == [[0], [1], [2], []]


async def test_topics(bus: Bus) -> None:
    """A reader can ask for topics; its place moves behind what it passed over as well."""
    channel = bus.broadcast("events")
    for number, topic in enumerate(["user.login", None, "order.paid", "user.logout", "order.sent"]):
        await channel.write("service", number, topic=topic)
    assert values(await channel.read("carol", topic="user.>", limit=1)) == [0]
    assert values(await channel.read("carol", topic=["user.*", "order.sent"])) == [3, 4]
    assert values(await channel.read("dave", topic="user.=", syntax="equals-plus")) == [0, 3]
    assert values(await channel.read("dave")) == []
    assert values(await channel.read("dave", after=0, topic="nobody.>")) == []
    assert values(await channel.read("dave")) == []
    with pytest.raises(UsageError):
        await channel.read("erin", topic="a..b")
    assert values(await channel.read("erin", limit=1)) == [0]


async def test_a_rare_topic_in_a_long_history() -> None:
    """Others run while a store in memory is looked through for what is not there."""
    async with BroadcastChannel("events") as channel:
        for _ in range(9):
            await channel.write_many("service", range(1000), confirm="stored")
        turns = 0

        async def run() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.create_task(run())
        assert list(await channel.read("carol", topic="rare")) == []
        assert turns > 0
        await cancelled(running)
