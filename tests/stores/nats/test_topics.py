"""Reads by topics on NATS: the server finds the messages by their subjects."""

import random
from collections.abc import AsyncIterator

import pytest

from sssnbus import Bus
from sssnbus.stores.base import Kind
from sssnbus.stores.nats import NATSStore, sift
from sssnbus.testing import StoreFactory
from sssnbus.testing.bench import draft
from sssnbus.topics import Pattern
from tests.servers.proxy import Proxy
from tests.stores.nats.places import nats_at, prefix
from tests.stores.topics import RARE, fill, join_by_topic, reads


@pytest.fixture(params=["direct", "leader"])
async def reader(request: pytest.FixtureRequest, place: StoreFactory) -> AsyncIterator[NATSStore]:
    """Give a store that reads as with one server, or as in a cluster, where only the leader is asked."""
    store = place()
    assert isinstance(store, NATSStore)
    await store.open()
    await store.declare("topics", Kind.LOG)
    log = await store._log("topics", store._deadline())
    assert log is not None
    assert log.direct
    log.direct = request.param == "direct"
    yield store
    await store.aclose()


async def test_only_what_matches_travels(address: str) -> None:
    """Bodies of other topics stay on the server."""
    host, _, port = address.rpartition(":")
    name = prefix()
    async with Proxy(host, int(port)) as proxy:
        writer, reader = nats_at(address, name)(), nats_at(f"127.0.0.1:{proxy.port}", name)()
        assert isinstance(writer, NATSStore)
        assert isinstance(reader, NATSStore)
        await writer.open()
        await reader.open()
        rare = await fill(writer, 300, 5_000)
        # What is followed live is another matter.
        assert (await reader.last(["topics"]))["topics"] == 300
        before = proxy.answered
        assert await reads(reader, RARE) == (rare, 1)
        assert proxy.answered - before < 80_000
        await reader.aclose()
        await writer.aclose()


async def test_wherever_matches_stand(reader: NATSStore) -> None:
    """Close together or far apart, on one topic or on many: what is read is what matches."""
    chance = random.Random(5)
    topics: list[str | None] = []
    while len(topics) < 300:
        # Runs of one kind, so that a read changes its ways in between.
        kind = chance.choice(["a.b", "a.c.d", "b", None])
        often = chance.choice([0.02, 0.5, 1.0])
        topics += [kind if chance.random() < often else f"z.{chance.randint(0, 12)}" for _ in range(30)]
    for start in range(0, 300, 100):
        await reader.append([draft("topics", topic=topic) for topic in topics[start : start + 100]])
    many = [f"z.{number}" for number in range(12)]
    for texts in (
        ["a.b"],
        ["a.>"],
        ["a.>", "b"],
        ["*"],
        [">"],
        ["z.1", "z.2", "a.*"],
        many,
        [*many, "a.c.*"],
    ):
        patterns = [Pattern.parse(text) for text in texts]
        expected = [
            number
            for number, topic in enumerate(topics, 1)
            if topic is not None and any(pattern.matches(topic) for pattern in patterns)
        ]
        for limit in (13, 256):
            found, _ = await reads(reader, patterns, limit)
            assert found == expected, (texts, limit)


async def test_bounded(reader: NATSStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read brings so many messages along, also if it can use none of them."""
    monkeypatch.setattr(sift, "LOOK", 50)
    await reader.append([draft("topics") for _ in range(100)])
    rare = [sequence + 100 for sequence in await fill(reader, 100)]
    # Messages without a topic are on the subject of what any topic fits.
    found, pages = await reads(reader, [Pattern.parse(">")])
    assert found == list(range(101, 201))
    assert pages >= 3
    many = [*RARE, *(Pattern.parse(f"x.{number}") for number in range(9))]
    found, pages = await reads(reader, many)
    assert found == rare
    assert pages == 2


async def test_join(address: str) -> None:
    """Who joins with a pattern while others write gets each message that matches once, in order (SN-28)."""
    url = f"nats://{address}?prefix={prefix()}"
    async with Bus(url) as here, Bus(url) as there:
        await join_by_topic(here, there, 10)
