"""The thread that keeps leases alive and looks whether other owners are.

Each store object has its own, with its own connection and ticket: a store is one file in one loop, and a
file whose lock is stuck must not let the leases of another file end.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from sssnbus.clock import Clock
from sssnbus.stores.holds import Holds
from sssnbus.stores.loop import call_soon
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.bell import Bells
from sssnbus.stores.sqlite.database import connect, keep_for_ever
from sssnbus.stores.sqlite.file import DatabaseFile
from sssnbus.stores.sqlite.lock import LockFile
from sssnbus.stores.sqlite.owner import bury, dead_owners
from sssnbus.stores.sqlite.settle import renew
from sssnbus.stores.sqlite.transaction import HINT, Transaction

_log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the owners, so that the leases of a dead one are free within one."""


class Keeper:
    """Renews the holds of one store object, off its event loop."""

    def __init__(
        self,
        file: DatabaseFile,
        owner: int,
        marks: LockFile,
        holds: Holds[int],
        bells: Bells | None,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        on_news: Callable[[], None],
    ) -> None:
        self._file = file
        self._owner = owner
        self._marks = marks
        self._holds = holds
        self._bells = bells
        self._clock = clock
        self._loop = loop
        self._on_news = on_news
        self._wake = threading.Event()
        self._stopping = False
        self._failing = False
        self._connection: sqlite3.Connection | None = None
        self._ticket: LockFile | None = None
        self.ended = loop.create_future()
        self._thread = threading.Thread(target=self._main, name="sssnbus-sqlite-keeper", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Let the thread see new holds."""
        self._wake.set()

    def stop(self) -> None:
        """Let the thread end; ``ended`` tells when it has."""
        self._stopping = True
        self._wake.set()

    def forget(self) -> None:
        """In a forked child: the thread is not there, only what it had open."""
        if self._connection is not None:
            keep_for_ever(self._connection)
        if self._ticket is not None:
            self._ticket.close()

    def _main(self) -> None:
        try:
            while True:
                self._wake.wait(min(LOOK_EVERY, self._holds.shortest() or LOOK_EVERY))
                self._wake.clear()
                # A loop that ended without closing the store works on nothing any more.
                if self._stopping or self._loop.is_closed():
                    break
                try:
                    # Renewals need not survive a power cut, so they wait for no disk.
                    self._connection = self._connection or connect(self._file, "process")
                    self._ticket = self._ticket or LockFile(self._file.lock_path, self._file.mode)
                    self._tick(self._connection, self._ticket)
                    self._failing = False
                except Exception as exc:
                    self._report(exc)
        finally:
            if self._connection is not None:
                self._connection.close()
            if self._ticket is not None:
                self._ticket.close()
            call_soon(self._loop, self._end)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _report(self, exc: Exception) -> None:
        if not self._failing:
            self._failing = True
            _log.warning("Leases of %s are not renewed: %s", self._file.url, exc)

    def _tick(self, connection: sqlite3.Connection, ticket: LockFile) -> None:
        if self._holds.due(self._clock.elapsed()):
            self._write(connection, ticket, lambda transaction: renew(transaction, self._holds))
        if dead := dead_owners(connection, self._marks, self._file.lock_path, self._owner):
            self._write(connection, ticket, lambda transaction: bury(transaction.conn, dead))
            if self._bells is not None:
                self._bells.ring(HINT)
            call_soon(self._loop, self._on_news)

    def _write(
        self, connection: sqlite3.Connection, ticket: LockFile, apply: Callable[[Transaction], None]
    ) -> None:
        with ticket:
            self._file.check(connection)
            connection.execute(sql.BEGIN)
            try:
                apply(Transaction(connection, self._clock))
                connection.execute(sql.COMMIT)
                self._file.note()
            finally:
                if connection.in_transaction:
                    connection.execute(sql.ROLLBACK)
