"""``sssnbus doctor``: what is well and what is dangerous, and nothing is changed by looking."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sssnbus.stores import Finding, Level, SQLiteStore, examine, register
from sssnbus.stores.memory import MemoryStore
from sssnbus.stores.sqlite import surroundings
from tests.cli.tools import Run, inside, start

NAME = ".sssnbus.db"


def findings(cli: Run, *words: str) -> dict[str, dict[str, Any]]:
    """Return what a doctor finds, by subject."""
    result = cli(*words, "doctor", "--json")
    found = {line["subject"]: line for line in map(json.loads, result.lines)}
    assert len(found) == len(result.lines)
    assert result.code == any(finding["level"] == "danger" for finding in found.values())
    assert result.err == ""
    return found


def fill(folder: Path) -> Path:
    """Make a store with some messages, and return its file."""
    for text in ("a", "b"):
        assert inside("write", "jobs", text, cwd=folder).code == 0
        assert inside("publish", "events", text, cwd=folder).code == 0
    return folder / NAME


def contents(folder: Path) -> dict[str, str]:
    """Return the fingerprints of all files, but for SQLite's index of the log, which is no data."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name.endswith((".db", "-wal", ".wlock", "-journal"))
    }


def change(path: Path, *statements: str) -> None:
    """Do something to the database behind the back of the store."""
    with closing(sqlite3.connect(path)) as raw, raw:
        for statement in statements:
            raw.execute(statement)


