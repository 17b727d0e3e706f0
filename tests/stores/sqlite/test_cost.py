# ruff: noqa: ASYNC110  # a thread is waited for that knows no event of the loop
"""What things cost, counted and not timed."""

import ast
import asyncio
import sqlite3
from contextlib import ExitStack
from pathlib import Path

import pytest

from sssnbus.stores.base import Ack
from sssnbus.stores.sqlite import SQLiteStore, keeper, sql
from tests.stores.sqlite.tools import ROOT, draft, opened, program

SCANS = {
    # The catalogue and the spaces of records are read as a whole by their users.
    "LOGS", "NAMES", "SPACES", "DONE_LOG",
    # What is as short as the list of open stores, or of what they hold.
    "OTHER_OWNERS", "NEXT_DROPPED", "END_OWNERS", "END_LEASES", "FREE_OWNED",
}  # fmt: skip
"""Statements that may look at every row of a table or an index."""


def constants() -> dict[str, str]:
    """Return every statement that reads or writes tables, by its name."""
    named = {name: value for name, value in vars(sql).items() if name.isupper()}
    found = {name: value for name, value in named.items() if isinstance(value, str)}
    for name, value in named.items():
        if isinstance(value, dict):
            found |= {f"{name} {count}": text for count, text in value.items()}
    return {name: value for name, value in found.items() if value.startswith(("SELECT", "UPDATE", "DELETE"))}


@pytest.mark.parametrize("name", sorted(constants().keys() - SCANS))
async def test_no_statement_scans(store: SQLiteStore, name: str) -> None:
    """Every statement on the way of a message finds its rows by a key, and needs no sorting."""
    statement = constants()[name]
    explain = sqlite3.connect(":memory:")
    explain.executescript((Path(sql.__file__).with_name("schema.sql")).read_text())
    numbered = max((number for number in range(1, 9) if f"?{number}" in statement), default=0)
    count = numbered or statement.count("?")
    rows = explain.execute("EXPLAIN QUERY PLAN " + statement, [1] * count).fetchall()
    explain.close()
    plan = [row[3] for row in rows]
    assert not [step for step in plan if step.startswith("SCAN") and "CONSTANT" not in step], plan
    assert not [step for step in plan if "TEMP B-TREE" in step and "DISTINCT" not in step], plan


async def test_idle_costs_no_write_and_few_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle store that once claimed writes nothing, and looks at the owners once in each interval."""
    monkeypatch.setattr(keeper, "LOOK_EVERY", 0.05)
    async with opened(path) as store:
        await store.append([draft()])
        (lease,) = (await store.claim("jobs", worker="w", lease=30.0)).leases
        await store.settle("jobs", [Ack(lease.stored.sequence, lease.token)])
        while store._keeper is None or store._keeper._connection is None:
            await asyncio.sleep(0.01)
        seen: list[str] = []
        raw = store._keeper._connection
        raw.set_trace_callback(seen.append)
        version = raw.execute("PRAGMA data_version").fetchone()
        while len(seen) < 6:
            await asyncio.sleep(0.01)
        assert len(set(seen[1:])) == 1
        assert "FROM owner" in seen[1]
        assert raw.execute("PRAGMA data_version").fetchone() == version


async def test_a_claim_that_finds_nothing_writes_nothing(store: SQLiteStore) -> None:
    """A waiting worker that looks in vain leaves the file as it is."""
    raw = store._connection.raw
    before = raw.total_changes
    for _ in range(5):
        assert (await store.claim("jobs", worker="w", lease=30.0)).leases == []
    assert raw.total_changes == before


async def test_a_paused_reader_pins_nothing(store: SQLiteStore) -> None:
    """No read leaves a transaction or a cursor open that would make the WAL grow."""
    await store.append([draft("events", b"x" * 1000) for _ in range(100)])
    await store.read("events", after=0, limit=1)
    await store.counts("jobs")
    await store.read("unknown", after=0, limit=1)
    assert not store._reader.in_transaction
    # Truncating is refused as long as anybody reads.
    assert store._connection.raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


def test_statements_are_fixed_text() -> None:
    """No statement is put together at run time: what is executed is a constant."""
    for module in sorted((ROOT / "sssnbus/stores/sqlite").glob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in ("execute", "executemany") and node.args:
                first = node.args[0]
                fixed = isinstance(first, ast.Constant | ast.Attribute | ast.Name | ast.Subscript)
                assert fixed, f"{module.name}:{node.lineno}"


WRITER = """
    import time
    async def main():
        store = SQLiteStore(path)
        await store.open()
        print("ready", flush=True)
        sys.stdin.readline()
        end, count, worst = time.perf_counter() + 4.0, 0, 0.0
        while (start := time.perf_counter()) < end:
            await store.append([draft("events", b"x" * 100)])
            worst = max(worst, time.perf_counter() - start)
            count += 1
        print(count, worst, os.stat(path + "-wal").st_size)
        await store.aclose()
    asyncio.run(main())
"""


@pytest.mark.torture
async def test_writers_take_turns(path: Path) -> None:
    """Of eight processes that write as fast as they can none starves, and the WAL stays small."""
    async with opened(path) as store:
        with ExitStack() as stack:
            writers = [stack.enter_context(program(path, WRITER)) for _ in range(8)]
            assert [await asyncio.to_thread(writer.line) for writer in writers] == ["ready"] * 8
            for writer in writers:
                writer.say("go")
            ends = [await asyncio.to_thread(writer.finish) for writer in writers]
        counts, worst, sizes = zip(*[map(float, out.split()) for _, out, _ in ends], strict=True)
        assert min(counts) >= 0.5 * sum(counts) / len(counts)
        assert max(worst) < 1.0
        assert max(sizes) < 8e6
        assert await store.last(["events"]) == {"events": sum(counts)}


@pytest.mark.torture
async def test_killed_writers_lose_nothing_acknowledged(path: Path) -> None:
    """Over many kills of a writing process, every message it was told of is there, once and in order."""
    source = """
        async def main():
            store = SQLiteStore(path)
            await store.open()
            while True:
                for place in await store.append([draft("events"), draft("events")]):
                    print(place.id, flush=True)
        asyncio.run(main())
    """
    known: list[str] = []
    async with opened(path) as store:
        for number in range(20):
            with program(path, source) as writer:
                known += [await asyncio.to_thread(writer.line) for _ in range(10 + 7 * number)]
                writer.process.kill()
        found = [m.id for m in (await store.read("events", after=0, limit=100_000)).messages]
    assert [id for id in found if id in set(known)] == known
    assert len(found) == len(set(found))
    assert len(found) % 2 == 0
