"""The verbs of queues."""

import asyncio
import sqlite3
from collections.abc import Sequence
from functools import partial

from sssnbus.errors import ChannelKindMismatch, NotStarted
from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import (
    Kind,
    Lease,
    Leases,
    QueueStore,
    Release,
    Selection,
    Settlement,
    Standing,
)
from sssnbus.stores.sqlite import select as selecting
from sssnbus.stores.sqlite import settle as settling
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.append import Log, Rows, find_log
from sssnbus.stores.sqlite.log import Logs
from sssnbus.stores.sqlite.settle import Removal, find_queue, refresh
from sssnbus.stores.sqlite.transaction import SEQUENCE_BITS, Transaction
from sssnbus.stores.sqlite.writer import Operation


class Queues(Logs, QueueStore):
    """Queues as logs with a narrow row of state for each message."""

    async def claim(
        self,
        log: str,
        *,
        worker: str,
        lease: float,
        limit: int = 1,
        select: Selection | None = None,
        renew: bool = True,
    ) -> Leases:
        """Hand out up to ``limit`` ready messages: highest priority first, then oldest first.

        A cancelled claim that was committed already gives its messages back before it ends, without
        counting an attempt.
        """
        self._check()
        self._keep()
        owner = self._opened.number if renew else None
        operation = Operation("A claim", partial(self._claim, log, worker, owner, lease, limit, select))
        try:
            base, leases = await self._writer.perform(operation)
        except asyncio.CancelledError:
            if operation.result is not None and operation.result[1].leases:
                await self._undo_claim(log, operation.result[1].leases)
            raise
        if renew and leases.leases:
            self._holds.add(((base + each.stored.sequence, each) for each in leases.leases), lease)
            self._keep().nudge()
        found: Leases = leases
        return found

    async def settle(self, log: str, settlements: Sequence[Settlement]) -> list[bool]:
        tokens = [settlement.token for settlement in settlements]
        settled = await self._write("A settlement", partial(self._settle, log, settlements))
        self._holds.drop(tokens)
        return settled

    async def extend(self, log: str, holds: Sequence[tuple[int, str]], lease: float) -> list[bool]:
        extended = await self._write("An extension", partial(self._extend, log, holds, lease))
        return extended

    async def peek(self, log: str, *, limit: int, select: Selection | None = None) -> list[Stored]:
        return await self._read(_peek, log, self._clock.time(), self._clock.elapsed(), max(limit, 0), select)

    async def standing(self, log: str, sequences: Sequence[int]) -> dict[int, Standing]:
        return await self._read(_standing, log, sequences, self._clock.time(), self._clock.elapsed())

    async def transfer(
        self, source: str, target: str, *, limit: int, select: Selection | None = None
    ) -> list[Stored]:
        return await self._write("A transfer", partial(self._transfer, source, target, limit, select))

    async def _undo_claim(self, log: str, leases: Sequence[Lease]) -> None:
        releases = [Release(lease.stored.sequence, lease.token, counted=False) for lease in leases]
        await self._run_write_now("Undoing a cancelled claim", partial(self._settle, log, releases))

    # From here on inside a transaction, in the thread of the writer.

    def _claim(
        self,
        name: str,
        worker: str,
        owner: int | None,
        seconds: float,
        limit: int,
        select: Selection | None,
        transaction: Transaction,
    ) -> tuple[int, Leases]:
        log = find_queue(transaction, name)
        if log is None:
            return 0, Leases([], None)
        refresh(transaction, log, self._holds)
        token, leases = self._tokens.__next__, list[Lease]()
        # Once more when there was nothing left of what was found.
        while not leases and (positions := selecting.ready(transaction.conn, log, select, max(limit, 0))):
            leases = settling.lease(transaction, log, positions, worker, owner, seconds, token)
        return log.base, Leases(leases, settling.next_due(transaction, log))

    def _settle(self, name: str, settlements: Sequence[Settlement], transaction: Transaction) -> list[bool]:
        log = find_queue(transaction, name)
        if log is None:
            return [False] * len(settlements)
        settling.renew(transaction, self._holds)
        return settling.settle(transaction, log, settlements)

    def _extend(
        self, name: str, holds: Sequence[tuple[int, str]], seconds: float, transaction: Transaction
    ) -> list[bool]:
        log = find_queue(transaction, name)
        if log is None:
            return [False] * len(holds)
        settling.renew(transaction, self._holds)
        # Before the row says so: a renewal in between would move the end again.
        self._holds.fix([token for _, token in holds])
        until, now = transaction.elapsed + seconds, transaction.elapsed
        return [
            transaction.conn.execute(sql.EXTEND, (until, log.base + sequence, token, now)).rowcount > 0
            for sequence, token in holds
        ]

    def _transfer(
        self, source: str, target: str, limit: int, select: Selection | None, transaction: Transaction
    ) -> list[Stored]:
        there = find_log(transaction, target)
        if there is None:
            raise NotStarted(f"Log {target!r}")
        origin = find_log(transaction, source)
        if origin is None:
            return []
        conn = transaction.conn
        if origin.kind == Kind.QUEUE:
            refresh(transaction, origin, self._holds)
            moving: list[Stored] = []
            while not moving and (
                positions := selecting.oldest_ready(conn, origin, select, max(limit, 0), done=True)
            ):
                moving = settling.present(transaction, origin, positions)
        else:
            moving = selecting.stored_at(conn, selecting.of_log(conn, origin, select, max(limit, 0)))
        return _move(transaction, origin, target, moving)


