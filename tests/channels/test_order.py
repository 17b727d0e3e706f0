"""One order of a channel's messages, the same for everybody."""

import asyncio
import random

from sssnbus import Bus, ChannelMessage
from sssnbus.stores import SQLiteStore
from sssnbus.testing import ManualClock
from tests.channels.tools import Recorder, data, until


async def test_commit_order_for_every_subscriber(bus: Bus) -> None:
    """Every subscriber sees the commit order, however many write at once (BV-19, SN-16)."""
    channel, recorders = bus.broadcast("events"), [Recorder() for _ in range(3)]
    for n, recorder in enumerate(recorders):
        await channel.subscribe(f"s{n}", recorder)

    async def write(who: int) -> None:
        for n in range(25):
            await channel.write(f"w{who}", (who * 100) + n, confirm="stored" if n % 3 else "delivered")

    await asyncio.gather(*(write(who) for who in range(4)))
    for recorder in recorders:
        await recorder.reach(100)
        assert [m.sequence for m in recorder.messages] == list(range(1, 101))
    assert recorders[0].seen == recorders[1].seen == recorders[2].seen
    for who in range(4):
        own = [value for value in recorders[0].seen if value // 100 == who]
        assert own == sorted(own)


async def test_commit_order_between_handles(file_url: str) -> None:
    """Subscribers of two processes' handles see one and the same order, gapless (BV-04, BV-28)."""
    async with Bus(file_url) as one, Bus(file_url) as two:
        channels = [one.broadcast("events"), two.broadcast("events")]
        recorders = [Recorder() for _ in channels]
        for channel, recorder in zip(channels, recorders, strict=True):
            await channel.subscribe("s", recorder)

        async def write(who: int) -> None:
            for n in range(50):
                await channels[who].write("w", (who * 100) + n)

        await asyncio.gather(write(0), write(1))
        for recorder in recorders:
            await recorder.reach(100)
        assert recorders[0].seen == recorders[1].seen
        assert [m.sequence for m in recorders[0].messages] == list(range(1, 101))


async def test_own_message_waits_for_those_before(file_url: str) -> None:
    """When write returns, callbacks have the message, and what others wrote before it (SN-15)."""
    async with Bus(file_url) as one, Bus(file_url) as two:
        recorder = Recorder()
        await one.broadcast("events").subscribe("s", recorder)
        for n in range(0, 40, 2):
            await two.broadcast("events").write("w", n)
            await one.broadcast("events").write("w", n + 1)
            assert recorder.seen == list(range(n + 2))


async def test_order_through_catch_up(bus: Bus) -> None:
    """A subscriber that falls behind and catches up, again and again, sees every message in order."""
    channel, seen, turn = bus.broadcast("events"), list[int](), asyncio.Semaphore(0)

    async def handler(message: ChannelMessage) -> None:
        await turn.acquire()
        seen.append(data(message))

    await channel.subscribe("s", handler, buffer=4)
    chance = random.Random(7)
    for n in range(300):
        await channel.write("w", n, confirm="stored")
        for _ in range(chance.choice([0, 0, 0, 0, 6])):
            turn.release()
    for _ in range(300):
        turn.release()
    await until(lambda: len(seen) == 300)
    assert seen == list(range(300))


async def test_clock_steps_back(file_url: str) -> None:
    """Neither order nor ids follow a clock that steps back; nothing is missed (SN-26)."""
    clock = ManualClock()
    path = file_url.removeprefix("sqlite:///").partition("?")[0]
    store = SQLiteStore(path, durability="process", clock=clock)
    async with Bus(store, clock=clock) as bus:
        channel, recorder = bus.broadcast("events"), Recorder()
        await channel.subscribe("s", recorder)
        ids = [await channel.write("w", 0)]
        clock.set_time(clock.time() - 3600)
        ids.append(await channel.write("w", 1))
        assert recorder.seen == [0, 1]
        assert ids == sorted(ids)
        assert [data(m) for m in await channel.read("x", after=ids[0])] == [1]
    await store.aclose()
