"""Reads: a few connections that see everything committed, and never wait for writes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from sssnbus.errors import BusError, ClosedError, StoreTimeout, StoreUnavailable
from sssnbus.stores.postgres.failure import Lost, from_server, is_again, is_stale
from sssnbus.stores.postgres.link import Connection, Link
from sssnbus.stores.postgres.place import Place

MOST: Final = 4
"""Connections for reads, at most."""

_TRIES: Final = 3
"""How many sessions may fail under one read; each attempt to connect has its own patience beside that."""


class Reader:
    """Runs statements that change nothing, so that any of them can be run again."""

    def __init__(self, place: Place, greet: Callable[[Connection], Awaitable[None]]) -> None:
        self._place, self._greet = place, greet
        self._free: list[Link] = []
        self._links: list[Link] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._room = asyncio.Semaphore(MOST)
        self._closed = False

    async def fetch(self, what: str, statement: str, args: Sequence[Any]) -> list[Any]:
        """Return the rows of one statement, which sees one moment.

        A cancelled read leaves at once; its statement ends by itself, and its connection is used on.
        """
        patience = self._place.timeout
        try:
            async with asyncio.timeout(patience):
                # Here and not in the task: who leaves while it waits must leave nothing behind.
                await self._room.acquire()
        except TimeoutError:
            raise StoreTimeout(what, patience) from None
        task = asyncio.create_task(self._fetch(what, statement, args), name="sssnbus-postgres-read")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def close(self) -> None:
        """End every read. Never waits."""
        self._closed = True
        for link in self._links:
            link.end()

    async def drained(self) -> None:
        """Wait for the reads that ``close`` has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        self._room.release()
        if not task.cancelled():
            # Whoever asked may have left; then nobody else takes note of an error.
            task.exception()

    async def _fetch(self, what: str, statement: str, args: Sequence[Any]) -> list[Any]:
        place = self._place
        if self._closed:
            raise ClosedError(f"Store {place.url}")
        link = self._free.pop() if self._free else self._add()
        try:
            for _ in range(_TRIES):
                await link.connect(place.connect_timeout)
                try:
                    return await link.fetch(place.text(statement), args, place.timeout)
                except Lost:
                    if self._closed:
                        raise ClosedError(f"Store {place.url}") from None
                except Exception as exc:
                    if is_stale(exc) or is_again(exc):
                        continue
                    error: BusError = from_server(exc, place.url, what, place.timeout)
                    raise error from exc
            raise StoreUnavailable(
                f"Store {place.url} was lost during {what.lower()}, again and again. Try later."
            )
        finally:
            self._free.append(link)

    def _add(self) -> Link:
        link = Link(self._place, self._place.dsn, "reader", self._greet)
        self._links.append(link)
        return link
