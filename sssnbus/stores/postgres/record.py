"""The verbs of records and of wake-ups."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from sssnbus.stored import Draft
from sssnbus.stores.base import News, Placed, Portable, Record, Records, Standing, Wakeups
from sssnbus.stores.postgres import sql
from sssnbus.stores.postgres.append import Restore
from sssnbus.stores.postgres.core import Core
from sssnbus.stores.postgres.operation import Batch, Call, Moment, Operation


class Put(Operation):
    """The operation of ``put``."""

    __slots__ = ("row",)

    def __init__(self, space: str, name: str, value: bytes, version: int | None) -> None:
        super().__init__("A record", Puts, len(value))
        self.row = (space, name, value, version)


class Puts(Batch):
    """Many records at once: the cursors of many subscriptions."""

    most = 256

    def call(self, owner: int, number: int, moment: Moment) -> tuple[str, list[Any]]:
        columns = zip(*(put.row for put in self.operations), strict=True)
        return sql.PUT, [owner, number, *map(list, columns)]

    def finish(self, rows: Sequence[Any]) -> None:
        for put, version in zip(self.operations, json.loads(rows[0][0]), strict=True):
            put.result = version


class Shelf(Core, Records, Portable):
    """Records as a table, and what a dump asks for beside them."""

    async def get(self, space: str, name: str) -> Record | None:
        rows = await self._read("A read", sql.GET, space, name)
        return Record._make(rows[0]) if rows else None

    async def put(self, space: str, name: str, value: bytes, *, version: int | None) -> int | None:
        new: int | None = await self._write(Put(space, name, value, version))
        return new

    async def delete(self, space: str, name: str) -> bool:
        there: bool = await self._write(
            Call("A deletion", sql.DELETE, lambda _: [space, name], lambda rows: bool(rows[0][0]))
        )
        return there

    async def names(self, space: str) -> dict[str, Record]:
        rows = await self._read("A read", sql.NAMES, space)
        return {name: Record(value, version) for name, value, version in rows}

    async def spaces(self) -> list[str]:
        return sorted(row[0] for row in await self._read("A read", sql.SPACES))

    async def restore(self, log: str, items: Sequence[tuple[Draft, Standing]]) -> list[Placed]:
        self._check()
        if not items:
            return []
        placed: list[Placed] = await self._write(Restore(log, items, self._identity))
        return placed

    async def alive(self, owner: str) -> bool:
        self._check()
        store, _, number = owner.rpartition(":")
        if owner == self.owner:
            return True
        if store != self._identity.store or not number.isdecimal() or len(number) > 18:
            return False
        rows = await self._read("A look", sql.IS_OWNER, int(number))
        return bool(rows[0][0])


class Bells(Core, Wakeups):
    """Wake-ups by notifications, and by looking."""

    _changes: str | None = None

    def watch(
        self, ring: Callable[[], None], take: Callable[[News], None] | None = None
    ) -> Callable[[], None]:
        self._check()
        return self._listener.watch(ring, take)

    async def changed(self) -> bool:
        """Return whether anybody else may have written since the last call.

        It goes by the batch numbers of the others, and by how many have ever come: who came, wrote and left
        in between has no number any more.
        """
        if self._marks.error is not None:
            # Who reads is told.
            return True
        rows = await self._read("A look", sql.CHANGES, self._identity.number)
        before, self._changes = self._changes, str(rows[0][0])
        return before != self._changes
