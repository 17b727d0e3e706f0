"""Joining a channel while others write to it: no gap, no double."""

import asyncio
import random

import pytest

from sssnbus import BroadcastChannel, Bus, Subscription
from tests.channels.tools import Recorder, data

WAYS = ("earliest", "sequence", "id", "read-then-subscribe")


async def begin(
    channel: BroadcastChannel, way: str, name: str, recorder: Recorder | None, ids: list[str]
) -> tuple[list[int], Subscription]:
    """Subscribe in one of the ways; return what was read before, and the subscription."""
    if way == "read-then-subscribe":
        before = [data(m) for m in await channel.read(name, limit=7)]
        return before, channel.subscribe(name, recorder, buffer=5)
    starts: dict[str, str | int] = {"earliest": "earliest", "sequence": 1, "id": ids[0]}
    return [], channel.subscribe(name, recorder, start=starts[way], buffer=5)


async def join_under_fire(bus: Bus, way: str, rounds: int) -> None:
    """Write and join at the same time, over and over, and compare what came with what was written."""
    chance = random.Random(way)
    for number in range(rounds):
        channel = bus.broadcast(f"events-{number}")
        ids = [str(await channel.write("w", 0))]
        total = chance.randint(3, 12)

        async def write(channel: BroadcastChannel, first: int, last: int, pace: int, burst: int) -> None:
            for n in range(first, last, burst):
                await channel.write_many("w", range(n, min(n + burst, last)), confirm="stored")
                for _ in range(pace):
                    await asyncio.sleep(0)

        writing = asyncio.ensure_future(write(channel, 1, total, chance.randint(0, 3), chance.randint(1, 4)))
        for _ in range(chance.randint(0, 12)):
            await asyncio.sleep(0)
        if number % 2:
            recorder = Recorder()
            seen, subscription = await begin(channel, way, "s", recorder, ids)
            async with subscription:
                await writing
                await recorder.reach(total - len(seen))
            seen += recorder.seen
        else:
            seen, subscription = await begin(channel, way, "s", None, ids)
            async with subscription:
                while len(seen) < total:
                    seen.append(data(await anext(subscription)))
                await writing
                assert await subscription.lag() == 0
        assert seen == list(range(total)), (way, number)
        await channel.stop()


@pytest.mark.parametrize("way", WAYS)
async def test_memory(way: str) -> None:
    """Whoever joins while messages are written gets each of them once, in order (SN-28)."""
    async with Bus() as bus:
        await join_under_fire(bus, way, 200)


@pytest.mark.parametrize("way", WAYS)
async def test_sqlite(file_url: str, way: str) -> None:
    """The same on the file (SN-28)."""
    async with Bus(file_url) as bus:
        await join_under_fire(bus, way, 50)


@pytest.mark.parametrize("way", WAYS)
async def test_written_elsewhere(file_url: str, way: str) -> None:
    """The same when another process's handle writes (SN-28, BV-04)."""
    chance = random.Random(way)
    async with Bus(file_url) as bus, Bus(file_url) as other:
        for number in range(10):
            channel, elsewhere = bus.broadcast(f"e{number}"), other.broadcast(f"e{number}")
            ids = [str(await elsewhere.write("w", 0))]
            total = chance.randint(5, 15)

            async def write(elsewhere: BroadcastChannel, total: int) -> None:
                for n in range(1, total):
                    await elsewhere.write("w", n)

            writing = asyncio.ensure_future(write(elsewhere, total))
            for _ in range(chance.randint(0, 5)):
                await channel.read("somebody")
            recorder = Recorder()
            seen, subscription = await begin(channel, way, "s", recorder, ids)
            async with subscription:
                await writing
                await recorder.reach(total - len(seen))
            assert seen + recorder.seen == list(range(total)), (way, number)