def test_a_healthy_store(cli: Run, tmp_path: Path) -> None:
    """Every subject is looked at, nothing is dangerous, and each line says how it is."""
    fill(tmp_path)
    before = contents(tmp_path)
    found = findings(cli)
    assert list(found) == [
        "library", "file", "modes", "file system", "disk", "format", "journal", "sync", "pages",
        "integrity", "messages", "queues", "owners",
    ]  # fmt: skip
    assert found["messages"]["text"] == "4 messages, each as it was written"
    assert {found[subject]["level"] for subject in ("integrity", "messages", "queues", "modes")} == {"ok"}
    plain = cli("doctor")
    assert plain.code == 0
    assert "ok      integrity: every page and index is in order" in plain.lines
    assert contents(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == sorted(before)


def test_nothing_there(cli: Run, tmp_path: Path) -> None:
    """A store that does not exist is not made by looking for it."""
    found = findings(cli)
    assert found["file"]["level"] == "danger"
    assert "does not exist" in found["file"]["text"]
    assert os.listdir(tmp_path) == []
    (tmp_path / NAME).mkdir()
    assert "not a regular file" in findings(cli)["file"]["text"]


DAMAGE: list[tuple[str, str, str, str]] = [
    (
        "content",
        "UPDATE message SET body = x'22' WHERE position = (SELECT min(position) FROM job)",
        "messages",
        "jobs 1",
    ),
    ("sender", "UPDATE message SET sender_id = 'x' WHERE position & 255 = 2", "messages", "events 2"),
    ("kind of value", "UPDATE message SET topic = 7 WHERE position & 255 = 1", "messages", "2 of 4"),
    ("job", "DELETE FROM job WHERE position & 255 = 1", "queues", "never handed out"),
    (
        "message",
        "DELETE FROM message WHERE log = (SELECT number FROM log WHERE name = 'jobs')",
        "queues",
        "have no message",
    ),
]


@pytest.mark.parametrize(("what", "statement", "subject", "text"), DAMAGE, ids=[row[0] for row in DAMAGE])
def test_damaged_messages(
    cli: Run, tmp_path: Path, what: str, statement: str, subject: str, text: str
) -> None:
    """A message that is not as it was written, or has lost its state, is a danger; its place is named."""
    change(fill(tmp_path), statement)
    before = contents(tmp_path)
    found = findings(cli)
    assert found[subject]["level"] == "danger"
    assert text in found[subject]["text"]
    assert found[subject]["advice"]
    assert contents(tmp_path) == before


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Write bytes into the middle of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(
    ("what", "damage", "subject"),
    [
        ("header", lambda path: overwrite(path, 0, b"x" * 100), "format"),
        ("schema page", lambda path: overwrite(path, 100, b"\xff" * 3000), None),
        ("inner pages", lambda path: overwrite(path, 4096 * 5, b"\xff" * 4096 * 10), None),
        ("cut", lambda path: os.truncate(path, 4096 * 6), None),
        ("text", lambda path: path.write_text("hello, I am no database\n" * 100), "format"),
        ("foreign", lambda path: make_foreign(path), "format"),
        ("newer", lambda path: change(path, "PRAGMA user_version = 99"), "format"),
        ("rollback journal", lambda path: hot_journal(path), "format"),
    ],
)
def test_damaged_files(
    cli: Run, tmp_path: Path, what: str, damage: Callable[[Path], object], subject: str | None
) -> None:
    """A file that is damaged or foreign is told, and left as it is."""
    damage(fill(tmp_path))
    before = contents(tmp_path)
    found = findings(cli)
    dangers = [finding["subject"] for finding in found.values() if finding["level"] == "danger"]
    assert dangers if subject is None else subject in dangers
    assert contents(tmp_path) == before
    assert "Traceback" not in cli("doctor").err


def make_foreign(path: Path) -> None:
    """Make a database of another program."""
    path.unlink()
    change(path, "CREATE TABLE t (x)")


def hot_journal(path: Path) -> None:
    """Make a database of another program that was killed in the middle of a transaction."""
    path.unlink()
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA cache_size = 1")
    raw.execute("CREATE TABLE t (x)")
    raw.execute("BEGIN IMMEDIATE")
    raw.executemany("INSERT INTO t VALUES (?)", [("x" * 4000,)] * 50)
    journal, file = Path(f"{path}-journal").read_bytes(), path.read_bytes()
    raw.close()
    Path(f"{path}-journal").write_bytes(journal)
    path.write_bytes(file)


def test_an_empty_file(cli: Run, tmp_path: Path) -> None:
    """An empty file is a store that nobody has used yet."""
    (tmp_path / NAME).touch(mode=0o600)
    found = findings(cli)
    assert found["format"]["level"] == "note"
    assert (tmp_path / NAME).stat().st_size == 0


def test_what_is_around(cli: Run, tmp_path: Path) -> None:
    """Hard links and modes that let others in are told."""
    path = fill(tmp_path)
    os.chmod(path, 0o644)
    assert findings(cli)["modes"]["level"] == "note"
    os.chmod(path, 0o666)
    assert findings(cli)["modes"]["level"] == "danger"
    os.chmod(path, 0o600)
    os.link(path, tmp_path / "other")
    assert "2 hard links" in findings(cli)["file"]["text"]


def test_while_it_is_used(cli: Run, tmp_path: Path) -> None:
    """An open store is looked at with its log; who has it open is counted, the dead apart (SB-264)."""
    fill(tmp_path)
    with start("subscribe", "events", "--start", "earliest", cwd=tmp_path) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "a\n"
        inside("write", "jobs", "c", cwd=tmp_path)
        found = findings(cli)
        assert "write-ahead log of" in found["journal"]["text"]
        assert found["messages"]["text"].startswith("5 messages")
        assert found["owners"] == {
            "subject": "owners", "level": "ok", "text": "1 programs have the store open", "advice": "",
        }  # fmt: skip
        reader.kill()
        reader.wait(30)
        assert "0 programs have the store open, 1 died with it" in findings(cli)["owners"]["text"]


def test_other_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is no file is connected to, and says what it survives and what it can do."""
    from sssnbus.stores import registry

    monkeypatch.setattr(registry, "_registered", {})
    register("elsewhere", lambda url, clock: MemoryStore(clock=clock))
    result = inside("--url", "elsewhere://", "doctor", "--json", cwd=tmp_path)
    found = {line["subject"]: line["text"] for line in map(json.loads, result.lines)}
    assert result.code == 0
    assert list(found) == ["store", "durability", "abilities"]
    assert found["durability"] == "what was written survives nothing"
    assert "QueueStore" in found["abilities"]


@pytest.mark.parametrize(
    ("version", "bug"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_wal_reset_range(version: tuple[int, int, int], bug: bool) -> None:
    """The bug is in SQLite 3.7.0 to 3.51.2, but not in the two repaired lines."""
    assert surroundings.has_wal_reset_bug(version) is bug


def test_the_library_itself(tmp_path: Path) -> None:
    """``examine`` tells how long work goes on, and takes a store that was never opened."""
    path = fill(tmp_path)
    told: list[str] = []
    found = [*examine(SQLiteStore(path, durability="process"), told.append)]
    assert all(isinstance(finding, Finding) for finding in found)
    assert "reading the messages" in told
    (sync,) = [finding for finding in found if finding.subject == "sync"]
    assert sync.level is Level.NOTE


def test_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deepest mount counts, of two at one place the later; a network share is a danger."""
    table = (
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        "2 1 0:5 / /mnt/a\\040b rw shared:1 - nfs4 host:/x rw\n"
        "3 1 0:6 / /tmp rw - tmpfs tmpfs rw\n"
        "4 1 0:6 / /tmp rw - 9p host rw\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda *_: table)
    levels = {
        path: surroundings.file_system(path).level
        for path in ("/srv/x.db", "/mnt/a b/x.db", "/mnt/a bc/x.db", "/tmp/x.db")
    }
    assert [*levels.values()] == [Level.OK, Level.DANGER, Level.OK, Level.NOTE]


def level_of(found: list[Finding], subject: str) -> tuple[Level, str]:
    """Return how a subject was found."""
    (finding,) = [finding for finding in found if finding.subject == subject]
    return finding.level, finding.text


def test_what_one_machine_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old library, a full disk, a platform that does not tell, and files that are not ours are told."""
    path = str(fill(tmp_path))
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    assert surroundings.library().level is Level.DANGER
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 53, 0))
    assert surroundings.library().level is Level.OK
    for free, level in ((1, Level.DANGER), (100, Level.NOTE), (10_000, Level.OK)):
        blocks = (0, 1 << 20, 0, 0, free, 0, 0, 0, 0, 0)
        monkeypatch.setattr(os, "statvfs", lambda _, blocks=blocks: _Statvfs(blocks))
        assert surroundings.disk(path).level is level
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert surroundings.file(path).level is Level.NOTE
    os.chmod(path + ".wlock", 0o660)
    assert surroundings.modes(path).level is Level.DANGER
    monkeypatch.setattr(surroundings, "_kind_of", lambda _: None)
    assert surroundings.file_system(path).level is Level.NOTE
    monkeypatch.setattr(surroundings, "_kind_of", lambda _: "tmpfs")
    assert surroundings.file_system(path).level is Level.NOTE


class _Statvfs:
    def __init__(self, blocks: tuple[int, ...]) -> None:
        self.f_frsize, self.f_bavail = blocks[1], blocks[4]


def test_what_is_inside(tmp_path: Path) -> None:
    """Free pages, leases that have ended and owners of another boot are worth a note."""
    path = fill(tmp_path)
    change(path, "UPDATE job SET state = 2, until = 0, attempts = 1, token = 't' WHERE position & 255 = 1")
    found = [*examine(SQLiteStore(path))]
    assert level_of(found, "queues") == (Level.NOTE, "1 leases have ended")
    change(
        path,
        "INSERT INTO owner (locked) VALUES (1)",
        "UPDATE setting SET value = 'another' WHERE name = 'boot'",
        "CREATE TABLE filler (x)",
        "INSERT INTO filler VALUES (zeroblob(20000000))",
        "DROP TABLE filler",
    )
    found = [*examine(SQLiteStore(path))]
    assert level_of(found, "owners") == (Level.NOTE, "1 from before the machine started")
    assert level_of(found, "pages")[0] is Level.NOTE
    assert level_of(found, "queues")[0] is Level.OK
