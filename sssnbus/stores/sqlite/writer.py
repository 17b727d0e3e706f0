"""Group commit: operations queue up while a commit is under way, and go together in the next one.

An operation is waiting, then running or abandoned, and the change is made under a lock: what a caller
gave up is never applied, and what has begun is known to its caller before the call ends.
"""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final

from sssnbus.clock import Clock
from sssnbus.errors import BusError, ClosedError, StoreError, StoreReplaced, StoreTimeout
from sssnbus.stores.base import News
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.connection import Connection, call_soon
from sssnbus.stores.sqlite.failure import is_busy, translated
from sssnbus.stores.sqlite.file import DatabaseFile
from sssnbus.stores.sqlite.lock import LockFile
from sssnbus.stores.sqlite.transaction import Transaction

MAX_BATCH: Final = 2048
"""Operations in one commit, at most."""

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Bytes of messages in one commit, unless a single operation brings more."""


class Stage(Enum):
    """How far an operation came."""

    WAITING = 0
    RUNNING = 1
    ABANDONED = 2


class Operation:
    """Something to do inside a write transaction, and what came of it."""

    __slots__ = ("apply", "deadline", "error", "future", "result", "size", "stage", "timeout", "what")

    def __init__(self, what: str, apply: Callable[[Transaction], Any], size: int = 0) -> None:
        self.what = what
        self.apply = apply
        self.size = size
        self.stage = Stage.WAITING
        self.result: Any = None
        self.error: BaseException | None = None
        self.timeout = self.deadline = 0.0
        self.future: asyncio.Future[Any] | None = None
        """Awaited on the loop; None once the operation has ended."""

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


class Writer:
    """The only way to write: one connection, one transaction at a time, one hop for each."""

    def __init__(
        self, connection: Connection, ticket: LockFile, file: DatabaseFile, clock: Clock, timeout: float
    ) -> None:
        self._connection = connection
        self._ticket = ticket
        self._file = file
        self._clock = clock
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._mutex = threading.Lock()
        self._waiting: deque[Operation] = deque()
        self._flying: list[Operation] = []
        self._scheduled = False
        self._replaced = False
        self._timer: asyncio.TimerHandle | None = None
        self.on_news: Callable[[News], None] | None = None
        """Called in the thread after a commit that others may want to know of."""

    async def perform(self, operation: Operation, timeout: float | None = None) -> Any:
        """Return the result of an operation once it is committed.

        A cancelled one was either abandoned, or has ended before the ``CancelledError`` leaves; then
        its ``result`` is there to be undone.
        """
        future = self._submit(operation, self._timeout if timeout is None else timeout)
        try:
            return await future
        except asyncio.CancelledError:
            if not self._abandon(operation):
                await self._outlive(operation)
            raise

    async def insist(self, operation: Operation, timeout: float) -> None:
        """Do an operation although the task may be cancelled meanwhile; its error is left in it."""
        self._submit(operation, timeout)
        await self._outlive(operation)

    def close(self) -> None:
        """Give up what waits, and waiting for what does not end."""
        url = self._file.url
        for operation in [*self._waiting, *self._flying]:
            if self._abandon(operation, ClosedError(f"Store {url}")) or operation.future is None:
                continue
            if not operation.future.done():
                unknown = f"Store {url} was closed during a commit; whether it was applied is not known."
                operation.future.set_exception(StoreError(unknown))
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _submit(self, operation: Operation, timeout: float) -> asyncio.Future[Any]:
        loop = self._loop
        operation.future = future = loop.create_future()
        operation.timeout = timeout
        operation.deadline = deadline = loop.time() + timeout
        self._waiting.append(operation)
        if not self._scheduled and not self._flying:
            # Not at once: what other tasks bring in this round of the loop goes along.
            self._scheduled = True
            loop.call_soon(self._start)
        if self._timer is None or self._timer.when() > deadline:
            self._set_timer(deadline)
        return future

    def _start(self) -> None:
        self._scheduled = False
        waiting, batch, size = self._waiting, self._flying, 0
        while waiting and len(batch) < MAX_BATCH:
            size += waiting[0].size
            if batch and size > MAX_BATCH_BYTES:
                break
            operation = waiting.popleft()
            if operation.stage is Stage.WAITING:
                batch.append(operation)
        if batch:
            self._connection.post(self._work)

    def _finish(self) -> None:
        """Hand out results, in the order of the commit, after the next batch is on its way."""
        batch, self._flying = self._flying, []
        if self._waiting:
            self._start()
        for operation in batch:
            future, operation.future = operation.future, None
            if future is None or future.done():
                continue
            if operation.error is None:
                future.set_result(operation.result)
            else:
                future.set_exception(operation.error)

    def _abandon(self, operation: Operation, reason: BaseException | None = None) -> bool:
        """Make sure that a waiting operation is never applied; return False if it has begun."""
        with self._mutex:
            if operation.stage is Stage.RUNNING:
                return False
            operation.stage = Stage.ABANDONED
        operation.error = reason
        future, operation.future = operation.future, None
        if future is not None and not future.done() and reason is not None:
            future.set_exception(reason)
        return True

    async def _outlive(self, operation: Operation) -> None:
        """Wait until an operation has ended, however often the task is cancelled."""
        if operation.future is None:
            return
        operation.future = future = self._loop.create_future()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        future.exception()

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now, pending = self._loop.time(), [*self._flying, *self._waiting]
        for operation in pending:
            if operation.deadline <= now and operation.stage is Stage.WAITING:
                self._abandon(operation, StoreTimeout(operation.what, operation.timeout))
        deadlines = [operation.deadline for operation in pending if operation.stage is Stage.WAITING]
        if deadlines:
            self._set_timer(min(deadlines))
        # A stuck writer must not pile up what nobody waits for.
        self._waiting = deque(operation for operation in self._waiting if operation.stage is Stage.WAITING)

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
                    return self._apply(conn, self._take(batch))
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

    def _take(self, batch: list[Operation]) -> list[Operation]:
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
