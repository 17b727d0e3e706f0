"""A store on Redis and a file take each other's dumps: the same messages, states, and places of readers."""

import json
from pathlib import Path
from typing import Any

from sssnbus import Bus, ChannelMessage


async def fill(url: str) -> None:
    """Make a store with a queue in every state, a dead letter, and a subscription in the middle."""
    async with Bus(url) as bus:
        jobs = bus.work_queue("jobs", keep_done=True, max_deliveries=2)
        await jobs.write("me", "done")
        await jobs.acknowledge("w", [m.id for m in await jobs.read("w", exclusive=True)])
        await jobs.write("me", "poison")
        for _ in range(2):
            (poison,) = await jobs.read("w", exclusive=True)
            await jobs.nack("w", [poison.id], error="boom", delay=0)
        await jobs.write("me", "failed")
        await jobs.nack("w", [m.id for m in await jobs.read("w", exclusive=True)], error="once", delay=0)
        await jobs.write("me", "head", key="k", priority=3)
        await jobs.write("me", "behind", key="k")
        await jobs.write("me", "later", delay=3600)
        await jobs.hold("w", 60)
        events = bus.broadcast("events")
        for number in range(6):
            await events.write("me", {"n": number}, topic="a.b", id=f"e{number}")
        await events.remove(["e1"])
        async with events.subscribe("mail", durable=True, start="earliest") as subscription:
            for number in (0, 2, 3):
                assert data(await anext(subscription)) == {"n": number}


def data(message: ChannelMessage) -> Any:
    """Return what a message says."""
    return message.content.data


async def carry(source: str, target: str) -> tuple[list[Any], list[Any]]:
    """Load a dump of one store into another; return what each gives as its dump then."""
    async with Bus(source) as one, Bus(target) as two:
        records = [record async for record in one.dump()]
        loaded = await two.load(json.dumps(record) for record in records)
        assert loaded.messages > 0
        again = await two.load(records)
        assert again.messages == 0
        return records[1:], [record async for record in two.dump()][1:]


async def go_on(url: str) -> None:
    """What was carried over works on: the reader where it stopped, the queue with its attempts and keys.

    A lease of the other store counts as given back: its attempt is none.
    """
    async with Bus(url) as bus:
        events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
        await events.write("me", {"n": 6})
        async with events.subscribe("mail", durable=True, start="earliest") as subscription:
            # Asking for the next one confirms the last; number 3 was handed out and left in the middle.
            got = [data(await anext(subscription))["n"] for _ in range(3)]
        assert got == [4, 5, 6]
        (info,) = [info for info in await bus.channels() if info.name == "jobs"]
        assert (info.ready, info.delayed, info.done, info.dead) == (3, 1, 1, 1)
        taken = [await jobs.hold("w", 60) for _ in range(3)]
        assert [(c.message.content.data, c.attempt) for c in taken if c is not None] == [
            ("head", 1),
            ("failed", 2),
        ]


async def test_from_redis_to_a_file(url: str, tmp_path: Path) -> None:
    """A dump of the server loads into a file, which then gives the same dump and works on."""
    await fill(url)
    file = f"sqlite:///{tmp_path}/copy.db"
    before, after = await carry(url, file)
    assert before == after
    await go_on(file)


async def test_from_a_file_to_redis(url: str, tmp_path: Path) -> None:
    """A dump of a file loads into the server, which then gives the same dump and works on."""
    file = f"sqlite:///{tmp_path}/first.db"
    await fill(file)
    before, after = await carry(file, url)
    assert before == after
    await go_on(url)
