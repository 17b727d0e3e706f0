"""What the tests of reads by topics share: a log with a rare topic in it, and reading on to its end."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from itertools import count, islice

from sssnbus import BroadcastChannel, Bus
from sssnbus.stored import Draft
from sssnbus.stores.base import Catalogue, Kind, LogStore
from sssnbus.testing.bench import draft
from sssnbus.topics import Pattern

RARE = [Pattern.parse("rare.>")]


async def fill(store: LogStore, total: int, size: int = 10, log: str = "topics") -> list[int]:
    """Put messages of so many bytes into a log; return where those of the rare topic are: four of them."""
    assert isinstance(store, Catalogue)
    await store.declare(log, Kind.LOG)
    rare = {3, total // 2, total // 2 + 1, total}

    def one(sequence: int) -> Draft:
        return draft(log, body=b"x" * size, topic="rare.one" if sequence in rare else f"often.{sequence % 5}")

    for start in range(1, total + 1, 100):
        await store.append([one(n) for n in range(start, min(start + 100, total + 1))])
    return sorted(rare)


async def reads(
    store: LogStore, topics: list[Pattern], limit: int = 100, log: str = "topics"
) -> tuple[list[int], int]:
    """Return the sequences of what matches, read on to the end, and how many pages that took."""
    found: list[int] = []
    after = pages = 0
    while True:
        page = await store.read(log, after=after, limit=limit, topics=topics)
        assert len(page.messages) <= limit
        found += [stored.sequence for stored in page.messages]
        pages += 1
        if page.reach >= page.last:
            return found, pages
        assert page.reach > after
        after = page.reach


async def join_by_topic(here: Bus, there: Bus, rounds: int) -> None:
    """Join with a pattern while others write, over and over, and compare what came with what was written."""
    chance = random.Random(rounds)
    for number in range(rounds):
        ours, theirs = here.broadcast(f"topics-{number}"), there.broadcast(f"topics-{number}")
        await ours.write_many("w", range(-7, 0), topic="other.one")
        numbers, wanted = count(), list[object]()
        await _write((ours, theirs), chance, chance.randint(0, 12), numbers, wanted)
        more = _write((ours, theirs), chance, chance.randint(3, 12), numbers, wanted)
        writing = asyncio.ensure_future(more)
        for _ in range(chance.randint(0, 8)):
            await asyncio.sleep(0)
        seen: list[object] = []
        async with ours.subscribe("s", start="earliest", topic="even.>", buffer=3) as subscription:
            await writing
            await _write((ours, theirs), chance, 2, numbers, wanted)
            # Ends with one that is wanted, so that nothing that comes too often can hide behind it.
            await theirs.write("w", "end", topic="even.end")
            async with asyncio.timeout(20):
                while "end" not in seen:
                    seen.append((await anext(subscription)).content.data)
        assert seen == [*wanted, "end"], number


async def _write(
    channels: Sequence[BroadcastChannel],
    chance: random.Random,
    amount: int,
    numbers: Iterator[int],
    wanted: list[object],
) -> None:
    for number in islice(numbers, amount):
        topic = chance.choice(["even.x", "even.y.z", "odd", None])
        await chance.choice(channels).write("w", number, topic=topic, confirm="stored")
        if topic is not None and topic.startswith("even"):
            wanted.append(number)
