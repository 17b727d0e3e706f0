"""The one class that uses the inside of aiosqlite."""

import inspect
import logging
import sqlite3
import threading
from pathlib import Path
from queue import SimpleQueue

import aiosqlite
import pytest
from aiosqlite import core

from sssnbus.stores.sqlite import SQLiteStore
from sssnbus.stores.sqlite.connection import Connection
from tests.stores.sqlite.tools import draft


def test_the_inside_of_aiosqlite_is_what_we_use() -> None:
    """A new aiosqlite that changes what we rely on fails here first, and by name."""
    plain = aiosqlite.Connection(lambda: sqlite3.connect(":memory:"), 64)
    assert isinstance(plain._tx, SimpleQueue)
    assert isinstance(plain._thread, threading.Thread)
    assert plain._connection is None
    assert plain._running is True
    assert isinstance(inspect.getattr_static(aiosqlite.Connection, "_conn"), property)
    source = inspect.getsource(core._connection_worker_thread)
    assert "future, function = tx.get()" in source
    assert "if result is _STOP_RUNNING_SENTINEL" in source
    # What is put into the queue without a future is run, and its result told to nobody.
    assert source.count("if future:") == 2


async def test_a_function_runs_whole_in_the_thread() -> None:
    """Everything that a function does is one hop, in the thread of the connection."""
    connection = Connection(lambda: sqlite3.connect(":memory:", check_same_thread=False), "a name")
    await connection.connect()
    thread = await connection.run(threading.current_thread)
    assert thread.name == "a name"
    assert thread.daemon
    with pytest.raises(ZeroDivisionError):
        await connection.run(lambda: 1 // 0)
    connection.end()
    thread.join(5.0)
    assert not thread.is_alive()


async def test_no_payload_is_logged(path: Path, caplog: pytest.LogCaptureFixture, store: SQLiteStore) -> None:
    """aiosqlite prints at DEBUG what it runs; no content and no header may be in there."""
    caplog.set_level(logging.DEBUG)
    await store.append([draft("jobs", b"SECRET-BODY"), draft("events", b"SECRET-BODY")])
    leases = (await store.claim("jobs", worker="w", lease=30.0)).leases
    assert leases[0].stored.body == b"SECRET-BODY"
    await store.read("events", after=0, limit=10)
    await store.put("space", "name", b"SECRET-BODY", version=None)
    assert caplog.records
    assert "SECRET" not in caplog.text
