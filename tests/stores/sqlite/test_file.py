# ruff: noqa: ASYNC240  # a test may look at files on its own loop
"""The database as a file: how it is made, and what it must not become."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from sssnbus.errors import (
    BusError,
    IncompatibleStore,
    StoreError,
    StoreReadOnly,
    StoreReplaced,
    StoreUnavailable,
)
from sssnbus.stores.base import Kind
from sssnbus.stores.sqlite import SQLiteStore, database
from sssnbus.stores.sqlite.database import VERSION
from tests.stores.sqlite.tools import draft, opened, program


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_files_are_private_under_any_umask(path: Path, umask: str) -> None:
    """Whatever the umask, the database, its WAL, its index and its lock file are 0600, and so is the bell."""
    source = """
        os.umask(int(sys.argv[2], 8))
        async def main():
            store = SQLiteStore(path)
            await store.open()
            store.watch(lambda: None)
            await store.declare("a", Kind.LOG)
            await store.append([draft("a")])
            await store._reader.run(lambda: None)
            for root in os.path.dirname(path), os.environ["XDG_RUNTIME_DIR"]:
                for folder, _, names in os.walk(root):
                    for name in names:
                        mode = os.lstat(os.path.join(folder, name)).st_mode
                        print(oct(mode & 0o777), name.split(".", 1)[1])
            await store.aclose()
        asyncio.run(main())
    """
    with program(path, source, umask) as one:
        code, out, err = one.finish()
    assert (code, err) == (0, "")
    found = {name: mode for mode, name in map(str.split, out.splitlines())}
    assert found == dict.fromkeys(["db", "db-wal", "db-shm", "db.wlock", "bell"], "0o600")


async def test_a_group_may_share_the_files(path: Path) -> None:
    """``mode=0o660`` is what the files get, also under a umask that would take it away."""
    old = os.umask(0o077)
    try:
        async with opened(path, mode=0o660):
            names = [path, Path(f"{path}-wal"), Path(f"{path}.wlock")]
            assert {stat.S_IMODE(name.stat().st_mode) for name in names} == {0o660}
    finally:
        os.umask(old)


async def test_constructing_touches_nothing(path: Path) -> None:
    """A store that was only made has made no file."""
    assert SQLiteStore(path).url == f"sqlite:///{path}"
    assert not path.exists()


async def test_an_empty_file_is_a_new_store(path: Path) -> None:
    """A file without a byte, as ``mktemp`` makes it, becomes a store."""
    path.touch()
    async with opened(path) as store:
        assert (await store.append([draft()]))[0].sequence == 1


async def test_a_link_is_followed_once(path: Path, tmp_path: Path) -> None:
    """A symbolic link leads to one store from both names, and turning it round later changes nothing."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    async with opened(link) as store:
        await store.append([draft()])
        link.unlink()
        link.symlink_to(tmp_path / "elsewhere.db")
        await store.append([draft()])
    async with opened(path) as store:
        assert await store.last(["jobs"]) == {"jobs": 2}
    assert not (tmp_path / "elsewhere.db").exists()


async def test_a_hard_link_is_refused(path: Path, tmp_path: Path) -> None:
    """A file with two names is refused: under each of them SQLite would keep another WAL."""
    async with opened(path):
        pass
    os.link(path, tmp_path / "other.db")
    with pytest.raises(IncompatibleStore, match="hard links"):
        await SQLiteStore(path).open()


def foreign_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.commit()
    connection.close()


