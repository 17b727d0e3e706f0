"""The lane of a database: what waits goes together in one transaction, in the thread of the connection."""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from sssnbus.clock import Clock
from sssnbus.errors import BusError, StoreReplaced
from sssnbus.stores import lane
from sssnbus.stores.base import News
from sssnbus.stores.lane import Stage
from sssnbus.stores.loop import call_soon
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.connection import Connection
from sssnbus.stores.sqlite.failure import is_busy, translated
from sssnbus.stores.sqlite.file import DatabaseFile
from sssnbus.stores.sqlite.lock import LockFile
from sssnbus.stores.sqlite.transaction import Transaction

MAX_BATCH: Final = 2048
"""Operations in one commit, at most."""

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Bytes of messages in one commit, unless a single operation brings more."""


class Operation(lane.Operation):
    """Something to do inside a write transaction, and what came of it."""

    __slots__ = ("apply",)

    def __init__(self, what: str, apply: Callable[[Transaction], Any], size: int = 0) -> None:
        super().__init__(what, size)
        self.apply = apply

    @classmethod
    def apply_all(cls, transaction: Transaction, operations: Sequence["Operation"]) -> None:
        """Apply neighbours of one class. One that refuses before it changes anything fails alone."""
        conn = transaction.conn
        for operation in operations:
            before = conn.total_changes
            try:
                operation.result = operation.apply(transaction)
            except BusError as exc:
                if conn.total_changes != before:
                    raise
                operation.error = exc


class Writer(lane.Lane[Operation]):
    """The only way to write: one connection, one transaction at a time, one hop for each."""

    def __init__(
        self, connection: Connection, ticket: LockFile, file: DatabaseFile, clock: Clock, timeout: float
    ) -> None:
        super().__init__(file.url, timeout)
        self._connection = connection
        self._ticket = ticket
        self._file = file
        self._clock = clock
        self._mutex = threading.Lock()
        self._scheduled = False
        self._replaced = False
        self.on_news: Callable[[News], None] | None = None
        """Called in the thread after a commit that others may want to know of."""

    def _wake(self) -> None:
        if not self._scheduled and not self._flying:
            # Not at once: what other tasks bring in this round of the loop goes along.
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        self._flying = self._take(MAX_BATCH, MAX_BATCH_BYTES)
        if self._flying:
            self._connection.post(self._work)

    def _finish(self) -> None:
        """Hand out results, in the order of the commit, after the next batch is on its way."""
        batch, self._flying = self._flying, []
        if self._waiting:
            self._start()
        for operation in batch:
            operation.end(operation.error)

    def _abandon(self, operation: Operation, reason: BaseException | None = None) -> bool:
        # The thread may be about to begin with it.
        with self._mutex:
            return super()._abandon(operation, reason)

    # From here on in the thread of the connection.

    def _work(self) -> None:
        batch, news = self._flying, None
        try:
            news = self._transact(self._connection.raw, batch)
        except BaseException as exc:
            self._fail(batch, exc)
        # Others first: our loop, once it is awake, competes with this thread for the interpreter.
        if news is not None and self.on_news is not None:
            self.on_news(news)
        call_soon(self._loop, self._finish)

    def _transact(self, conn: sqlite3.Connection, batch: list[Operation]) -> News | None:
        """Apply a batch in one transaction; return what is news for others."""
        while any(operation.stage is Stage.WAITING for operation in batch):
            with self._ticket:
                if not self._begin(conn):
                    continue
                try:
                    return self._apply(conn, self._begin_all(batch))
                finally:
                    if conn.in_transaction:
                        conn.execute(sql.ROLLBACK)
        return None

    def _begin(self, conn: sqlite3.Connection) -> bool:
        """Begin a transaction; return False if somebody without a ticket kept us waiting too long."""
        if self._replaced:
            raise StoreReplaced(self._file.url)
        try:
            self._file.check(conn)
            conn.execute(sql.BEGIN)
        except StoreReplaced:
            self._replaced = True
            raise
        except sqlite3.OperationalError as exc:
            if not is_busy(exc):
                raise
            return False
        return True

    def _begin_all(self, batch: list[Operation]) -> list[Operation]:
        taken = []
        with self._mutex:
            for operation in batch:
                if operation.stage is Stage.WAITING:
                    operation.stage = Stage.RUNNING
                    taken.append(operation)
        return taken

    def _apply(self, conn: sqlite3.Connection, batch: list[Operation]) -> News | None:
        transaction = Transaction(conn, self._clock)
        try:
            start = 0
            for end, operation in enumerate(batch, 1):
                if end == len(batch) or type(batch[end]) is not type(operation):
                    type(operation).apply_all(transaction, batch[start:end])
                    start = end
        except Exception:
            if conn.in_transaction:
                conn.execute(sql.ROLLBACK)
            transaction = self._apply_apart(conn, batch)
        transaction.flush()
        conn.execute(sql.COMMIT)
        self._file.note()
        return transaction.letter()

    def _apply_apart(self, conn: sqlite3.Connection, batch: list[Operation]) -> Transaction:
        """Apply each operation in a savepoint of its own, so that the bad one fails alone."""
        conn.execute(sql.BEGIN)
        transaction = Transaction(conn, self._clock, careful=True)
        for operation in batch:
            operation.error = operation.result = None
            mark = transaction.mark()
            conn.execute(sql.SAVEPOINT)
            try:
                type(operation).apply_all(transaction, [operation])
            except Exception as exc:
                # After a full disk the whole transaction is gone, and its neighbours with it.
                if not conn.in_transaction:
                    raise
                conn.execute(sql.UNDO)
                transaction.forget(mark)
                operation.error = translated(exc, self._file.url)
            conn.execute(sql.RELEASE)
        return transaction

    def _fail(self, batch: list[Operation], exc: BaseException) -> None:
        with self._mutex:
            for operation in batch:
                if operation.stage is not Stage.ABANDONED:
                    operation.stage = Stage.RUNNING
                    operation.result = None
                    operation.error = translated(exc, self._file.url)
