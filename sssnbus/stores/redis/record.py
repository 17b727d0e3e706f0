"""The verbs of records and of wake-ups."""

from collections.abc import Callable
from typing import Any

from sssnbus.stores.base import News, Record, Records, Wakeups
from sssnbus.stores.redis.codec import Bytes
from sssnbus.stores.redis.core import Core
from sssnbus.stores.redis.log import value


class Shelf(Core, Records):
    """Records as hashes, a value behind its version."""

    async def get(self, space: str, name: str) -> Record | None:
        return await self._read("A record", ("get", space, name), _record)

    async def put(self, space: str, name: str, value: bytes, *, version: int | None) -> int | None:
        # Versions are of the clock of ids: one does not come back when a value is deleted and made anew.
        expected = None if version is None else str(version)
        body = ("put", space, name, expected, len(value))
        return await self._write("A record", body, _version, [value])

    async def delete(self, space: str, name: str) -> bool:
        count: int = await self._write("A deletion", ("delete", space, name), value)
        return count > 0

    async def names(self, space: str) -> dict[str, Record]:
        return await self._read("Records", ("names", space), _records)

    async def alive(self, owner: str) -> bool:
        """Return whether the store that called itself ``owner`` is still open, this one included.

        One that ended without closing counts as open for up to 10 seconds.
        """
        self._check()
        if owner == self.owner:
            return True
        alive: int = await self._read("A look", ("alive", owner, self.owner), value)
        return alive == 1


class Hints(Core, Wakeups):
    """Wake-ups by pub/sub, and by looking."""

    _version = ""

    def watch(
        self, ring: Callable[[], None], take: Callable[[News], None] | None = None
    ) -> Callable[[], None]:
        self._check()
        return self._bell.watch(ring, take)

    async def changed(self) -> bool:
        """Return whether anybody may have written since the last call; own writes count too."""
        if self._reader.replaced:
            # Who reads is told.
            return True
        version: str = await self._read("A look", ("changed",), value)
        changed, self._version = version != self._version, version
        return changed


def _version(answer: list[Any], parts: Bytes) -> int | None:
    return int(answer[1]) if len(answer) > 1 else None


def _record(answer: list[Any], parts: Bytes) -> Record | None:
    return Record(parts.take(answer[2]), int(answer[1])) if len(answer) > 1 else None


def _records(answer: list[Any], parts: Bytes) -> dict[str, Record]:
    return {name: Record(parts.take(size), int(version)) for name, version, size in answer[1:]}
