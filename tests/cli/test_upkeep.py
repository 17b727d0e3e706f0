"""``--status``, ``--vacuum`` and ``--cleanup``, and the vacuum that comes by itself."""

import asyncio
import json
from pathlib import Path

import pytest

from sssnbus import Bus, StoreFull
from sssnbus.stores import SQLiteStore
from tests.cli.tools import Run, done


def test_status(cli: Run, tmp_path: Path) -> None:
    """Three numbers, plain or as JSON, in either order of the words (SB-039, SB-040)."""
    code, out, err = cli("--status")
    assert (code, err) == (0, "")
    empty = dict(line.split(": ") for line in out.splitlines())
    assert list(empty) == ["total_messages", "last_timestamp", "db_size"]
    assert (empty["total_messages"], empty["last_timestamp"]) == ("0", "0")
    cli("write", "q", "x")
    cli("write", "r", "x")
    cli("read", "q")
    full = json.loads(cli("--status", "--json").out)
    assert json.loads(cli("--json", "--status").out) == full
    assert list(full) == list(empty)
    assert full["total_messages"] == 2, "what was consumed counts until vacuum"
    assert full["last_timestamp"] > 10**18
    assert full["db_size"] >= int(empty["db_size"])
    cli("delete", "--all")
    later = json.loads(cli("--status", "--json").out)
    assert (later["total_messages"], later["last_timestamp"]) == (0, full["last_timestamp"])


def test_vacuum(cli: Run, tmp_path: Path) -> None:
    """It removes what was consumed, and says how much (SB-037, SB-038, SB-268)."""
    missing = f"Database not found: {tmp_path}/.sssnbus.db\n"
    assert cli("--vacuum") == (0, "", missing)
    assert list(tmp_path.iterdir()) == []
    cli("write", "q", "a")
    cli("write", "q", "b")
    assert cli("--vacuum") == (0, "", "No claimed messages to vacuum\n")
    cli("read", "q")
    code, out, err = cli("--vacuum")
    assert (code, out) == (0, "")
    assert err.startswith("Vacuumed 1 claimed messages")
    assert cli("stats", "q") == done("q: 1\n")
    for words in (["--vacuum", "--compact"], ["--compact", "--vacuum"]):
        assert "compacted" in cli(*words).err
    for words in (["--quiet", "--vacuum"], ["--vacuum", "-q"], ["-q", "--vacuum", "--compact"]):
        assert cli(*words) == done()
    assert cli("read", "q") == done("b\n")


def test_compact_shrinks_the_file(cli: Run, tmp_path: Path) -> None:
    """With ``--compact`` the room goes back to the disk (SB-038)."""
    for _ in range(3):
        cli("write", "q", stdin="x" * 1_000_000)
    cli("read", "q", "--all")
    cli("--vacuum")
    path = tmp_path / ".sssnbus.db"
    before = path.stat().st_size
    assert before > 3_000_000
    assert cli("--vacuum", "--compact").code == 0
    assert path.stat().st_size < before / 5


def test_cleanup(cli: Run, tmp_path: Path) -> None:
    """It deletes the database with all that belongs to it, and nothing else (SB-024, SB-036)."""
    (tmp_path / ".sssnbus.db.mine").write_text("x")
    assert cli("--cleanup") == (0, "", "Database not found, nothing to clean up\n")
    cli("write", "q", "x")
    assert cli("--cleanup", "write", "q", "never") == (
        0,
        "",
        f"Database cleaned up: {tmp_path}/.sssnbus.db\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == [".sssnbus.db.mine"]
    assert cli("read", "q").code == 2
    for words in (["-q", "--cleanup"], ["--cleanup", "--quiet"]):
        assert cli(*words) == done()


def test_cleanup_of_named_files(cli: Run, tmp_path: Path) -> None:
    """It works where ``-d`` and ``-f`` point, and follows a link (SB-036)."""
    (tmp_path / "sub").mkdir()
    for words, path in (
        (["-f", str(tmp_path / "x.db")], tmp_path / "x.db"),
        (["-d", "sub", "-f", "y.db"], tmp_path / "sub" / "y.db"),
    ):
        cli(*words, "write", "q", "x")
        assert cli(*words, "--cleanup") == (0, "", f"Database cleaned up: {path}\n")
        assert not path.exists()
    cli("-f", "real.db", "write", "q", "x")
    (tmp_path / "link.db").symlink_to("real.db")
    assert cli("-f", "link.db", "--cleanup").code == 0
    assert not (tmp_path / "real.db").exists()


def test_cleanup_of_an_empty_file(cli: Run, tmp_path: Path) -> None:
    """An empty file may be anybody's, and is kept (SB-254)."""
    path = tmp_path / "x.db"
    path.touch()
    code, out, err = cli("-f", "x.db", "--cleanup")
    assert (code, out) == (1, "")
    assert "left untouched" in err
    assert path.exists()


def test_cleanup_without_room(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database can be deleted when the disk is too full to open it; what is not ours is kept (SB-024)."""
    (tmp_path / "foreign.db").write_bytes(b"SQLite format 3\0" + bytes(200))
    cli("write", "q", "x")

    async def full(store: SQLiteStore) -> None:
        raise StoreFull(store.url)

    monkeypatch.setattr(SQLiteStore, "open", full)
    assert cli("read", "q").code == 1
    assert cli("-f", "foreign.db", "--cleanup").code == 1
    assert cli("--cleanup").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.db"]


def consume_by_library(folder: Path, count: int) -> None:
    """Leave a queue with so many consumed messages and 200 that are not."""

    async def work() -> None:
        async with Bus(folder / ".sssnbus.db") as bus:
            queue = bus.work_queue("q", keep_done=True)
            await queue.write_many("app", range(count + 200))
            read = await queue.read("w", exclusive=True, limit=count)
            await queue.acknowledge("w", [message.id for message in read])

    asyncio.run(work())


@pytest.mark.parametrize(
    ("count", "env", "vacuumed"),
    [
        (10_500, {}, True),
        (9_000, {}, False),
        (10_500, {"SSSNBUS_AUTO_VACUUM": "0"}, False),
        (10_500, {"SSSNBUS_VACUUM_THRESHOLD": "200"}, False),
        (10_500, {"SSSNBUS_AUTO_VACUUM_INTERVAL": "1000000"}, False),
    ],
)
def test_vacuum_by_itself(cli: Run, tmp_path: Path, count: int, env: dict[str, str], vacuumed: bool) -> None:
    """Consumed messages do not pile up for ever; small queues keep theirs (SB-225, SB-226, SB-268)."""
    consume_by_library(tmp_path, count)
    assert cli("read", "q", "--all", env=env).code == 0
    claimed = json.loads(cli("stats", "q", "--json").out)["claimed"]
    assert claimed < 200 if vacuumed else claimed == count + 200
