"""Which messages are meant: positions by selection, by readiness and by time."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sssnbus.stored import Stored
from sssnbus.stores.base import Selection, Standing, State
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.append import DELAYED, DONE, LEASED, READY, Log

STEP: Final = 1000
"""Rows that one statement or one transaction touches at most, beside what the caller asked for."""

_ABOVE_ALL: Final = "~"
"""Sorts behind every id."""

ALL: Final = Selection()


def stored_at(conn: sqlite3.Connection, positions: Sequence[int]) -> list[Stored]:
    """Return the messages at positions."""
    return [stored for position in positions for stored in stored_rows(conn, sql.STORED, (position,))]


def stored_rows(conn: sqlite3.Connection, statement: str, parameters: Sequence[object]) -> list[Stored]:
    """Return messages; of a damaged one whatever can be read, for its checksum is to tell of it."""
    try:
        rows = conn.execute(statement, parameters).fetchall()
    except sqlite3.OperationalError as exc:
        if "UTF-8" not in str(exc):
            raise
        conn.text_factory = _legible
        try:
            rows = conn.execute(statement, parameters).fetchall()
        finally:
            conn.text_factory = str
    return [Stored._make(row if type(row[6]) is type(row[7]) is bytes else _with_blobs(row)) for row in rows]


def _legible(text: bytes) -> str:
    return text.decode(errors="replace")


def _with_blobs(row: tuple[Any, ...]) -> tuple[Any, ...]:
    headers, body = (part if isinstance(part, bytes) else str(part).encode() for part in row[6:8])
    return *row[:6], headers, body, *row[8:]


def locate(conn: sqlite3.Connection, log: Log, stamp: int) -> int:
    """Return the position after which everything was stored at or after a time of the id clock."""
    low, high = log.base + log.floor, log.end
    # Invariant: nothing up to `low` is new enough, everything after `high` is.
    while low < high:
        middle = (low + high) // 2
        row = conn.execute(sql.NEAREST, (middle, high)).fetchone()
        if row is None or row[1] >= stamp:
            high = middle
        else:
            low = row[0]
    row = conn.execute(sql.NEAREST, (low, log.end)).fetchone()
    return log.end if row is None else int(row[0]) - 1


def of_ids(conn: sqlite3.Connection, log: Log, select: Selection) -> list[int]:
    """Return the positions of a selection that names ids, oldest first."""
    ids = (id for id in set(select.ids or ()) if _within(id, select))
    rows = (conn.execute(sql.POSITION, (log.number, id)).fetchone() for id in ids)
    return sorted(row[0] for row in rows if row is not None)


def of_log(conn: sqlite3.Connection, log: Log, select: Selection | None, limit: int) -> list[int]:
    """Return the positions of the oldest messages of a plain log."""
    select = select or ALL
    if select.ids is not None:
        return of_ids(conn, log, select)[:limit]
    low, high = _interval(select)
    parameters = (log.base, log.end, low, high, limit)
    return [row[0] for row in conn.execute(sql.INTERVAL, parameters)]


def ready(conn: sqlite3.Connection, log: Log, select: Selection | None, limit: int) -> list[int]:
    """Return ready positions by priority, then by age."""
    if select is None:
        return [row[0] for row in conn.execute(sql.READY, (log.number, limit)).fetchall()]
    if select.ids is not None:
        jobs = _jobs(conn, log, select)
        found = sorted((-priority, position) for position, state, priority in jobs if state == READY)
        return [position for _, position in found[:limit]]
    chosen: list[int] = []
    for stretch in _by_priority(conn, log, select, limit):
        chosen += stretch
        if len(chosen) >= limit:
            break
    return chosen[:limit]


def oldest_ready(
    conn: sqlite3.Connection, log: Log, select: Selection | None, limit: int, *, done: bool = False
) -> list[int]:
    """Return ready positions by age, with ``done`` also those that are done and named by id."""
    select = select or ALL
    if select.ids is not None:
        states = (READY, DONE) if done else (READY,)
        return [position for position, state, _ in _jobs(conn, log, select) if state in states][:limit]
    return sorted(position for stretch in _by_priority(conn, log, select, limit) for position in stretch)[
        :limit
    ]


def ready_by_time(
    conn: sqlite3.Connection, log: Log, select: Selection | None, now: float, elapsed: float, limit: int
) -> list[int]:
    """Return positions of what the next claim will find ready because its time has come."""
    rows = conn.execute(sql.DUE, (log.number, now, limit)).fetchall()
    rows += conn.execute(sql.ENDED, (log.number, elapsed, limit)).fetchall()
    positions = [row[0] for row in rows]
    if select is None:
        return positions
    if select.ids is not None:
        named = set(of_ids(conn, log, select))
        return [position for position in positions if position in named]
    return [stored.sequence + log.base for stored in stored_at(conn, positions) if _within(stored.id, select)]


def standing(job: tuple[Any, ...], now: float, elapsed: float) -> Standing:
    """Return what the row of a job says about a moment."""
    state, attempt, due, until, error, token = job
    if state == DONE:
        return Standing(State.DONE, attempt, None, error)
    if state == LEASED and until > elapsed:
        return Standing(State.LEASED, attempt, None, error, token, until)
    if state == DELAYED and until is not None and until > elapsed:
        return Standing(State.DELAYED, attempt, now + until - elapsed, error)
    early = due is not None and due > now
    # One that waits behind its key counts as ready; that it is due later is not lost.
    if state == DELAYED and early:
        return Standing(State.DELAYED, attempt, due, error)
    return Standing(State.READY, attempt, due if early else None, error)


def _jobs(conn: sqlite3.Connection, log: Log, select: Selection) -> list[tuple[int, int, int]]:
    found = []
    for position in of_ids(conn, log, select):
        row = conn.execute(sql.RANK, (position,)).fetchone()
        if row is not None:
            found.append((position, row[0], row[1]))
    return found


def _by_priority(conn: sqlite3.Connection, log: Log, select: Selection, limit: int) -> Iterator[list[int]]:
    """Yield the oldest ready positions of each priority, the highest first."""
    low, high = _interval(select)
    priority = float("inf")
    while (row := conn.execute(sql.NEXT_PRIORITY, (log.number, priority)).fetchone()) is not None:
        priority = row[0]
        if select == ALL:
            rows = conn.execute(sql.READY_OF_PRIORITY, (log.number, priority, limit))
        else:
            rows = conn.execute(sql.READY_INTERVAL, (log.number, priority, low, high, limit))
        yield [row[0] for row in rows.fetchall()]


def _interval(select: Selection) -> tuple[str, str]:
    return select.after or "", select.before or _ABOVE_ALL


def _within(id: str, select: Selection) -> bool:
    low, high = _interval(select)
    return low < id < high
