"""What the SQLite store costs over SQLite itself: writes, claims, and reads in long histories.

Every ratio is taken within one run, against plain ``sqlite3`` or aiosqlite doing the same work by hand on a
file with the same schema and settings (WAL, synchronous=FULL).
"""

import asyncio
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiosqlite

from benchmarks.harness import SMOKE, Rows, compare
from sssnbus import Bus, Pattern
from sssnbus.message import encode_content
from sssnbus.stored import checksum
from sssnbus.stores import Kind, SQLiteStore
from sssnbus.testing.bench import draft

DATA = {"type": "user.login", "user": "carol", "attempt": 1}
MANY = 1000


class Files:
    """Fresh files in a folder of their own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sssnbus-bench-"))
        self._count = 0

    def new(self) -> Path:
        """Return the path of a file that is not there yet."""
        self._count += 1
        return self._folder / f"{self._count}.db"

    def remove(self) -> None:
        """Delete them all."""
        shutil.rmtree(self._folder, ignore_errors=True)


def template(path: Path) -> None:
    """Make a file with our schema, one channel in it, and nobody using it."""

    async def make() -> None:
        async with Bus(path) as bus:
            await bus.broadcast("events").read("nobody")

    asyncio.run(make())


def raw_rows(start: int, count: int) -> list[tuple[object, ...]]:
    """Return rows as our own writes leave them, encoded just once."""
    kind, body = encode_content(DATA)
    crc = checksum("bench", None, kind, b"", body)
    now = time.time_ns()
    return [
        ((1 << 40) | n, 1, str(now + n), now + n, time.time(), "bench", None, kind, b"", body, crc, 0, None)
        for n in range(start, start + count)
    ]


INSERT = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def raw_many(path: Path, rounds: int) -> float:
    """Insert the same rows with executemany, one transaction each thousand."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA synchronous=FULL")
    batches = [raw_rows(1 + n * MANY, MANY) for n in range(rounds)]
    started = time.perf_counter()
    for rows in batches:
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(INSERT, rows)
        conn.execute("COMMIT")
    elapsed = time.perf_counter() - started
    conn.close()
    return elapsed


async def bare_one_by_one(path: Path, count: int) -> float:
    """Insert row after row through aiosqlite, each in a transaction of its own."""
    async with aiosqlite.connect(path, isolation_level=None) as conn:
        await conn.execute("PRAGMA synchronous=FULL")
        rows = raw_rows(1, count)
        started = time.perf_counter()
        for row in rows:
            await conn.execute(INSERT, row)
        return time.perf_counter() - started


async def write_many(path: Path, rounds: int) -> float:
    """Write a thousand messages at a time."""
    async with Bus(path) as bus:
        events = bus.broadcast("events")
        await events.write_many("bench", [DATA])
        started = time.perf_counter()
        for _ in range(rounds):
            await events.write_many("bench", [DATA] * MANY)
        return time.perf_counter() - started


async def write_concurrently(path: Path, rounds: int) -> float:
    """Write from a thousand tasks at once."""
    async with Bus(path) as bus:
        events = bus.broadcast("events")
        await events.write("bench", DATA)
        started = time.perf_counter()
        for _ in range(rounds):
            await asyncio.gather(*(events.write("bench", DATA) for _ in range(MANY)))
        return time.perf_counter() - started


async def write_one_by_one(path: Path, count: int) -> float:
    """Write message after message."""
    async with Bus(path) as bus:
        events = bus.broadcast("events")
        await events.write("bench", DATA)
        started = time.perf_counter()
        for _ in range(count):
            await events.write("bench", DATA)
        return time.perf_counter() - started


async def fill(path: Path, depth: int, *, queue: bool) -> None:
    """Put so many messages into a file."""
    async with Bus(f"sqlite:///{path}?durability=process") as bus:
        channel = bus.work_queue("jobs") if queue else bus.broadcast("events")
        for start in range(0, depth, 10_000):
            await channel.write_many("bench", [DATA] * min(10_000, depth - start))


