"""What a bus and its channels can do beside writing and handling, over a store on Redis."""

import asyncio
from contextlib import aclosing

import pytest

from sssnbus import Bus, ChannelMessage
from sssnbus.errors import ClaimLost, MessageConflict
from tests.stores.redis.tools import client


def values(messages: list[ChannelMessage]) -> list[object]:
    """Return what messages say."""
    return [message.content.data for message in messages]


async def test_selecting(url: str) -> None:
    """Peek, read and move take ids and intervals of ids; what was done is kept until vacuum."""
    async with Bus(url) as bus:
        jobs = bus.work_queue("jobs", keep_done=True)
        ids = [str(await jobs.write("me", number)) for number in range(8)]
        assert values(await jobs.peek(9, after=ids[1], before=ids[4])) == [2, 3]
        assert values(await jobs.peek(9, ids=[ids[5], ids[0], "unknown"])) == [0, 5]
        taken = await jobs.read("w", exclusive=True, limit=9, after=ids[5])
        assert values(taken) == [6, 7]
        await jobs.acknowledge("w", [message.id for message in taken])
        assert values(await jobs.move("other", ids=[ids[7], ids[0]])) == [0]
        assert values(await jobs.move("other", limit=2, before=ids[2])) == [1]
        assert values(await jobs.move("other", limit=9, ids=[ids[7], ids[6]])) == [6, 7]
        assert values(await bus.work_queue("other").peek(9)) == [0, 1, 6, 7]
        taken = await jobs.read("w", exclusive=True, limit=9)
        await jobs.acknowledge("w", [message.id for message in taken])
        assert (await jobs.statistics()).done == 4
        assert await jobs.vacuum() == 4
        assert await bus.vacuum(compact=True) == 0


async def test_moving_what_is_there(url: str) -> None:
    """A move that meets other content under one of its ids moves nothing."""
    async with Bus(url) as bus:
        jobs, other = bus.work_queue("jobs"), bus.work_queue("other")
        await jobs.write_many("me", [1, 2])
        await jobs.write("me", "mine", id="x")
        await other.write("me", "theirs", id="x")
        with pytest.raises(MessageConflict):
            await jobs.move("other", limit=9)
        assert values(await jobs.peek(9)) == [1, 2, "mine"]
        assert values(await other.peek(9)) == ["theirs"]


async def test_hold_and_resume(url: str) -> None:
    """A claim that is held by its token is taken up by another process's bus, once."""
    async with Bus(url) as one:
        queue = one.work_queue("jobs")
        await queue.write("me", 1)
        held = await queue.hold("w", 60)
        assert held is not None
        id, token = held.message.id, held.token
    async with Bus(url) as two:
        queue = two.work_queue("jobs")
        assert await queue.peek(9) == []
        claim = await queue.resume(id, token)
        assert (claim.message.content.data, claim.attempt) == (1, 1)
        assert 0 < claim.deadline - two.clock.elapsed() <= 60
        await claim.nack(delay=60)
        with pytest.raises(ClaimLost):
            await queue.resume(id, token)
        (info,) = await two.channels()
        assert (info.name, info.delayed) == ("jobs", 1)


async def test_observing(url: str) -> None:
    """An observer sees a queue's messages, also those that another bus writes, and takes none."""
    async with Bus(url) as one, Bus(f"{url}&poll_interval=60") as two:
        await one.work_queue("jobs").write_many("me", [1, 2])
        seen = []
        async with asyncio.timeout(20), aclosing(two.work_queue("jobs").observe()) as messages:
            async for message in messages:
                seen.append(message.content.data)
                if len(seen) == 2:
                    await one.work_queue("jobs").write("me", 3)
                if len(seen) == 3:
                    break
        assert seen == [1, 2, 3]
        assert len(await one.work_queue("jobs").peek(9)) == 3


async def test_the_whole_store(url: str) -> None:
    """A bus lists channels, subscriptions and what the store takes up, and deletes a channel whole."""
    async with Bus(url) as bus:
        empty = await bus.usage()
        receipts = await bus.write_to(["a", "b"], "me", "x" * 10_000)
        events = bus.broadcast("events")
        async with events.subscribe("mail", durable=True, start="earliest"):
            await events.write("me", 1)
        assert [(c.name, c.ready) for c in await bus.channels()] == [("a", 1), ("b", 1), ("events", 0)]
        assert [(s.channel, s.name) for s in await bus.subscriptions()] == [("events", "mail")]
        usage = await bus.usage()
        assert usage.size - empty.size > 20_000
        assert usage.last_id is not None
        assert usage.last_id >= max(receipts)
        for name in ("a", "b", "events"):
            assert await bus.delete(name)
        assert not await bus.delete("a")
        assert (await bus.channels(), await bus.subscriptions()) == ([], [])
    place = url.partition("prefix=")[2]
    async with client(int(url.rpartition(":")[2].partition("/")[0])) as plain:
        assert await plain.keys(f"{{{place}}}:[mijrdzefk]:*") == []
