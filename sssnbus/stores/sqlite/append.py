"""Adding messages: where each draft of many goes, worked out in memory and written in a few statements."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sssnbus.errors import BusError, MessageConflict, NotStarted, QueueFull
from sssnbus.stored import Dedupe, Draft, Stored
from sssnbus.stores.base import Kind, News, Placed
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.transaction import SEQUENCE_BITS, Transaction
from sssnbus.stores.sqlite.writer import Operation

READY, DELAYED, LEASED, DONE, HELD = range(5)
"""The states of a job, as the schema has them."""


WIDTH: Final = 13
"""Values in a row of messages."""

MAX_TOLD: Final = 8
"""Messages that a bell carries, at most."""


class Log:
    """The row of a log, as it will be."""

    __slots__ = ("base", "count", "depth", "floor", "is_queue", "kind", "last", "name", "number", "size")

    def __init__(self, name: str, row: tuple[Any, ...]) -> None:
        self.name = name
        self.number, self.kind, *numbers = row
        # A damaged file may hold anything in their place, which is to be noticed here.
        self.last, self.floor, self.count, self.size, self.depth = map(int, numbers)
        self.is_queue: bool = self.kind == Kind.QUEUE
        self.base: int = self.number << SEQUENCE_BITS
        """What is added to a sequence to make a position."""

    @property
    def end(self) -> int:
        """The highest position allocated."""
        return self.base + self.last


def find_log(transaction: Transaction, name: str) -> Log | None:
    """Return a declared log, or None."""
    row = transaction.conn.execute(sql.LOG, (name,)).fetchone()
    return None if row is None else Log(name, row)


class Known(NamedTuple):
    """A message that a batch brought before."""

    placed: Placed
    type: str
    body: bytes


class Append(Operation):
    """The operation of ``append``. Neighbours become one batch of rows."""

    __slots__ = ("drafts", "max_depth", "plain")

    def __init__(self, drafts: Sequence[Draft], max_depth: Mapping[str, int] | None) -> None:
        super().__init__("An append", _never)
        self.drafts = drafts
        self.max_depth = max_depth
        self.size = sum([len(draft.body) + len(draft.headers) for draft in drafts])
        first = drafts[0]
        self.plain = len(drafts) == 1 and max_depth is None and first.id is None and first.dedupe is None
        """A single new message, as most are: placing it adds it or changes nothing."""

    @classmethod
    def apply_all(cls, transaction: Transaction, operations: Sequence[Operation]) -> None:
        rows = Rows(transaction)
        for operation in operations:
            assert isinstance(operation, Append)
            try:
                if operation.plain:
                    operation.result = rows.add(operation.drafts)
                else:
                    operation.result = rows.place(operation.drafts, operation.max_depth)
            except BusError as exc:
                operation.error = exc
        rows.write()


class Rows:
    """New rows of one transaction. Nothing is written before ``write``."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._stamp = transaction.peek_stamp()
        self._logs: dict[str, Log] = {}
        # Flat: the values of one row follow those of the row before.
        self._messages: list[Any] = []
        self._jobs: list[Any] = []
        self._keys: list[tuple[Any, ...]] = []
        self._ids: dict[tuple[int, str], Known] = {}
        self._dedupes: dict[tuple[int, str], tuple[bytes, Placed]] = {}
        self._heads: dict[tuple[int, str], None] = {}

    def place(self, drafts: Sequence[Draft], max_depth: Mapping[str, int] | None) -> list[Placed]:
        """Return where each draft goes.

        Raises:
            MessageConflict: An id or dedupe key stands for another message.
            NotStarted: A log is not declared.
            QueueFull: A queue would be deeper than allowed. Whatever is raised, none of them is added.
        """
        before = [(log, log.last, log.count, log.size, log.depth) for log in self._logs.values()]
        grown = (self._messages, self._jobs, self._keys)
        known: tuple[dict[Any, Any], ...] = (self._ids, self._dedupes, self._heads)
        marks = [len(rows) for rows in grown], [len(table) for table in known]
        try:
            placed = self.add(drafts)
            if max_depth:
                self._check_depth(max_depth, {log.name: depth for log, _, _, _, depth in before})
        except BusError:
            # Logs seen for the first time are read again: nothing of them is written yet.
            self._logs = {log.name: log for log, *_ in before}
            for log, *counters in before:
                log.last, log.count, log.size, log.depth = counters
            for rows, mark in zip(grown, marks[0], strict=True):
                del rows[mark:]
            for table, mark in zip(known, marks[1], strict=True):
                while len(table) > mark:
                    table.popitem()
            raise
        return placed

    def write(self) -> None:
        """Write everything that was placed."""
        conn = self._transaction.conn
        if not self._messages:
            return
        self._tell()
        self._transaction.set_stamp(self._stamp)
        _insert(conn, sql.ADD_MESSAGES, WIDTH, self._messages)
        _insert(conn, sql.ADD_JOBS, 7, self._jobs)
        if self._keys:
            conn.execute(sql.PURGE_KEYS, (self._transaction.now,))
            conn.executemany(sql.ADD_KEY, self._keys)
        for log in self._logs.values():
            conn.execute(sql.GROWN, (log.last, log.count, log.size, log.depth, log.number))

    def _tell(self) -> None:
        """Leave word for others: the messages themselves if they are few, and of one log."""
        rows = len(self._messages) // WIDTH
        if len(self._logs) > 1 or rows > MAX_TOLD:
            self._transaction.news = True
            return
        (log,) = self._logs.values()
        told = []
        if not log.is_queue:
            for start in range(0, len(self._messages), WIDTH):
                position, _, id, _, *rest = self._messages[start : start + WIDTH]
                told.append(Stored(id, position - log.base, *rest))
        self._transaction.tell(News(log.name, told))

    def add(self, drafts: Sequence[Draft]) -> list[Placed]:
        """Place drafts; what is raised may leave some of them placed."""
        transaction, logs, messages = self._transaction, self._logs, self._messages
        result: list[Placed] = []
        for draft in drafts:
            name, id, timestamp, sender, topic, type, headers, body, crc, priority, key, _, dedupe = draft
            log = logs.get(name) or self._log(name)
            if id is not None or dedupe is not None:
                known = self._known(log, draft)
                if known is not None:
                    result.append(known)
                    continue
            stamp = self._stamp = self._stamp + 1
            if id is None:
                if transaction.careful:
                    stamp = self._unused(log)
                id = str(stamp)
            sequence = log.last = log.last + 1
            size = len(headers) + len(body)
            log.count += 1
            log.size += size
            position = log.base + sequence
            messages += (
                position, log.number, id, stamp, timestamp, sender, topic, type, headers, body, crc, priority,
                key,
            )  # fmt: skip
            if log.is_queue:
                self._add_job(log, position, draft, size)
            placed = Placed(id, sequence)
            if draft.id is not None:
                self._ids[log.number, id] = Known(placed, type, body)
            if dedupe is not None:
                self._remember(log, dedupe, placed)
            result.append(placed)
        return result

    def _add_job(self, log: Log, position: int, draft: Draft, size: int) -> None:
        log.depth += 1
        due, key = draft.due, draft.key
        if due is not None and due <= self._transaction.now:
            due = None
        state = READY if due is None else DELAYED
        if key is not None and self._is_held(log, key):
            state = HELD
        self._jobs += (position, log.number, state, draft.priority, key, size, due)

    def _log(self, name: str) -> Log:
        log = find_log(self._transaction, name)
        if log is None:
            raise NotStarted(f"Log {name!r}")
        self._logs[name] = log
        return log

    def _unused(self, log: Log) -> int:
        """Return an id that no writer gave a message of his own."""
        conn = self._transaction.conn
        while (log.number, id := str(self._stamp)) in self._ids or conn.execute(
            sql.POSITION, (log.number, id)
        ).fetchone():
            self._stamp += 1
        return self._stamp

    def _known(self, log: Log, draft: Draft) -> Placed | None:
        """Return where a draft is already."""
        found = None if draft.id is None else self._known_id(log, draft, draft.id)
        if found is None and draft.dedupe is not None:
            found = self._known_key(log, draft.dedupe)
        return found

    def _known_id(self, log: Log, draft: Draft, id: str) -> Placed | None:
        known = self._ids.get((log.number, id))
        if known is not None:
            same = known.type == draft.type and known.body == draft.body
            found = known.placed
        else:
            parameters = (draft.type, draft.body, log.number, id)
            row = self._transaction.conn.execute(sql.SAME, parameters).fetchone()
            if row is None:
                return None
            same, found = bool(row[1]), Placed(id, row[0] - log.base)
        if not same:
            raise MessageConflict(log.name, "id", id)
        return found._replace(duplicate=True)

    def _known_key(self, log: Log, dedupe: Dedupe) -> Placed | None:
        known = self._dedupes.get((log.number, dedupe.key))
        if known is None:
            parameters = (log.number, dedupe.key, self._transaction.now)
            row = self._transaction.conn.execute(sql.KNOWN_KEY, parameters).fetchone()
            if row is None:
                return None
            known = row[0], Placed(row[1], row[2])
        if known[0] != dedupe.digest:
            raise MessageConflict(log.name, "dedupe key", dedupe.key)
        return known[1]._replace(duplicate=True)

    def _remember(self, log: Log, dedupe: Dedupe, placed: Placed) -> None:
        self._dedupes[log.number, dedupe.key] = dedupe.digest, placed
        expires = self._transaction.now + dedupe.seconds
        self._keys.append((log.number, dedupe.key, dedupe.digest, placed.id, placed.sequence, expires))

    def _is_held(self, log: Log, key: str) -> bool:
        """Return whether an older message of the key is still there."""
        place = log.number, key
        if place in self._heads or self._transaction.conn.execute(sql.KEY_HEAD, place).fetchone():
            return True
        self._heads[place] = None
        return False

    def _check_depth(self, limits: Mapping[str, int], before: Mapping[str, int]) -> None:
        for name, limit in limits.items():
            log = self._logs.get(name)
            if log is None:
                continue
            depth = before.get(name)
            if depth is None:
                # First seen in this operation: the row still says what it was.
                depth = find_depth(self._transaction, name)
            if depth < log.depth > limit:
                raise QueueFull(name, depth, limit)


def find_depth(transaction: Transaction, name: str) -> int:
    """Return how many messages of a log are not done."""
    log = find_log(transaction, name)
    return 0 if log is None else int(log.depth)


def _insert(conn: sqlite3.Connection, statements: Mapping[int, str], width: int, values: list[Any]) -> None:
    """Insert rows, many with each statement: the thread hands the GIL to the loop for every single one."""
    start, end = 0, len(values)
    for rows, statement in statements.items():
        while end - start >= rows * width:
            conn.execute(statement, values[start : start + rows * width])
            start += rows * width


def _never(_: Transaction) -> None:
    raise AssertionError("appends are applied together")
