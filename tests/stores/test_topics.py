"""Reads by topics in memory and on a file: bounded, and nothing else is brought along."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sssnbus import BroadcastChannel, Bus
from sssnbus.stores import MemoryStore, SQLiteStore, Store
from sssnbus.stores.memory import log as memory
from sssnbus.stores.sqlite import select, topic
from sssnbus.testing.bench import AnyStore, draft
from sssnbus.topics import Pattern
from tests.stores.topics import RARE, fill, join_by_topic, reads


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give an open store that looks at 50 messages at most."""
    monkeypatch.setattr(memory, "LOOK", 50)
    monkeypatch.setattr(topic, "LOOK", 50)
    store: Store = MemoryStore()
    if request.param == "sqlite":
        store = SQLiteStore(tmp_path / "x.db", durability="process")
    await store.open()
    yield store
    await store.aclose()


async def test_bounded(store: AnyStore) -> None:
    """One read looks at a bounded number of messages, also if none of them matches."""
    rare = await fill(store, 300)
    assert await reads(store, RARE) == (rare, 6)
    assert await reads(store, [Pattern.parse("nothing")]) == ([], 6)


async def test_holes_are_no_work(store: AnyStore) -> None:
    """What is gone is not looked at: the bound begins with what is there."""
    await fill(store, 300)
    gone = (await store.read("topics", after=20, limit=250)).messages
    await store.remove("topics", [stored.id for stored in gone])
    found, pages = await reads(store, RARE)
    assert found == [3, 300]
    assert pages <= 3
    await store.trim("topics", upto=280)
    assert await reads(store, RARE) == ([300], 1)


async def test_only_what_matches_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine passes over what does not match; its bodies are never touched."""
    fetched: list[int] = []
    rows = select.stored_rows

    def counted(*args: Any) -> Any:
        found = rows(*args)
        fetched.extend(stored.sequence for stored in found)
        return found

    store: Any = SQLiteStore(tmp_path / "x.db", durability="process")
    await store.open()
    rare = await fill(store, 300)
    monkeypatch.setattr(select, "stored_rows", counted)
    native = ["rare.>", "rare.*", "*.one", "rare.one", "*.*.x", "rare.one.*"]
    for count in (1, 2, 3, 6):
        fetched.clear()
        topics = [Pattern.parse(text) for text in native[:count]]
        assert (await reads(store, topics))[0] == rare == fetched
    fetched.clear()
    many = RARE + [Pattern.parse(f"rare.{n}") for n in range(9)]
    assert (await reads(store, many))[0] == rare
    assert len(fetched) == 300
    # A star of the engine also matches dots.
    await store.append([draft("topics", topic="rare.one.more")])
    fetched.clear()
    assert (await reads(store, [Pattern.parse("rare.*"), Pattern.parse("*.one")]))[0] == rare == fetched
    await store.aclose()


async def test_others_run_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long history in which nothing matches does not keep the loop from everybody else."""
    monkeypatch.setattr(memory, "LOOK", 10)
    async with BroadcastChannel(id="events", name="Events") as channel:
        await channel.write_many("w", range(1000), topic="often")
        steps = 0

        async def others() -> None:
            nonlocal steps
            while True:
                await asyncio.sleep(0)
                steps += 1

        task = asyncio.create_task(others())
        async with channel.subscribe("s", start="earliest", topic="rare") as subscription:
            assert await subscription.lag() == 0
        task.cancel()
        assert steps >= 90


@pytest.mark.parametrize("shared", [True, False])
async def test_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    """Who joins with a pattern while others write gets each message that matches once, in order (SN-28)."""
    monkeypatch.setattr(memory, "LOOK", 4)
    monkeypatch.setattr(topic, "LOOK", 4)
    url = f"sqlite:///{tmp_path}/x.db?durability=process" if shared else "memory://"
    async with Bus(url) as here:
        if not shared:
            await join_by_topic(here, here, 100)
            return
        async with Bus(url) as there:
            await join_by_topic(here, there, 20)