def foreign_wal_database(path: Path) -> None:
    """A database of a program that crashed: its rows are still in the WAL."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    for name in (path, Path(f"{path}-wal")):
        shutil.copy(name, f"{name}.copy")
    connection.close()
    os.replace(f"{path}.copy", path)
    os.replace(f"{path}-wal.copy", f"{path}-wal")


def text(path: Path) -> None:
    path.write_text("Dear diary,\n" * 1000)


def short_text(path: Path) -> None:
    path.write_text("x")


def future(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 1397969742")
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("make", [foreign_database, foreign_wal_database, text, short_text, future])
async def test_what_is_not_ours_is_left_untouched(path: Path, make: Callable[[Path], None]) -> None:
    """A file of somebody else, or of a later version, is refused and keeps every byte and its time."""
    make(path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    store = SQLiteStore(path)
    with pytest.raises(IncompatibleStore):
        await store.open()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert not Path(f"{path}.wlock").exists()
    await store.aclose()


async def test_a_folder_is_no_store(tmp_path: Path) -> None:
    """The name of a directory is refused."""
    with pytest.raises(IncompatibleStore):
        await SQLiteStore(tmp_path).open()


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """Without its directory a store cannot be reached, and the error says what is missing."""
    store = SQLiteStore(tmp_path / "no" / "a.db")
    with pytest.raises(StoreUnavailable, match="directory does not exist"):
        await store.open()
    (tmp_path / "no").mkdir()
    await store.open()
    await store.aclose()


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_read_only_is_said_at_open(path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a directory that may not be written is refused when the store opens.

    Root may write anywhere, so the answer of ``os.access`` is made up; what SQLite says is the next test.
    """
    async with opened(path):
        pass
    denied = {"file": str(path), "folder": str(path.parent)}[what]
    monkeypatch.setattr(os, "access", lambda name, mode: str(name) != denied)
    with pytest.raises(StoreReadOnly):
        await SQLiteStore(path).open()


async def test_read_only_is_said_while_open(store: SQLiteStore) -> None:
    """What SQLite refuses as read-only is raised as that, and the store goes on when it may write again."""
    store._connection.raw.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreReadOnly):
        await store.append([draft()])
    store._connection.raw.execute("PRAGMA query_only = OFF")
    assert (await store.append([draft()]))[0].sequence == 1


def delete(path: Path) -> None:
    path.unlink()