async def claim_and_ack(path: Path, count: int, batch: int) -> float:
    """Claim messages and ack them, ``batch`` at a time."""
    async with Bus(path) as bus:
        jobs = bus.work_queue("jobs")
        await jobs.read("w", exclusive=True, limit=1)
        started = time.perf_counter()
        for _ in range(count // batch):
            messages = await jobs.read("w", exclusive=True, limit=batch)
            await jobs.acknowledge("w", [message.id for message in messages])
        return time.perf_counter() - started


async def read_after(path: Path, reads: int, history: int) -> float:
    """Read a hundred messages after a place in the middle."""
    async with Bus(path) as bus:
        events = bus.broadcast("events")
        await events.read("r", limit=100)
        started = time.perf_counter()
        for n in range(reads):
            await events.read("r", limit=100, after=history // 2 - 100 + n % 50)
        return time.perf_counter() - started


async def fill_topics(path: Path, count: int) -> None:
    """Put so many messages into a file, of which one in a hundred is on a topic of its own."""
    store = SQLiteStore(path, durability="process")
    await store.open()
    await store.declare("events", Kind.LOG)
    for start in range(0, count, MANY):
        topics = ("rare.one" if n % 100 == 0 else f"often.{n % 7}" for n in range(start, start + MANY))
        await store.append([draft("events", DATA, topic=topic) for topic in topics])
    await store.aclose()


async def catch_up(path: Path, history: int, topics: list[Pattern]) -> float:
    """Read the messages of a rare topic out of a history; without patterns, read all of it for them."""
    rare = Pattern.parse("rare.*")
    store = SQLiteStore(path)
    await store.open()
    started = time.perf_counter()
    after = found = 0
    while after < history:
        page = await store.read("events", after=after, limit=256, topics=topics)
        after = page.reach
        found += sum(rare.matches(stored.topic or "") for stored in page.messages)
    elapsed = time.perf_counter() - started
    assert found == history // 100
    await store.aclose()
    return elapsed


def prepared(files: Files, run: Callable[[Path], Any], seed: Path | None = None) -> Callable[[], float]:
    """Return a contender that gets a file of its own each time."""

    def go() -> float:
        path = files.new()
        if seed is not None:
            shutil.copy(seed, path)
        outcome = run(path)
        elapsed: float = asyncio.run(outcome) if isinstance(outcome, Coroutine) else outcome
        path.unlink()
        return elapsed

    return go


def writes(files: Files, rows: Rows) -> None:
    """Compare the three ways of writing with the raw ones."""
    seed = files.new()
    template(seed)
    many = {
        "raw executemany": prepared(files, lambda p: raw_many(p, 5), seed),
        "write_many of 1,000": prepared(files, lambda p: write_many(p, 5), seed),
        "1,000 concurrent writes": prepared(files, lambda p: write_concurrently(p, 5), seed),
    }
    rows.add("rows/s, 1,000 a transaction", compare(many, 5 * MANY))
    single = {
        "bare aiosqlite": prepared(files, lambda p: bare_one_by_one(p, 500), seed),
        "write": prepared(files, lambda p: write_one_by_one(p, 500), seed),
    }
    rows.add("rows/s, one a transaction", compare(single, 500))


def depths(files: Files, rows: Rows, deep: int) -> None:
    """Compare a queue of a thousand with a deep one, and a short history with a long one."""
    shallow_queue, deep_queue, short, long = (files.new() for _ in range(4))
    for path, depth, queue in (
        (shallow_queue, MANY, True),
        (deep_queue, deep, True),
        (short, MANY, False),
        (long, deep, False),
    ):
        asyncio.run(fill(path, depth, queue=queue))
    cases = {
        f"depth {MANY:,}": prepared(files, lambda p: claim_and_ack(p, 300, 1), shallow_queue),
        f"depth {deep:,}": prepared(files, lambda p: claim_and_ack(p, 300, 1), deep_queue),
    }
    rows.add("claim + ack/s, one at a time", compare(cases, 300, rounds=1 if SMOKE else 5))
    cases = {
        f"depth {MANY:,}": prepared(files, lambda p: claim_and_ack(p, 900, 100), shallow_queue),
        f"depth {deep:,}": prepared(files, lambda p: claim_and_ack(p, 900, 100), deep_queue),
    }
    rows.add("claim + ack/s, 100 at a time", compare(cases, 900, rounds=1 if SMOKE else 5))
    cases = {
        f"history {MANY:,}": prepared(files, lambda p: read_after(p, 200, MANY), short),
        f"history {deep:,}": prepared(files, lambda p: read_after(p, 200, deep), long),
    }
    rows.add("reads/s of 100 after a cursor", compare(cases, 200, rounds=1 if SMOKE else 5))


def topics(files: Files, rows: Rows, history: int) -> None:
    """Compare reading all with leaving it to the store to choose one in a hundred."""
    seed = files.new()
    asyncio.run(fill_topics(seed, history))
    cases = {
        "all read, chosen here": prepared(files, lambda p: catch_up(p, history, []), seed),
        "chosen by the store": prepared(
            files, lambda p: catch_up(p, history, [Pattern.parse("rare.*")]), seed
        ),
    }
    rows.add("history/s, 1 in 100 wanted", compare(cases, history, rounds=1 if SMOKE else 5))


def main() -> None:
    """Print the table; ``--depth N`` sets how deep the deep queue is (1,000,000)."""
    deep = (
        int(sys.argv[sys.argv.index("--depth") + 1])
        if "--depth" in sys.argv
        else 2_000
        if SMOKE
        else 1_000_000
    )
    files, rows = Files(), Rows("SQLite store, synchronous=FULL")
    try:
        writes(files, rows)
        depths(files, rows, deep)
        topics(files, rows, 2_000 if SMOKE else 100_000)
    finally:
        files.remove()
    rows.print()


if __name__ == "__main__":
    main()
