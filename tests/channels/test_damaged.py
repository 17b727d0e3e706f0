"""Messages that were damaged in the store: never handed out, kept as dead letters, in nobody's way."""

import asyncio
import logging

import pytest

from sssnbus import Bus, BytesContent, Retention, StoreError
from sssnbus.channels.base import Channel
from sssnbus.stores.base import Records
from tests.channels.test_work_queue import counts
from tests.channels.tools import Recorder, cancelled, data

pytestmark = pytest.mark.usefixtures("caplog")


async def damage(bus: Bus, channel: Channel, count: int = 1) -> None:
    """Store messages whose checksum is wrong, behind the channel's back."""
    await channel.start()
    drafts = [channel._drafter.draft("service", "damaged", {}) for _ in range(count)]
    await (await bus.store()).append([draft._replace(crc=draft.crc ^ 1) for draft in drafts])


async def letters(channel: Channel, count: int) -> list[bytes]:
    """Wait for so many dead letters and return their raw contents."""
    async with asyncio.timeout(20):
        while len(found := await channel.dead_letters.list()) < count:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0.001)
    assert all("checksum" in letter.metadata["dead"]["reason"] for letter in found)
    return [letter.content.data for letter in found if isinstance(letter.content, BytesContent)]


async def test_subscriber(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged message reaches no handler, is logged and kept; those after it come."""
    channel, late, live = bus.broadcast("c"), Recorder(), Recorder()
    await channel.write("service", 0)
    await channel.subscribe("live", live)
    with caplog.at_level(logging.ERROR, "sssnbus"):
        await damage(bus, channel)
        await channel.write("service", 2, timeout=10)
        await channel.subscribe("late", late, start="earliest")
        await late.reach(2)
    assert (live.seen, late.seen) == ([2], [0, 2])
    assert set(await letters(channel, 1)) == {b'"damaged"'}
    assert "It is not handed out." in caplog.text


async def test_read(bus: Bus) -> None:
    """A damaged message is left out of what a reader gets, and the reader comes past it."""
    channel = bus.broadcast("c")
    await channel.write("service", 0)
    await damage(bus, channel)
    await channel.write("service", 2)
    assert [data(m) for m in await channel.read("x", limit=2)] == [0, 2]
    assert await channel.read("x") == []


async def test_claim(bus: Bus) -> None:
    """A damaged message of a queue goes to the dead letters, and the next one is handed out instead."""
    queue = bus.work_queue("q")
    await damage(bus, queue, 2)
    await queue.write("service", 1)
    (message,) = await queue.read("w", exclusive=True)
    assert data(message) == 1
    assert await letters(queue, 2) == [b'"damaged"'] * 2
    assert (await counts(queue))[2] == 1


async def test_cancelled_between_good_and_damaged(bus: Bus) -> None:
    """A claim cancelled while it puts a damaged message away strands none of the good ones."""
    queue = bus.work_queue("q")
    for step in range(40):
        await queue.clear()
        await queue.write("service", 0)
        await damage(bus, queue)
        await queue.write("service", 2)
        task = asyncio.ensure_future(queue.read("w", limit=3, exclusive=True))
        for _ in range(step):
            await asyncio.sleep(0)
        await cancelled(task)
        if task.cancelled():
            assert (await counts(queue))[2] == 0
        else:
            await queue.acknowledge("w", [message.id for message in task.result()])


DAMAGE = [b"", b"\xff", b"{", b"7", b"[]", b'{"position": "x"}', b'{"max_count": -1}', b'{"max_age": "1"}']


@pytest.mark.parametrize("value", DAMAGE)
async def test_damaged_places(bus: Bus, value: bytes) -> None:
    """A place that cannot be read is an error that names it and says what to do; then it can be given up."""
    channel, store = bus.broadcast("events"), await bus.store()
    assert isinstance(store, Records)
    await channel.write("service", 1)
    await store.put("subscription:events", "a", value, version=None)
    for asked in (channel.subscribe("a", Recorder(), durable=True), channel.subscriptions()):
        with pytest.raises(StoreError, match=r"durable subscription 'a' .* 'events' .*forget\('a'\)"):
            await asked
    assert await channel.forget("a")
    recorder = Recorder()
    await channel.subscribe("a", recorder, start="earliest", durable=True)
    await recorder.reach(1)
    if value != b"7":
        await store.put("reader:events", "r", value, version=None)
        with pytest.raises(StoreError, match=r"durable reader 'r' .* 'events' .*another name"):
            await channel.read("r", durable=True)
    assert [data(message) for message in await channel.read("s", durable=True)] == [1]


@pytest.mark.parametrize("value", DAMAGE)
async def test_damaged_settings(bus: Bus, value: bytes) -> None:
    """A setting that cannot be read is an error of who relies on it, and can be given anew."""
    store = await bus.store()
    assert isinstance(store, Records)
    await store.put("channel:events", "retention", value, version=None)
    with pytest.raises(StoreError, match=r"'retention' of channel 'events' .* Give it anew"):
        await bus.broadcast("events").start()
    if value != b"7":
        await store.put("channel:jobs", "max_deliveries", value, version=None)
        with pytest.raises(StoreError, match=r"'max_deliveries' of channel 'jobs' .* Give it anew"):
            await bus.work_queue("jobs").start()
    async with Bus(store) as other:
        await other.broadcast("events", retention=Retention(max_count=9)).write("service", 1)
        await other.work_queue("jobs", max_deliveries=2).write("service", 1)
    await bus.broadcast("events").write("service", 2)
