"""The verbs of the catalogue."""

import sqlite3
from functools import partial

from sssnbus.errors import ChannelKindMismatch
from sssnbus.stores.base import DEAD, Catalogue, Counts, Kind, LogInfo, Usage
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.append import Log, find_log
from sssnbus.stores.sqlite.core import Core
from sssnbus.stores.sqlite.file import DatabaseFile
from sssnbus.stores.sqlite.select import STEP
from sssnbus.stores.sqlite.settle import Removal
from sssnbus.stores.sqlite.transaction import LAST_SEQUENCE, SEQUENCE_BITS, Transaction


class Logbook(Core, Catalogue):
    """The catalogue as a table with one row for each log."""

    async def declare(self, log: str, kind: Kind) -> Kind:
        known = await self._read(_kind, log)
        if known is not None:
            return known
        return await self._write("A declaration", partial(_declare, log, kind))

    async def logs(self, prefix: str = "") -> list[LogInfo]:
        return await self._read(_logs, prefix)

    async def counts(self, log: str) -> Counts:
        return await self._read(_counts, log, self._clock.time(), self._clock.elapsed())

    async def drop(self, log: str) -> None:
        """Forget a log with its messages and its declaration; its next sequence starts from 1.

        The log is gone after the first transaction. Its rows are removed in steps; what is left of them
        when that is cancelled goes with the next ``drop`` or ``vacuum``.
        """
        await self._write("A drop", partial(_drop, log))
        await self._sweep()

    async def vacuum(self, log: str | None = None, *, compact: bool = False) -> int:
        """Remove messages in state *done*, of one log or of all; return how many.

        It goes in steps, each a whole transaction. Cancelling it leaves the steps that were made. With
        ``compact`` the file is then written anew, without the room that is free in it: that needs as much
        disk again, and every other writer of the file waits.
        """
        removed = 0
        while step := await self._write("A vacuum", partial(_vacuum, log)):
            removed += step
        await self._sweep()
        if compact:
            await self._run_alone("Compacting", compact_file)
        return removed

    async def usage(self) -> Usage:
        return await self._read(_usage)

    async def _sweep(self) -> None:
        while await self._write("A sweep", _sweep):
            pass


def _kind(conn: sqlite3.Connection, name: str) -> Kind | None:
    row = conn.execute(sql.KIND, (name,)).fetchone()
    return None if row is None else Kind(row[0])


def _declare(name: str, kind: Kind, transaction: Transaction) -> Kind:
    conn = transaction.conn
    if conn.execute(sql.DECLARE, (name, kind)).rowcount:
        transaction.news = True
        if "!" not in name:
            conn.execute(sql.DECLARE, (name + DEAD, Kind.LOG))
    return Kind(conn.execute(sql.KIND, (name,)).fetchone()[0])


def _logs(conn: sqlite3.Connection, prefix: str) -> list[LogInfo]:
    rows = conn.execute(sql.LOGS, (prefix,)).fetchall()
    return [LogInfo(name, Kind(kind), *rest) for name, kind, *rest in rows]


def _counts(conn: sqlite3.Connection, name: str, now: float, elapsed: float) -> Counts:
    conn.execute(sql.SNAPSHOT)
    try:
        row = conn.execute(sql.LOG, (name,)).fetchone()
        if row is None:
            return Counts()
        log = Log(name, row)
        if log.kind != Kind.QUEUE:
            raise ChannelKindMismatch(name, log.kind, Kind.QUEUE)
        due, resting, leased = conn.execute(sql.COUNTS, (log.number, now, elapsed)).fetchone()
    finally:
        conn.execute(sql.COMMIT)
    delayed = due + resting
    return Counts(log.depth - delayed - leased, delayed, leased, log.count - log.depth)


def _drop(name: str, transaction: Transaction) -> None:
    names = [name] if "!" in name else [name, name + DEAD]
    conn = transaction.conn
    for each in names:
        log = find_log(transaction, each)
        if log is not None:
            conn.execute(sql.FORGET_LOG, (log.number,))
            conn.execute(sql.DROPPED, (log.number,))
            transaction.news = True
    # The companion of a channel that stays begins anew.
    if name.endswith(DEAD) and find_log(transaction, name.removesuffix(DEAD)) is not None:
        conn.execute(sql.DECLARE, (name, Kind.LOG))


def _vacuum(name: str | None, transaction: Transaction) -> int:
    conn = transaction.conn
    if name is None:
        row = conn.execute(sql.DONE_LOG).fetchone()
        name = None if row is None else row[0]
    log = None if name is None else find_log(transaction, name)
    if log is None:
        return 0
    rows = conn.execute(sql.DONE_OF, (log.number, STEP)).fetchall()
    removal = Removal(transaction, log)
    for position, size in rows:
        removal.cut(position, None, size, open=False)
    removal.write()
    return removal.count


def _usage(conn: sqlite3.Connection) -> Usage:
    conn.execute(sql.SNAPSHOT)
    try:
        (last,) = conn.execute(sql.CLOCK).fetchone()
        # Pages and not the files: what a checkpoint has still to do does not count twice.
        (pages,) = conn.execute(sql.PAGE_COUNT).fetchone()
        (size,) = conn.execute(sql.PAGE_SIZE).fetchone()
    finally:
        conn.execute(sql.COMMIT)
    return Usage(str(last) if last else None, pages * size)


def compact_file(conn: sqlite3.Connection, file: DatabaseFile) -> None:
    """Write the database anew, without free pages, and move it out of the WAL. With the ticket."""
    file.check(conn)
    conn.execute(sql.VACUUM)
    # If somebody goes on reading what was, the file shrinks with a later checkpoint: all wait for us.
    conn.execute(sql.SHORT_WAIT)
    try:
        conn.execute(sql.TRUNCATE).fetchone()
    finally:
        conn.execute(sql.USUAL_WAIT)
    file.note()


def _sweep(transaction: Transaction) -> bool:
    """Remove some of what is left of a dropped log; return whether there may be more."""
    conn = transaction.conn
    row = conn.execute(sql.NEXT_DROPPED).fetchone()
    if row is None:
        return False
    number = row[0]
    start, end = number << SEQUENCE_BITS, (number << SEQUENCE_BITS) + LAST_SEQUENCE
    more = conn.execute(sql.DROPPED_END, (start, end, STEP)).fetchone()
    end = end if more is None else more[0]
    conn.execute(sql.CUT_JOBS, (start, end))
    conn.execute(sql.CUT_MESSAGES, (start, end))
    if more is None and conn.execute(sql.CUT_KEYS, (number, STEP)).rowcount < STEP:
        conn.execute(sql.END_DROPPED, (number,))
    return True
