"""Inside a transaction: handing out messages of a queue, and what ends that."""

import logging
from collections.abc import Callable, Sequence

from sssnbus.errors import ChannelKindMismatch
from sssnbus.stored import Stored
from sssnbus.stores.base import DEAD, Ack, Bury, Kind, Lease, Release, Settlement
from sssnbus.stores.holds import Hold, Holds
from sssnbus.stores.sqlite import select as selecting
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.append import DELAYED, DONE, HELD, READY, Log, Rows, find_log
from sssnbus.stores.sqlite.transaction import Transaction

_log = logging.getLogger(__name__)


def find_queue(transaction: Transaction, name: str) -> Log | None:
    """Return a queue, None if there is no such log."""
    log = find_log(transaction, name)
    if log is not None and log.kind != Kind.QUEUE:
        raise ChannelKindMismatch(name, log.kind, Kind.QUEUE)
    return log


def refresh(transaction: Transaction, log: Log, holds: Holds[int]) -> None:
    """Make ready what became so by time, but first renew what this process still works on."""
    renew(transaction, holds)
    conn, number = transaction.conn, log.number
    conn.execute(sql.PROMOTE, (number, transaction.now, selecting.STEP))
    conn.execute(sql.TAKE_BACK, (number, transaction.elapsed, selecting.STEP))


def renew(transaction: Transaction, holds: Holds[int]) -> None:
    """Begin the leases anew that are due for it."""
    now = transaction.elapsed
    due = holds.due(now)
    if not due:
        return
    good = {
        token
        for token, hold in due
        if transaction.conn.execute(sql.RENEW, (now + hold.seconds, hold.place, token)).rowcount
    }
    holds.renewed(good, now)
    holds.drop(token for token, _ in due if token not in good)


def lease(
    transaction: Transaction,
    log: Log,
    positions: Sequence[int],
    worker: str,
    owner: int | None,
    seconds: float,
    token: Callable[[], str],
) -> list[Lease]:
    """Hand out messages that are ready."""
    conn = transaction.conn
    deadline = transaction.elapsed + seconds
    leases = []
    for stored in present(transaction, log, positions):
        attempts, error = conn.execute(sql.CLAIMED, (log.base + stored.sequence,)).fetchone()
        leases.append(Lease(stored, token(), attempts + 1, deadline, error))
    conn.executemany(
        sql.LEASE,
        [(worker, owner, lease.token, deadline, log.base + lease.stored.sequence) for lease in leases],
    )
    return leases


def present(transaction: Transaction, log: Log, positions: Sequence[int]) -> list[Stored]:
    """Return the messages of a queue at positions; take out, aloud, what damage has left of others."""
    found = selecting.stored_at(transaction.conn, positions)
    if len(found) < len(positions):
        removal = Removal(transaction, log)
        for position in sorted({*positions} - {log.base + stored.sequence for stored in found}):
            _log.error(
                "Message %d of queue %r was destroyed in the store; it is counted no more.",
                position - log.base,
                log.name,
            )
            removal.cut_any(position)
        removal.write()
    return found


def next_due(transaction: Transaction, log: Log) -> float | None:
    """Return the seconds until something becomes ready by time alone."""
    due = transaction.conn.execute(sql.NEXT_DUE, (log.number,)).fetchone()
    until = transaction.conn.execute(sql.NEXT_UNTIL, (log.number,)).fetchone()
    waits = []
    if due is not None:
        waits.append(due[0] - transaction.now)
    if until is not None:
        waits.append(until[0] - transaction.elapsed)
    return max(0.0, min(waits)) if waits else None


def settle(transaction: Transaction, log: Log, settlements: Sequence[Settlement]) -> list[bool]:
    """End leases whose tokens are good."""
    removal = Removal(transaction, log)
    result = []
    for settlement in settlements:
        position = log.base + settlement.sequence
        parameters = (position, settlement.token, transaction.elapsed)
        row = transaction.conn.execute(sql.HELD, parameters).fetchone()
        result.append(row is not None)
        if row is None:
            continue
        if isinstance(settlement, Release):
            _give_back(transaction, position, settlement)
        elif isinstance(settlement, Ack) and settlement.keep:
            removal.finish(position, row[0])
        else:
            removal.cut(position, *row, open=True)
            if isinstance(settlement, Bury):
                _bury(transaction, log, settlement)
    removal.write()
    return result


