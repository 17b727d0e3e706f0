"""The verbs of dumps: what records there are, and putting the messages of a queue back as they stood."""

import sqlite3
from collections.abc import Sequence
from functools import partial

from sssnbus.errors import NotStarted
from sssnbus.stored import Draft
from sssnbus.stores.base import Placed, Portable, Standing, State
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.append import Rows
from sssnbus.stores.sqlite.core import Core
from sssnbus.stores.sqlite.settle import Removal, find_queue
from sssnbus.stores.sqlite.transaction import Transaction


class Restoring(Core, Portable):
    """Messages and jobs, written side by side."""

    async def spaces(self) -> list[str]:
        return await self._read(_spaces)

    async def restore(self, log: str, items: Sequence[tuple[Draft, Standing]]) -> list[Placed]:
        return await self._write("A restoration", partial(_restore, log, items))


def _spaces(conn: sqlite3.Connection) -> list[str]:
    return [row[0] for row in conn.execute(sql.SPACES).fetchall()]


def _restore(name: str, items: Sequence[tuple[Draft, Standing]], transaction: Transaction) -> list[Placed]:
    if find_queue(transaction, name) is None:
        raise NotStarted(f"Log {name!r}")
    rows = Rows(transaction)
    placed = rows.place([draft for draft, _ in items], None)
    rows.write()
    # Read anew: its counters have grown.
    log = find_queue(transaction, name)
    assert log is not None
    removal = Removal(transaction, log)
    for place, (draft, standing) in zip(placed, items, strict=True):
        position = log.base + place.sequence
        if place.duplicate:
            continue
        if standing.state is State.DONE:
            removal.finish(position, draft.key)
        elif standing.attempt or standing.error is not None:
            transaction.conn.execute(sql.RESTORE, (standing.attempt, standing.error, position))
    removal.write()
    return placed
