"""Compacting the file, what it takes up, and what damage leaves of a queue."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from sssnbus.errors import StoreError, StoreReplaced, StoreTimeout
from sssnbus.stores.base import Ack, Counts, Selection
from sssnbus.stores.sqlite import SQLiteStore, sql
from tests.stores.sqlite.test_writer import HOLD_TICKET
from tests.stores.sqlite.tools import draft, opened, program


async def fill(store: SQLiteStore, count: int = 60) -> None:
    """Let a queue hold as many large messages that are done, and one that is not."""
    await store.append([draft(body=b"x" * 20_000) for _ in range(count)])
    leases = (await store.claim("jobs", worker="w", lease=60, limit=count)).leases
    acks = [Ack(lease.stored.sequence, lease.token, keep=True) for lease in leases]
    assert await store.settle("jobs", acks) == [True] * count
    await store.append([draft(body=b"kept")])


def size_of(path: Path) -> int:
    """Return what the files of a database take up together."""
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))


async def test_compacting_shrinks_the_file(path: Path) -> None:
    """Vacuum alone leaves the file as large as it was; compacting gives the room back (SB-038)."""
    async with opened(path) as store:
        await fill(store)
        assert await store.vacuum() == 60
        before = await store.usage()
        assert before.size > 1_000_000
        assert await store.vacuum(compact=True) == 0
        assert (await store.usage()).size < 200_000
        assert size_of(path) < 300_000
        assert (await store.usage()).last_id == before.last_id
        assert [s.body for s in await store.peek("jobs", limit=9)] == [b"kept"]
        await store.append([draft(body=b"more")])
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA application_id").fetchone() == (0x5353534E,)
    connection.close()


async def test_compacting_under_others(path: Path) -> None:
    """Others write and hold leases while the file is compacted, and nothing of theirs is lost."""
    async with opened(path, durability="process") as store, opened(path, durability="process") as other:
        await fill(store)
        written = 0
        vacuuming = asyncio.ensure_future(store.vacuum(compact=True))
        while not vacuuming.done():
            await other.append([draft(body=b"new")])
            await store.append([draft(body=b"own")])
            written += 2
        assert await vacuuming == 60
        for each in (store, other):
            await each.append([draft()])
        assert (await other.counts("jobs")).ready == written + 3
        assert written


async def test_a_reader_keeps_the_file(path: Path) -> None:
    """Somebody who reads the old state goes on reading it; the file shrinks without him noticing."""
    async with opened(path) as store:
        await fill(store)
        script = """
        import sqlite3
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN")
        print(connection.execute("SELECT count(*) FROM message").fetchone()[0], flush=True)
        sys.stdin.readline()
        print(connection.execute("SELECT count(*) FROM message").fetchone()[0], flush=True)
        """
        with program(path, script) as reader:
            assert await asyncio.to_thread(reader.line) == "61"
            assert await store.vacuum(compact=True) == 60
            assert (await store.usage()).size < 200_000
            reader.say("go on")
            assert await asyncio.to_thread(reader.line) == "61"
            await asyncio.to_thread(reader.finish)
        await store.append([draft(body=b"more")])
        assert [s.body for s in await store.peek("jobs", limit=9)] == [b"kept", b"more"]


async def test_cancelled_compacting(path: Path) -> None:
    """Compacting that is cancelled is over before the cancellation leaves, and the store goes on."""
    async with opened(path, durability="process") as store:
        for step in range(8):
            await fill(store, 5)
            task = asyncio.ensure_future(store.vacuum(compact=True))
            for _ in range(step * step):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await store.vacuum()
            assert await store.counts("jobs") == Counts(ready=1)
            await store.remove("jobs", [s.id for s in await store.peek("jobs", limit=9)])


async def test_a_swapped_file_is_not_compacted(path: Path) -> None:
    """A file that was put in the place of ours is left as it is."""
    async with opened(path) as store:
        await fill(store, 3)
        await store.vacuum()
        await asyncio.to_thread(path.rename, path.with_name("moved"))
        await asyncio.to_thread(path.write_bytes, b"something else")
        with pytest.raises(StoreReplaced):
            await store.vacuum(compact=True)
        assert await asyncio.to_thread(path.read_bytes) == b"something else"


def destroy(path: Path, count: int) -> None:
    """Take messages away, as damage might, but not what the queue knows of them."""
    with sqlite3.connect(path) as connection:
        connection.execute(f"DELETE FROM message WHERE position IN (SELECT position FROM job LIMIT {count})")
    connection.close()


async def test_destroyed_messages_block_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A message of which only its state is left is taken out, aloud, and the queue goes on."""
    async with opened(path) as store:
        await store.append([draft(body=b"%d" % n, key="k") for n in range(2)])
        await store.append([draft(body=b"%d" % n) for n in range(2, 5)])
        await asyncio.to_thread(destroy, path, 1)
        (lease,) = (await store.claim("jobs", worker="w", lease=60)).leases
        assert lease.stored.body == b"1", "the next of its key became ready"
        assert "Message 1 of queue 'jobs' was destroyed" in caplog.text
        assert await store.counts("jobs") == Counts(ready=3, leased=1)
        (info,) = await store.logs("jobs")
        assert info.count == 4