def _give_back(transaction: Transaction, position: int, release: Release) -> None:
    _, _, delay, counted, error = release
    state, until = (DELAYED, transaction.elapsed + delay) if delay > 0 else (READY, None)
    transaction.conn.execute(sql.GIVE_BACK, (state, until, 0 if counted else 1, error, position))
    transaction.news = True


def _bury(transaction: Transaction, log: Log, bury: Bury) -> None:
    name = log.name + DEAD
    conn = transaction.conn
    conn.execute(sql.DECLARE, (name, Kind.LOG))
    dead = find_log(transaction, name)
    assert dead is not None
    older = conn.execute(sql.POSITION, (dead.number, bury.draft.id)).fetchone()
    if older is not None:
        removal = Removal(transaction, dead)
        removal.cut_any(older[0])
        removal.write()
    rows = Rows(transaction)
    rows.place([bury.draft._replace(channel=name, dedupe=None, due=None)], None)
    rows.write()


def leave(holds: Sequence[tuple[str, Hold[int]]], number: int, transaction: Transaction) -> None:
    """Give back what a closing store holds, as if it had never been handed out, and take it off the list."""
    for token, hold in holds:
        position = hold.place
        row = transaction.conn.execute(sql.HELD, (position, token, transaction.elapsed)).fetchone()
        if row is not None:
            _give_back(transaction, position, Release(position, token, counted=False))
    transaction.conn.execute(sql.END_OWNER, (number,))


class Removal:
    """Takes messages out of a log and keeps its counters and its keys right."""

    def __init__(self, transaction: Transaction, log: Log) -> None:
        self._transaction = transaction
        self._log = log
        self.count = 0
        self._size = 0
        self._open = 0

    def cut(self, position: int, key: str | None, size: int, *, open: bool) -> None:
        """Remove a message of a queue whose job is known."""
        conn = self._transaction.conn
        conn.execute(sql.CUT_JOB, (position,))
        conn.execute(sql.CUT_MESSAGE, (position,))
        self.count += 1
        self._size += size
        self._open += open
        if open and key is not None:
            self.promote(key)

    def cut_any(self, position: int) -> None:
        """Remove a message of any log, in whatever state."""
        conn = self._transaction.conn
        job = conn.execute(sql.JOB, (position,)).fetchone()
        if job is not None:
            state, key, size = job
            self.cut(position, key, size, open=state != DONE)
            return
        self._size += conn.execute(sql.SIZE, (position,)).fetchone()[0]
        conn.execute(sql.CUT_MESSAGE, (position,))
        self.count += 1

    def finish(self, position: int, key: str | None) -> None:
        """Let a message be done but stay."""
        self._transaction.conn.execute(sql.DONE, (position,))
        self._open += 1
        if key is not None:
            self.promote(key)

    def cut_upto(self, start: int, end: int, count: int, size: int) -> None:
        """Remove a stretch whose count and size are known."""
        conn = self._transaction.conn
        keys: list[tuple[str]] = []
        if self._log.kind == Kind.QUEUE:
            keys = conn.execute(sql.KEYS, (start, end)).fetchall()
            self._open += conn.execute(sql.OPEN_JOBS, (start, end)).fetchone()[0]
            conn.execute(sql.CUT_JOBS, (start, end))
        conn.execute(sql.CUT_MESSAGES, (start, end))
        self.count += count
        self._size += size
        for (key,) in keys:
            self.promote(key)

    def promote(self, key: str) -> None:
        """Let the oldest message of a key be ready when its turn has come."""
        conn = self._transaction.conn
        head = conn.execute(sql.KEY_HEAD, (self._log.number, key)).fetchone()
        if head is not None and head[1] == HELD:
            conn.execute(sql.FREE_HEAD, (head[0],))
            self._transaction.news = True

    def write(self) -> None:
        """Bring the row of the log up to date."""
        if self.count or self._open:
            parameters = (self.count, self._size, self._open, self._log.number)
            self._transaction.conn.execute(sql.SHRINK, parameters)
