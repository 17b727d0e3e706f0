"""The verbs of the catalogue."""

from sssnbus.errors import ChannelKindMismatch
from sssnbus.stores.base import Catalogue, Counts, Kind, LogInfo, Usage
from sssnbus.stores.postgres import sql
from sssnbus.stores.postgres.core import Core
from sssnbus.stores.postgres.operation import Call


class Logbook(Core, Catalogue):
    """The catalogue as a table with one row for each log."""

    async def declare(self, log: str, kind: Kind) -> Kind:
        known = await self._read("A declaration", sql.KIND, log)
        if not known:
            await self._write(
                Call("A declaration", sql.DECLARE, lambda _: [log, kind.value], lambda rows: None)
            )
            return await self.declare(log, kind)
        recorded, number = known[0]
        self._marks.know(log, number)
        return Kind(recorded)

    async def logs(self, prefix: str = "") -> list[LogInfo]:
        rows = await self._read("A list", sql.LOGS, prefix)
        return [LogInfo(name, Kind(kind), *rest) for name, kind, *rest in rows]

    async def counts(self, log: str) -> Counts:
        rows = await self._read("A count", sql.COUNTS, log, *self._moment())
        if not rows:
            return Counts()
        kind, count, depth, due, resting, leased = rows[0]
        if kind != Kind.QUEUE:
            raise ChannelKindMismatch(log, Kind(kind), Kind.QUEUE)
        delayed = due + resting
        return Counts(depth - delayed - leased, delayed, leased, count - depth)

    async def drop(self, log: str) -> None:
        """Forget a log with its messages and its declaration; its next sequence starts from 1.

        The log is gone after the first transaction. Its rows are removed in steps; what is left of them
        when that is cancelled goes with the next ``drop`` or ``vacuum``.
        """
        await self._write(Call("A drop", sql.DROP, lambda _: [log], lambda rows: None))
        await self._sweep()

    async def vacuum(self, log: str | None = None, *, compact: bool = False) -> int:
        """Remove messages in state *done*, of one log or of all; return how many.

        It goes in steps, each a whole transaction. Cancelling it leaves the steps that were made. With
        ``compact`` the server then writes each table anew (``CLUSTER``): that needs as much disk again,
        and whoever reads or writes the table waits meanwhile, no longer than its own ``timeout``. A table
        that somebody keeps reading for longer than half of ours ends it with ``StoreTimeout``.
        """
        removed = 0
        while step := await self._write(
            Call("A vacuum", sql.VACUUM, lambda _: [log], lambda rows: int(rows[0][0]))
        ):
            removed += step
        await self._sweep()
        if compact:
            await self._run_apart("Compacting", sql.COMPACT)
        return removed

    async def usage(self) -> Usage:
        """Return how many bytes the tables take up. Ids rise in each log only, so there is no last one."""
        rows = await self._read("A look", sql.SIZE)
        return Usage(None, rows[0][0])

    async def _sweep(self) -> None:
        while await self._write(Call("A sweep", sql.SWEEP, lambda _: [], lambda rows: rows[0][0])):
            pass
