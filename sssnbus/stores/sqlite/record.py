"""The verbs of records and of wake-ups."""

import sqlite3
from collections.abc import Callable
from functools import partial

from sssnbus.stores.base import News, Record, Records, Wakeups
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.core import Core
from sssnbus.stores.sqlite.owner import is_alive
from sssnbus.stores.sqlite.transaction import Transaction


class Shelf(Core, Records):
    """Records as a table."""

    async def get(self, space: str, name: str) -> Record | None:
        return await self._read(_get, space, name)

    async def put(self, space: str, name: str, value: bytes, *, version: int | None) -> int | None:
        return await self._write("A record", partial(_put, space, name, value, version))

    async def delete(self, space: str, name: str) -> bool:
        return await self._write("A deletion", partial(_delete, space, name))

    async def names(self, space: str) -> dict[str, Record]:
        return await self._read(_names, space)

    async def alive(self, owner: str) -> bool:
        self._check()
        alive = is_alive(self._opened.marks, owner, self.owner)
        return await self._read(_is_listed, owner) if alive is None else alive


class Doorbells(Core, Wakeups):
    """Wake-ups by doorbells, and by looking."""

    def watch(
        self, ring: Callable[[], None], take: Callable[[News], None] | None = None
    ) -> Callable[[], None]:
        self._check()
        if self._doorbells:
            # It touches the file system, which is nothing for the loop.
            self._reader.post(self._bells.listen)
        return self._bells.watchers.add(ring, take)

    async def changed(self) -> bool:
        """Return whether anybody may have written since the last call; own writes count too."""
        version = await self._read(_version)
        changed, self._version = version != self._version, version
        return changed

    _version: int | None = None


def _get(conn: sqlite3.Connection, space: str, name: str) -> Record | None:
    row = conn.execute(sql.GET, (space, name)).fetchone()
    return None if row is None else Record._make(row)


def _put(space: str, name: str, value: bytes, version: int | None, transaction: Transaction) -> int | None:
    conn = transaction.conn
    there = conn.execute(sql.GET, (space, name)).fetchone()
    if (None if there is None else there[1]) != version:
        return None
    # From the clock of the store: a version does not come back when a value is deleted and made anew.
    new = transaction.stamp()
    conn.execute(sql.PUT, (space, name, value, new))
    return new


def _delete(space: str, name: str, transaction: Transaction) -> bool:
    return transaction.conn.execute(sql.DELETE, (space, name)).rowcount > 0


def _names(conn: sqlite3.Connection, space: str) -> dict[str, Record]:
    rows = conn.execute(sql.NAMES, (space,)).fetchall()
    return {name: Record(value, version) for name, value, version in rows}


def _is_listed(conn: sqlite3.Connection, owner: str) -> bool:
    number = owner.rpartition(":")[2]
    return conn.execute(sql.OWNER, (int(number),)).fetchone() is not None


def _version(conn: sqlite3.Connection) -> int:
    return int(conn.execute(sql.DATA_VERSION).fetchone()[0])
