"""Opening the database: is it ours, which version, how is it set."""

import ctypes
import os
import sqlite3
import threading
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Final

from sssnbus.errors import IncompatibleStore, StoreUnavailable
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.failure import BUSY_SECONDS, opening
from sssnbus.stores.sqlite.file import DatabaseFile
from sssnbus.stores.sqlite.lock import LockFile

APPLICATION: Final = 0x5353534E
"""Marks a database as ours: ``SSSN``."""

VERSION: Final = 1
"""The newest schema that this code knows."""

_OLDEST_SQLITE: Final = (3, 35, 0)

_SETTINGS: Final = """
PRAGMA mmap_size = 0;
PRAGMA foreign_keys = OFF;
PRAGMA journal_size_limit = 8388608;
"""
_SYNCHRONOUS: Final = {
    "disk": "PRAGMA synchronous = FULL",
    "process": "PRAGMA synchronous = NORMAL",
}
_MARK: Final = """
PRAGMA application_id = 1397969742;
PRAGMA user_version = 1;
INSERT INTO migration VALUES (1, (julianday('now') - 2440587.5) * 86400.0);
"""


def connect(file: DatabaseFile, durability: str) -> sqlite3.Connection:
    """Return a connection with the settings that each of ours has.

    Any thread may use it, one at a time.
    """
    connection = sqlite3.connect(
        file.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        connection.executescript(_SETTINGS)
        connection.execute(_SYNCHRONOUS[durability])
    except BaseException:
        connection.close()
        raise
    return connection


def open_database(
    file: DatabaseFile, durability: str, abandoned: threading.Event
) -> tuple[sqlite3.Connection, LockFile]:
    """Connect to the database of a file, and make it first if there is none.

    Raises:
        IncompatibleStore: It is not ours; it was left untouched.
        StoreUnavailable: It cannot be reached, or nobody waits for it any more.
        StoreReadOnly: It cannot be written.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreUnavailable(f"SQLite 3.35 or newer is needed, this is {sqlite3.sqlite_version}.")
    with opening(file.url):
        if file.exists():
            _inspect(file)
        ticket = LockFile(file.lock_path, file.mode)
        try:
            with ticket:
                if abandoned.is_set():
                    raise StoreUnavailable(f"Opening {file.url} was given up.")
                return _prepare(file, durability), ticket
        except BaseException:
            ticket.close()
            raise


def _inspect(file: DatabaseFile) -> None:
    """Look at a file without the means to change it: even closing a writable one may write."""
    try:
        _look(file, "?mode=ro")
    except sqlite3.OperationalError:
        if not os.path.exists(file.path + "-journal"):
            raise
        # If somebody died while making a store, all there is is the first page, and that can be read
        # without the journal. In WAL mode there is none, so no other store of this process is open.
        _look(file, "?mode=ro&immutable=1")


def _look(file: DatabaseFile, how: str) -> None:
    uri = Path(file.path).as_uri() + how
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        _check_ours(connection, file.url)


def _check_ours(connection: sqlite3.Connection, url: str) -> int:
    """Return the version of the schema; 0 if there is none yet."""
    # All three from one snapshot: somebody else may be making the schema at this very moment.
    connection.execute(sql.SNAPSHOT)
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    finally:
        if connection.in_transaction:
            connection.execute(sql.COMMIT)
    if application == 0 and version == 0 and tables == 0:
        return 0
    if application != APPLICATION:
        raise IncompatibleStore(url, "it is a SQLite database of another program")
    if version > VERSION:
        raise IncompatibleStore(
            url, f"its schema has version {version} and this program knows up to {VERSION}; upgrade sssnbus"
        )
    return version


def _prepare(file: DatabaseFile, durability: str) -> sqlite3.Connection:
    if not file.exists():
        file.create()
    connection = connect(file, durability)
    try:
        version = _check_ours(connection, file.url)
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StoreUnavailable(f"Store {file.url} cannot use a write-ahead log where it lies.")
        if version < VERSION:
            _make_schema(connection)
        # The first read makes the WAL and its index, so that they can be pinned.
        connection.execute(sql.CLOCK).fetchone()
        file.pin()
    except BaseException:
        connection.close()
        raise
    return connection


def _make_schema(connection: sqlite3.Connection) -> None:
    script = files("sssnbus.stores.sqlite").joinpath("schema.sql").read_text("utf-8")
    try:
        connection.executescript("BEGIN IMMEDIATE;\n" + script + _MARK + "COMMIT;")
    except BaseException:
        if connection.in_transaction:
            connection.execute(sql.ROLLBACK)
        raise
    # Without this, a power cut under durability "process" could take the whole schema away.
    connection.execute(sql.TRUNCATE).fetchone()


def keep_for_ever(thing: object) -> None:
    """Never free an object, not even when the interpreter ends.

    A SQLite connection that a child frees takes itself for the last one and deletes the WAL.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
