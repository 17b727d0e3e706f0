"""Doorbells between processes, and getting by without them."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from sssnbus.errors import StoreError
from sssnbus.stores.base import Ack, News
from sssnbus.stores.sqlite import SQLiteStore
from tests.stores.sqlite.tools import draft, opened, program

WRITER = """
    async def main():
        store = SQLiteStore(path)
        await store.open()
        print("open", flush=True)
        for line in sys.stdin:
            await store.append([draft("events", line.encode())])
            print("written", flush=True)
        await store.aclose()
    asyncio.run(main())
"""


async def listening(store: SQLiteStore) -> asyncio.Event:
    """Return an event that is set when the store rings, once its bell hangs."""
    rung = asyncio.Event()
    store.watch(rung.set)
    await asyncio.wait_for(rung.wait(), 20)
    rung.clear()
    return rung


def folder(store: SQLiteStore) -> Path:
    """Return where the bells of a store hang."""
    return Path(store._bells._directory)


async def test_processes_ring_each_other(store: SQLiteStore, path: Path) -> None:
    """A commit in one process rings the bell of another, time after time."""
    rung = await listening(store)
    with program(path, WRITER) as other:
        assert await asyncio.to_thread(other.line) == "open"
        for number in range(5):
            other.say(f"{number}")
            await asyncio.wait_for(rung.wait(), 20)
            rung.clear()
            await asyncio.to_thread(other.line)
    assert await store.last(["events"]) == {"events": 5}


async def test_stores_of_one_process_ring_each_other(store: SQLiteStore, path: Path) -> None:
    """Another store object is another listener; the writing one is not rung."""
    async with opened(path) as second:
        own, others = await listening(store), await listening(second)
        await store.append([draft("events")])
        await asyncio.wait_for(others.wait(), 20)
        assert not own.is_set()


async def test_what_is_no_news_rings_nobody(store: SQLiteStore, path: Path) -> None:
    """Claims, acks and empty claims ring no bell, so that idle workers do not keep each other awake."""
    async with opened(path) as second:
        await store.append([draft()])
        others = await listening(second)
        (lease,) = (await store.claim("jobs", worker="w", lease=30.0)).leases
        await store.settle("jobs", [Ack(lease.stored.sequence, lease.token)])
        await store.claim("jobs", worker="w", lease=30.0)
        # The bell that follows all of these is the first one.
        assert not others.is_set()
        await store.append([draft()])
        await asyncio.wait_for(others.wait(), 20)


async def test_without_bells_changes_are_seen_by_looking(path: Path) -> None:
    """``doorbells=False`` makes no socket, and ``changed`` tells what others wrote."""
    async with opened(path, doorbells=False, poll_interval=0.1) as store:
        assert store.poll_interval == 0.1
        store.watch(lambda: None)
        await store.changed()
        assert not await store.changed()
        with program(path, WRITER) as other:
            assert await asyncio.to_thread(other.line) == "open"
            await store.changed()
            assert not await store.changed()
            other.say("news")
            await asyncio.to_thread(other.line)
            assert await store.changed()
        assert not folder(store).exists()


async def test_a_watch_ends(store: SQLiteStore, path: Path) -> None:
    """After its end a watcher is not called, others still are."""
    first, second = [], asyncio.Event()
    end = store.watch(lambda: first.append(1))
    rung = await listening(store)
    store.watch(second.set)
    end()
    end()
    before = len(first)
    async with opened(path) as other:
        await other.append([draft("events")])
        await asyncio.wait_for(rung.wait(), 20)
    assert second.is_set()
    assert len(first) == before


async def test_a_link_in_place_of_the_folder_is_not_followed(
    path: Path, tmp_path: Path, runtime: Path
) -> None:
    """Where somebody put a link for the directory no bell hangs and none is rung; writes go on."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (runtime / "sssnbus").symlink_to(elsewhere)
    async with opened(path) as store:
        store.watch(lambda: None)
        await store.append([draft("events")])
        assert list(elsewhere.iterdir()) == []


async def test_an_open_folder_is_not_used(path: Path, runtime: Path) -> None:
    """A directory that others may enter holds no bell."""
    (runtime / "sssnbus").mkdir(mode=0o755)
    async with opened(path) as store:
        store.watch(lambda: None)
        await store.append([draft("events")])
        assert list((runtime / "sssnbus").iterdir()) == []


async def test_dead_bells_are_swept_and_strangers_left(store: SQLiteStore) -> None:
    """Bells of dead processes are removed; files and sockets that are none stay, and no write fails."""
    await listening(store)
    place = folder(store)
    own = {name.name for name in place.iterdir()}
    for number in range(1000):
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        dead.bind(str(place / f"{number:024x}.bell"))
        dead.close()
    strange = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    strange.bind(str(place / "strange"))
    strange.close()
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.bind(str(place / ("a" * 24 + ".bell")))
    (place / ("b" * 24 + ".bell")).write_text("no socket")
    for _ in range(3):
        await store.append([draft("events")])
        # Rung after the answer, so this is done when the thread answers again.
        await store._connection.run(lambda: None)
    assert {name.name for name in place.iterdir()} == own | {
        "strange",
        "a" * 24 + ".bell",
        "b" * 24 + ".bell",
    }
    stream.close()


async def test_a_full_bell_holds_nobody_up(store: SQLiteStore) -> None:
    """A listener that does not listen is rung until its queue is full, and then passed over."""
    await listening(store)
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = folder(store) / ("c" * 24 + ".bell")
    deaf.bind(str(name))
    for _ in range(50):
        await store.append([draft("events")])
    assert name.exists()
    deaf.close()


async def test_a_long_path_is_no_obstacle(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bells ring in directories whose names are too long for a socket address."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    async with opened(path) as store, opened(path) as second:
        rung = await listening(second)
        await store.append([draft("events")])
        await asyncio.wait_for(rung.wait(), 20)


async def test_closing_takes_the_bell_down(path: Path) -> None:
    """A store that closed leaves neither a socket behind nor, if it was the last, their folder."""
    async with opened(path) as store:
        await listening(store)
        place = folder(store)
        assert len(list(place.iterdir())) == 1
    assert not place.exists()


async def test_a_removed_folder_is_survived(store: SQLiteStore) -> None:
    """When somebody removes the bells, writes and the store go on."""
    await listening(store)
    for name in folder(store).iterdir():
        name.unlink()
    os.rmdir(folder(store))
    await store.append([draft("events")])
    await store.append([draft("events")])


async def test_what_is_rolled_back_is_not_told(path: Path) -> None:
    """A bell never carries a message whose operation was undone."""
    async with opened(path) as store, opened(path) as other:
        await listening(other)
        told: list[News] = []
        heard = asyncio.Event()

        def take(news: News) -> None:
            told.append(news)
            heard.set()

        other.watch(heard.set, take)
        heard.clear()
        trigger = (
            "CREATE TRIGGER poison BEFORE INSERT ON message WHEN instr(new.body, 'poison')"
            " BEGIN SELECT raise(abort, 'no'); END"
        )
        await store._connection.run(lambda: store._connection.raw.execute(trigger).close())
        with pytest.raises(StoreError):
            await store.append([draft("events", body=b'"poison"')])
        (placed,) = await store.append([draft("events")])
        await asyncio.wait_for(heard.wait(), 20)
        assert [stored.id for news in told for stored in news.messages] == [placed.id]
