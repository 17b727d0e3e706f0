"""The verbs of the catalogue."""

import logging
from typing import Any

from redis.exceptions import RedisError

from sssnbus.stores.base import Catalogue, Counts, Kind, LogInfo, Usage
from sssnbus.stores.redis.codec import Bytes
from sssnbus.stores.redis.core import Core, nothing
from sssnbus.stores.redis.failure import reason
from sssnbus.stores.redis.log import values
from sssnbus.stores.redis.wire import Wire

_log = logging.getLogger(__name__)


class Logbook(Core, Catalogue):
    """The catalogue as a sorted set of names, and a hash for each log."""

    async def declare(self, log: str, kind: Kind) -> Kind:
        found = await self._read("A look", ("kind", log), _known)
        if found is None:
            found = await self._write("A declaration", ("declare", log, kind), _declared)
        known, born = found
        if self._born.get(log) != born:
            # It was dropped and declared anew since we knew it, and counts from 1 again.
            self._born[log] = born
            self._marks.pop(log, None)
        return known

    async def logs(self, prefix: str = "") -> list[LogInfo]:
        return await self._read("A list", ("logs", prefix), _infos)

    async def counts(self, log: str) -> Counts:
        return await self._read("A count", ("counts", log), _counts)

    async def drop(self, log: str) -> None:
        await self._write("A drop", ("drop", log), nothing)

    async def vacuum(self, log: str | None = None, *, compact: bool = False) -> int:
        """Remove messages in state *done*, of one log or of all; return how many.

        It goes in steps, each whole. Cancelling it leaves the steps that were made. The server reuses
        memory by itself; with ``compact`` it is asked to write its append-only file anew, if it has one,
        and does so in the background.
        """
        removed, more = 0, True
        while more:
            step, more = await self._write("A vacuum", ("vacuum", log), values)
            removed += step
        if compact:
            await self._compact()
        return removed

    async def usage(self) -> Usage:
        """Return the newest id, and the memory that the store takes up in the server.

        What big collections take is estimated by the server. Where it does not tell, the size is 0.
        """
        return await self._read("A look", ("usage",), _usage)

    async def _compact(self) -> None:
        """Have the append-only file written anew. No script may ask for that, so it is asked for directly."""
        wire, limit = Wire(self._place), self._place.connect_timeout
        try:
            await wire.connect()
            if b"aof_enabled:1" in await wire.ask("INFO", "persistence", limit=limit):
                await wire.ask("BGREWRITEAOF", limit=limit)
        except (RedisError, OSError) as exc:
            # It may be at it already, or we may not ask; nothing that was promised depends on it.
            _log.info("%s does not rewrite its file now: %s", self.url, reason(exc))
        finally:
            await wire.close()


def _known(answer: list[Any], parts: Bytes) -> tuple[Kind, str] | None:
    return None if answer[1] is None else _declared(answer, parts)


def _declared(answer: list[Any], parts: Bytes) -> tuple[Kind, str]:
    return Kind(answer[1]), answer[2]


def _infos(answer: list[Any], parts: Bytes) -> list[LogInfo]:
    return [LogInfo(name, Kind(kind), *rest) for name, kind, *rest in answer[1:]]


def _usage(answer: list[Any], parts: Bytes) -> Usage:
    return Usage(answer[1], answer[2])


def _counts(answer: list[Any], parts: Bytes) -> Counts:
    return Counts(*answer[1:])
