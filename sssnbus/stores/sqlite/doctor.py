"""A close look at the file of a store, without changing it: what is well, and what is not.

It also looks at files that ``open`` would refuse. Nothing here opens the database but SQLite itself, and
that for reading only: closing any other descriptor would drop the locks of a store that is open in this
process.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from sssnbus.clock import Clock, SystemClock
from sssnbus.stored import checksum
from sssnbus.stores.base import Kind
from sssnbus.stores.sqlite import sql, surroundings
from sssnbus.stores.sqlite.database import APPLICATION, VERSION
from sssnbus.stores.sqlite.finding import Finding, danger, note, well
from sssnbus.stores.sqlite.lock import LockFile
from sssnbus.stores.sqlite.owner import boot_id
from sssnbus.stores.sqlite.store import SQLiteStore
from sssnbus.stores.sqlite.transaction import LAST_SEQUENCE, SEQUENCE_BITS

Progress = Callable[[str], object]
"""Told again and again during long work what it is."""

_PAGE: Final = 256
_SHOWN: Final = 5
"""How many damaged messages are named."""

_MIB: Final = 1024 * 1024

_RESTORE: Final = "Stop everything that uses it, save what 'sssnbus dump' can read, and restore a backup."

_LOGS: Final = "SELECT number, name, kind, count FROM log WHERE number > 0"
_MESSAGES: Final = (
    "SELECT position, sender_id, topic, type, headers, body, crc FROM message"
    " WHERE position > ? ORDER BY position LIMIT ?"
)
_LOST_JOBS: Final = (
    "SELECT count(*) FROM job WHERE log IN (SELECT number FROM log)"
    " AND NOT EXISTS (SELECT 1 FROM message WHERE message.position = job.position)"
)
_JOBLESS: Final = (
    "SELECT count(*) FROM message WHERE log IN (SELECT number FROM log WHERE kind = ?)"
    " AND NOT EXISTS (SELECT 1 FROM job WHERE job.position = message.position)"
)
_ENDED: Final = "SELECT count(*) FROM job WHERE state = 2 AND until IS NOT NULL AND until <= ?"


def examine(
    store: SQLiteStore, progress: Progress = lambda what: None, clock: Clock | None = None
) -> Iterator[Finding]:
    """Yield what is found in and around the file of a store, one subject after the other.

    The store need not be open, nor be one at all: a file that is foreign or damaged is looked at as far as
    that goes. Nothing is changed. It reads everything, and blocks meanwhile; others may write.

    Args:
        store: As ``store_from_url`` makes it.
        progress: Called about ten times a second during long work, with what that is.
        clock: What tells whether a lease has ended; the machine's by default.
    """
    path, clock = os.path.realpath(store.url.removeprefix("sqlite:///")), clock or SystemClock()
    yield surroundings.library()
    if not os.path.exists(path):
        yield danger("file", f"{path} does not exist", "Check the name; the first write makes a store.")
        return
    yield surroundings.file(path)
    if not os.path.isfile(path):
        return
    yield surroundings.modes(path)
    yield surroundings.file_system(path)
    yield surroundings.disk(path)
    try:
        yield from _looked_into(path, store, progress, clock)
    except sqlite3.Error as exc:
        name = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
        yield danger("database", f"it cannot be read ({name}): {exc}", _RESTORE)


def _looked_into(path: str, store: SQLiteStore, progress: Progress, clock: Clock) -> list[Finding]:
    # Without a log to read there is nothing that others change in passing, and SQLite is told so: else it
    # would make a log and an index beside the file, and leave them there.
    quiet = not _has_log(path)
    while True:
        uri = Path(path).as_uri() + ("?mode=ro&immutable=1" if quiet else "?mode=ro")
        with closing(sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None)) as connection:
            connection.text_factory = _legible
            found = [*_inside(connection, path, store, progress, clock)]
        if not quiet or not _has_log(path):
            return found
        # Somebody has begun to write meanwhile, so what was read may be of two moments.
        quiet = False


def _has_log(path: str) -> bool:
    try:
        return os.stat(path + "-wal").st_size > 0
    except FileNotFoundError:
        return False


def _legible(text: bytes) -> str:
    return text.decode(errors="replace")


def _value(connection: sqlite3.Connection, statement: str, *parameters: object) -> int:
    return int(connection.execute(statement, parameters).fetchone()[0])


def _inside(
    connection: sqlite3.Connection, path: str, store: SQLiteStore, progress: Progress, clock: Clock
) -> Iterator[Finding]:
    try:
        form = _form(connection)
    except sqlite3.DatabaseError as exc:
        yield danger("format", f"it is not a valid SQLite database ({exc})", "Name another file.")
        return
    yield form
    if form.level != "ok":
        return
    yield _log(connection, path)
    yield _durability(store)
    yield _pages(connection)
    yield _integrity(connection, progress)
    yield _checksums(connection, progress)
    yield _queues(connection, clock)
    yield _owners(connection, path)


def _form(connection: sqlite3.Connection) -> Finding:
    application = _value(connection, "PRAGMA application_id")
    version = _value(connection, "PRAGMA user_version")
    tables = _value(connection, "SELECT count(*) FROM sqlite_master")
    if application == version == tables == 0:
        return note("format", "an empty database", "The first write makes a store of it.")
    if application != APPLICATION:
        return danger("format", "a SQLite database of another program", "Name the file of a store.")
    if version > VERSION:
        return danger(
            "format", f"schema version {version}; this program knows up to {VERSION}", "Upgrade sssnbus."
        )
    return well("format", f"schema version {version}")


def _log(connection: sqlite3.Connection, path: str) -> Finding:
    try:
        size = os.stat(path + "-wal").st_size
    except FileNotFoundError:
        return well("journal", "no write-ahead log: nobody has the store open")
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if size and mode != "wal":
        return danger("journal", f"journal mode {mode}, beside a write-ahead log", _RESTORE)
    text = f"write-ahead log of {size:,} bytes"
    if size > 64 * _MIB:
        return note("journal", text, "A long read may hold it; it shrinks when all programs have ended.")
    return well("journal", text)


def _durability(store: SQLiteStore) -> Finding:
    if store.durability == "disk":
        return well("sync", "synchronous=FULL: what was written survives a power cut")
    return note(
        "sync",
        "synchronous=NORMAL: what was written survives a crash, not always a power cut",
        "Leave durability=process out of the URL if that matters.",
    )


def _pages(connection: sqlite3.Connection) -> Finding:
    size = _value(connection, "PRAGMA page_size")
    count, free = _value(connection, "PRAGMA page_count"), _value(connection, "PRAGMA freelist_count")
    text = f"{count:,} pages of {size} bytes, {free:,} of them free"
    if free * size > 8 * _MIB and free > count // 2:
        return note("pages", text, "'sssnbus --vacuum --compact' gives the room back.")
    return well("pages", text)


def _integrity(connection: sqlite3.Connection, progress: Progress) -> Finding:
    def tick() -> int:
        progress("checking the database")
        return 0

    connection.set_progress_handler(tick, 1_000_000)
    try:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(10)").fetchall()]
    except sqlite3.DatabaseError as exc:
        found = [str(exc)]
    finally:
        connection.set_progress_handler(None, 0)
    if found == ["ok"]:
        return well("integrity", "every page and index is in order")
    # One entry may have several lines, the first of which names only the table.
    lines = [line for entry in found for line in entry.splitlines() if not line.startswith("***")]
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return danger("integrity", f"{lines[0] if lines else found[0]}{more}", _RESTORE)


def _checksums(connection: sqlite3.Connection, progress: Progress) -> Finding:
    names = {number: name for number, name, *_ in connection.execute(_LOGS).fetchall()}
    position, scanned, damaged = -1, 0, []
    while rows := connection.execute(_MESSAGES, (position, _PAGE)).fetchall():
        progress("reading the messages")
        for position, sender_id, topic, type, headers, body, crc in rows:
            scanned += 1
            if crc != _checksum(sender_id, topic, type, headers, body):
                name = names.get(position >> SEQUENCE_BITS, "a deleted channel")
                damaged.append(f"{name} {position & LAST_SEQUENCE}")
    if not damaged:
        return well("messages", f"{scanned:,} messages, each as it was written")
    shown = ", ".join(damaged[:_SHOWN]) + (", …" if len(damaged) > _SHOWN else "")
    return danger(
        "messages",
        f"{len(damaged):,} of {scanned:,} messages are damaged (channel and sequence: {shown})",
        "They are kept from handlers and go to the dead letters; restore them from a backup.",
    )


def _checksum(sender_id: object, topic: object, type: object, headers: object, body: object) -> int | None:
    """Return the checksum of a row; None if its values are not even of the right kind."""
    if not (isinstance(sender_id, str) and isinstance(type, str) and isinstance(topic, str | None)):
        return None
    if not (isinstance(headers, bytes) and isinstance(body, bytes)):
        return None
    return checksum(sender_id, topic, type, headers, body)


def _queues(connection: sqlite3.Connection, clock: Clock) -> Finding:
    lost, jobless = _value(connection, _LOST_JOBS), _value(connection, _JOBLESS, Kind.QUEUE)
    text = ""
    if jobless:
        text = f"{jobless:,} messages of queues have no state and are never handed out"
    elif lost:
        text = f"{lost:,} states of queues have no message"
    if text:
        return danger("queues", text, f"Save them with 'sssnbus dump'. {_RESTORE}")
    ended = _value(connection, _ENDED, clock.elapsed())
    boot = connection.execute(sql.BOOT).fetchone()
    if ended and boot is not None and boot[0] == boot_id():
        return note(
            "queues", f"{ended:,} leases have ended", "The next claim hands their messages out again."
        )
    return well("queues", "every message has its state")


def _owners(connection: sqlite3.Connection, path: str) -> Finding:
    numbers = [row[0] for row in connection.execute("SELECT number FROM owner WHERE locked").fetchall()]
    boot = connection.execute(sql.BOOT).fetchone()
    if not numbers:
        return well("owners", "nobody has the store open")
    if boot is None or boot[0] != boot_id():
        return note("owners", f"{len(numbers)} from before the machine started", "The next user clears them.")
    try:
        if not os.path.exists(path + ".wlock"):
            raise FileNotFoundError
        marks = LockFile(path + ".wlock")
    except OSError:
        return note("owners", f"{len(numbers)}, and whether they live cannot be seen", "Run as their user.")
    with closing(marks):
        dead = [number for number in numbers if marks.is_marked(number) is False]
    text = f"{len(numbers) - len(dead)} programs have the store open"
    if dead:
        return note("owners", f"{text}, {len(dead)} died with it", "The next claim frees what they held.")
    return well("owners", text)