def delete_wal(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def replace(path: Path) -> None:
    shutil.copy(path, f"{path}.new")
    os.replace(f"{path}.new", path)


def replace_wal(path: Path) -> None:
    replace(Path(f"{path}-wal"))


def hard_link(path: Path) -> None:
    os.link(path, f"{path}.other")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def empty_wal(path: Path) -> None:
    os.truncate(f"{path}-wal", 0)


HARMS = [delete, delete_wal, replace, replace_wal, hard_link, cut, empty, empty_wal]


@pytest.mark.parametrize("harm", HARMS)
async def test_a_file_that_is_swapped_takes_no_more(path: Path, harm: Callable[[Path], None]) -> None:
    """Once the file under an open store is gone, another, or cut, nothing more is acknowledged."""
    async with opened(path) as store:
        await store.append([draft("events", b"x" * 5000) for _ in range(20)])
        store._connection.raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await store.append([draft("events")])
        # os.truncate opens the file; a store of this process would lose its locks by that.
        with program(
            path, f"from tests.stores.sqlite.test_file import *; {harm.__name__}(Path(path))"
        ) as other:
            assert other.finish()[0] == 0
        for _ in range(2):
            with pytest.raises(StoreReplaced):
                await store.append([draft("events")])


async def test_smaller_files_by_right_are_no_harm(path: Path, store: SQLiteStore) -> None:
    """A checkpoint and a vacuum by another process make files smaller, and the store goes on."""
    await store.append([draft("events", b"x" * 5000) for _ in range(200)])
    store._connection.raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await store.trim("events", upto=200)
    size = path.stat().st_size
    source = """
        import sqlite3
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    """
    with program(path, source) as other:
        assert other.finish()[0] == 0
    assert path.stat().st_size < size
    assert (await store.append([draft("events")]))[0].sequence == 201


async def test_no_open_file_of_ours_is_opened_again(path: Path, store: SQLiteStore) -> None:
    """A second store of one process on one file leaves the first one's locks alone when it closes."""
    async with opened(path) as second:
        await second.append([draft("events")])
    with program(
        path,
        """
        async def main():
            store = SQLiteStore(path)
            await store.open()
            await store.append([draft("events")])
            await store.aclose()
        asyncio.run(main())
        """,
    ) as other:
        assert other.finish()[0] == 0
    await store.append([draft("events")])
    assert len((await store.read("events", after=0, limit=9)).messages) == 3
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM message").fetchone() == (3,)
    connection.close()


async def test_a_full_disk_refuses_and_recovers(store: SQLiteStore) -> None:
    """Without room a write raises, nothing acknowledged is lost, reads go on, and later writes work."""
    await store.append([draft("events", b"kept")])
    raw = store._connection.raw
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.execute(f"PRAGMA max_page_count = {pages + 4}").fetchone()
    big = draft("events", b"x" * 100_000)
    with pytest.raises(StoreError, match="no room") as caught:
        await store.append([big])
    assert isinstance(caught.value, BusError)
    assert caught.value.retryable
    assert not store._connection.in_transaction
    assert [m.body for m in (await store.read("events", after=0, limit=9)).messages] == [b"kept"]
    raw.execute("PRAGMA max_page_count = 1073741823").fetchone()
    assert (await store.append([big]))[0].sequence == 2
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_limit_on_file_sizes_is_a_full_disk(path: Path) -> None:
    """A process that may not let files grow is told so, and goes on when it may."""
    source = """
        import resource, signal
        from sssnbus.errors import StoreFull
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        async def main():
            store = SQLiteStore(path)
            await store.open()
            await store.declare("events", Kind.LOG)
            (placed,) = await store.append([draft("events")])
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            size = os.stat(path + "-wal").st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10_000, hard))
            failed = 0
            for _ in range(5):
                try:
                    await store.append([draft("events", b"x" * 50_000)])
                except StoreFull:
                    failed += 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            (again,) = await store.append([draft("events")])
            print(failed, placed.sequence, again.sequence)
            await store.aclose()
        asyncio.run(main())
    """
    with program(path, source) as one:
        code, out, err = one.finish()
    assert (code, out.strip(), err) == (0, "5 1 2", "")


async def test_many_processes_make_one_store(path: Path) -> None:
    """Processes that create a store at the same moment end up with one schema and no error."""
    source = """
        sys.stdin.readline()
        async def main():
            store = SQLiteStore(path)
            await store.open()
            await store.declare("events", Kind.LOG)
            await store.append([draft("events")])
            await store.aclose()
        asyncio.run(main())
    """
    with ExitStack() as stack:
        programs = [stack.enter_context(program(path, source)) for _ in range(6)]
        for one in programs:
            one.say("go")
        assert [one.finish() for one in programs] == [(0, "", "")] * 6
    async with opened(path) as store:
        assert await store.last(["events"]) == {"events": 6}


async def test_a_kind_is_kept(path: Path) -> None:
    """What was declared and written is there when the file is opened again, ids going on upwards."""
    async with opened(path) as store:
        (first,) = await store.append([draft()])
    async with opened(path) as store:
        assert await store.declare("jobs", Kind.LOG) is Kind.QUEUE
        (second,) = await store.append([draft()])
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.id < second.id


def test_schema_that_is_just_being_made(path: Path) -> None:
    """Who looks at a new file while another process makes the schema sees all of it or nothing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as maker:
        maker.execute("PRAGMA journal_mode = WAL")
        maker.execute("VACUUM")

        class Interrupted(sqlite3.Connection):
            def execute(self, statement: str, *more: Any) -> sqlite3.Cursor:  # as called
                if "user_version" in statement:
                    database._make_schema(maker)
                return super().execute(statement, *more)

        with closing(sqlite3.connect(path, isolation_level=None, factory=Interrupted)) as looking:
            assert database._check_ours(looking, "here") == 0
        assert database._check_ours(maker, "here") == database.VERSION