def _peek(
    conn: sqlite3.Connection, name: str, now: float, elapsed: float, limit: int, select: Selection | None
) -> list[Stored]:
    row = conn.execute(sql.LOG, (name,)).fetchone()
    if row is None:
        return []
    log = Log(name, row)
    if log.kind != Kind.QUEUE:
        raise ChannelKindMismatch(name, log.kind, Kind.QUEUE)
    positions = selecting.oldest_ready(conn, log, select, limit)
    positions += selecting.ready_by_time(conn, log, select, now, elapsed, max(limit, selecting.STEP))
    return selecting.stored_at(conn, sorted(set(positions))[:limit])


def _standing(
    conn: sqlite3.Connection, name: str, sequences: Sequence[int], now: float, elapsed: float
) -> dict[int, Standing]:
    found = {}
    conn.execute(sql.SNAPSHOT)
    try:
        row = conn.execute(sql.LOG, (name,)).fetchone()
        log = None if row is None else Log(name, row)
        if log is None:
            return {}
        if log.kind != Kind.QUEUE:
            raise ChannelKindMismatch(name, log.kind, Kind.QUEUE)
        for sequence in sequences:
            job = conn.execute(sql.STANDING, (log.base + sequence,)).fetchone()
            if job is not None:
                found[sequence] = selecting.standing(job, now, elapsed)
    finally:
        conn.execute(sql.COMMIT)
    return found


def _move(transaction: Transaction, origin: Log, target: str, moving: Sequence[Stored]) -> list[Stored]:
    conn = transaction.conn
    positions = [origin.base + stored.sequence for stored in moving]
    drafts = [_as_draft(target, stored) for stored in moving]
    removal = Removal(transaction, origin)
    if origin.name == target:
        for position in positions:
            removal.cut_any(position)
        removal.write()
    rows = Rows(transaction)
    placed = rows.place(drafts, None)
    rows.write()
    if origin.name != target:
        for position in positions:
            removal.cut_any(position)
        removal.write()
    base = _base_of(transaction, target)
    return selecting.stored_at(conn, [base + place.sequence for place in placed])


def _base_of(transaction: Transaction, name: str) -> int:
    log = find_log(transaction, name)
    assert log is not None
    return int(log.number) << SEQUENCE_BITS


def _as_draft(log: str, stored: Stored) -> Draft:
    id, _, timestamp, sender_id, topic, type, headers, body, crc, priority, key = stored
    return Draft(log, id, timestamp, sender_id, topic, type, headers, body, crc, priority, key)
