"""The verbs of logs."""

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial

from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import ByID, LogStore, Page, Placed
from sssnbus.stores.sqlite import select as selecting
from sssnbus.stores.sqlite import sql, topic
from sssnbus.stores.sqlite.append import Append, Log, find_log
from sssnbus.stores.sqlite.core import Core
from sssnbus.stores.sqlite.settle import Removal
from sssnbus.stores.sqlite.transaction import LAST_SEQUENCE, Transaction, stamp_of
from sssnbus.topics import Pattern


class Logs(Core, LogStore, ByID):
    """Logs as stretches of one table."""

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        max_depth: Mapping[str, int] | None = None,
        timeout: float | None = None,
    ) -> list[Placed]:
        self._check()
        if not drafts:
            return []
        placed: list[Placed] = await self._writer.perform(Append(drafts, max_depth), timeout)
        return placed

    async def read(
        self, log: str, *, after: int, limit: int, upto: int | None = None, topics: Sequence[Pattern] = ()
    ) -> Page:
        return await self._read(_page, log, after, limit, LAST_SEQUENCE if upto is None else upto, topics)

    async def last(self, logs: Sequence[str]) -> dict[str, int]:
        return await self._read(_last, logs)

    async def locate(self, log: str, time: float) -> int:
        return await self._read(_locate, log, time)

    async def find(self, log: str, id: str) -> Stored | None:
        return await self._read(_find, log, id)

    async def trim(
        self,
        log: str,
        *,
        upto: int | None = None,
        older_than: float | None = None,
        max_count: int | None = None,
        max_bytes: int | None = None,
    ) -> int:
        """Remove from the old end whatever any given bound rules out; return how many went.

        It goes in steps, each a whole transaction, so that others can write in between. Cancelling it
        leaves the steps that were made.
        """
        bounds = partial(
            _rules_out,
            -1 if upto is None else upto,
            0 if older_than is None else stamp_of(older_than),
            max_count,
            max_bytes,
        )
        removed = 0
        while step := await self._write("A trim", partial(_trim, log, bounds, upto)):
            removed += step
            if step < selecting.STEP:
                break
        return removed

    async def remove(self, log: str, ids: Sequence[str]) -> int:
        return await self._write("A removal", partial(_remove, log, tuple(dict.fromkeys(ids))))


def _page(
    conn: sqlite3.Connection, name: str, after: int, limit: int, upto: int, topics: Sequence[Pattern]
) -> Page:
    # One snapshot, so that the messages and what is said about the log agree.
    conn.execute(sql.SNAPSHOT)
    try:
        row = conn.execute(sql.LOG, (name,)).fetchone()
        if row is None:
            return Page([], 0, 0, max(after, 0))
        log = Log(name, row)
        start, end, count = max(after, 0), min(upto, log.last), max(limit, 0)
        if topics:
            messages, end = topic.page(conn, log, start, end, count, topics)
        else:
            messages = selecting.stored_rows(conn, sql.PAGE, (log.base + start, log.base + end, count))
    finally:
        conn.execute(sql.COMMIT)
    # Of some patterns the engine can tell a part only.
    return Page.of(messages, log.floor, log.last, after=after, limit=limit, end=end).only(topics)


def _last(conn: sqlite3.Connection, names: Sequence[str]) -> dict[str, int]:
    rows = ((name, conn.execute(sql.LAST, (name,)).fetchone()) for name in names)
    return {name: 0 if row is None else int(row[0]) for name, row in rows}


def _locate(conn: sqlite3.Connection, name: str, time: float) -> int:
    row = conn.execute(sql.LOG, (name,)).fetchone()
    if row is None:
        return 0
    log = Log(name, row)
    return selecting.locate(conn, log, stamp_of(time)) - log.base


def _find(conn: sqlite3.Connection, log: str, id: str) -> Stored | None:
    return next(iter(selecting.stored_rows(conn, sql.FIND, (log, id))), None)


def _rules_out(
    upto: int, stamp: int, max_count: int | None, max_bytes: int | None,
    sequence: int, stored: int, count: int, size: int,
) -> bool:  # fmt: skip
    """Return whether bounds rule out the oldest message of a log that holds ``count`` and ``size``."""
    return (
        sequence <= upto
        or stored < stamp
        or (max_count is not None and count > max_count)
        or (max_bytes is not None and size > max_bytes)
    )


def _trim(name: str, rules_out: "partial[bool]", upto: int | None, transaction: Transaction) -> int:
    log = find_log(transaction, name)
    if log is None:
        return 0
    count = size = 0
    end = log.base
    for position, stored, weight in transaction.conn.execute(
        sql.OLDEST, (log.base, log.end, selecting.STEP)
    ).fetchall():
        if not rules_out(position - log.base, stored, log.count - count, log.size - size):
            break
        count, size, end = count + 1, size + weight, position
    removal = Removal(transaction, log)
    if count:
        removal.cut_upto(log.base, end, count, size)
        removal.write()
    floor = end - log.base
    if upto is not None and count < selecting.STEP:
        floor = max(floor, min(upto, log.last))
    if floor > log.floor:
        transaction.conn.execute(sql.RAISE_FLOOR, (floor, log.number))
    return count


def _remove(name: str, ids: Sequence[str], transaction: Transaction) -> int:
    log = find_log(transaction, name)
    if log is None:
        return 0
    removal = Removal(transaction, log)
    for id in ids:
        row = transaction.conn.execute(sql.POSITION, (log.number, id)).fetchone()
        if row is not None:
            removal.cut_any(row[0])
    removal.write()
    return removal.count