async def test_destroyed_messages_are_not_moved(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A move passes over what was destroyed and takes the next."""
    async with opened(path) as store:
        await store.append([draft(body=b"%d" % n, id=f"m{n}") for n in range(4)])
        await asyncio.to_thread(destroy, path, 2)
        moved = await store.transfer("jobs", "events", limit=1)
        assert [s.body for s in moved] == [b"2"] or [s.body for s in moved] == [b"3"]
        assert "was destroyed" in caplog.text
        gone = await store.transfer("jobs", "events", limit=9, select=Selection(ids=("m0", "m1")))
        assert gone == []
        assert [s.body for s in await store.transfer("jobs", "events", limit=9)] in ([b"3"], [b"2"])
        assert await store.counts("jobs") == Counts()


async def test_compacting_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file cannot be written anew, that is told in our words, and the store goes on."""
    async with opened(path) as store:
        await fill(store, 3)
        with monkeypatch.context() as patch:
            patch.setattr(sql, "VACUUM", "SELECT room FROM disk")
            with pytest.raises(StoreError, match="failed"):
                await store.vacuum(compact=True)
        await store.append([draft()])
        assert await store.counts("jobs") == Counts(ready=2)


async def test_compacting_behind_a_stuck_ticket(path: Path) -> None:
    """Compacting that cannot begin is given up in time, or when its task is cancelled, and never begins."""
    begun: list[object] = []
    async with opened(path, write_timeout=0.2) as store, opened(path) as patient:
        with program(path, HOLD_TICKET) as other:
            assert await asyncio.to_thread(other.line) == "held"
            waiting = asyncio.create_task(patient._run_alone("Compacting", lambda *_: begun.append(1)))
            with pytest.raises(StoreTimeout, match="Compacting did not start"):
                await store._run_alone("Compacting", lambda *_: begun.append(2))
            waiting.cancel()
            # Not by a time-out round it: that would cancel it once more.
            await asyncio.wait([waiting], timeout=10)
            assert waiting.cancelled()
        for each in (store, patient):
            await each.append([draft()])
        assert begun == []
        await store.vacuum(compact=True)


async def test_cancelling_what_compacts(path: Path) -> None:
    """Once it has begun it is waited for, however often its task is cancelled."""
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def compact(*_: object) -> None:
        begun.set()
        go_on.wait(10)
        done.set()

    async with opened(path) as store:
        compacting = asyncio.create_task(store._run_alone("Compacting", compact))
        assert await asyncio.to_thread(begun.wait, 10)
        for _ in range(2):
            compacting.cancel()
            await asyncio.sleep(0)
        assert not compacting.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await compacting
        assert done.is_set()
