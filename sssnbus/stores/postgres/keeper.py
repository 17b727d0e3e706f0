"""The thread that keeps leases alive, says that this store is open, and looks whether others still are.

It has its own event loop and its own connection: a handler that computes for minutes on the loop of the
program must not let leases end. Where a session lasts, it holds an advisory lock in this store's name,
which the server lets go at once when the process is gone; behind a pooler only silence tells.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from sssnbus.clock import Clock
from sssnbus.errors import BusError
from sssnbus.stores.holds import RENEWALS, Holds
from sssnbus.stores.loop import call_soon
from sssnbus.stores.postgres import sql
from sssnbus.stores.postgres.disowned import Disowned
from sssnbus.stores.postgres.failure import Lost, from_server
from sssnbus.stores.postgres.lane import Identity
from sssnbus.stores.postgres.link import Connection, Link
from sssnbus.stores.postgres.operation import Moment
from sssnbus.stores.postgres.place import Place
from sssnbus.stores.postgres.work import At, due_columns

_log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the other owners."""

GRACE: Final = 1.0
"""Seconds that a lock must be seen free before its owner counts as dead: a new connection takes it again."""

SILENCE: Final = 15.0
"""Seconds without a sign of life after which an owner counts as dead."""

FAREWELL: Final = 0.25
"""Seconds that a closing store gives what is under way here."""

_LOCK: Final = "SELECT pg_try_advisory_lock({schema}.owner_lock($1))"
_BEAT: Final = "SELECT {schema}.beat($1, $2)"
_OWNERS: Final = "SELECT number, free, silent FROM {schema}.owners($1, $2)"
_DISOWN: Final = "SELECT {schema}.disown($1, $2, $3)"
_BURY: Final = "SELECT {schema}.bury($1, $2)"


class Keeper:
    """Renews the holds of one store object, off its event loop."""

    def __init__(
        self,
        place: Place,
        identity: Identity,
        holds: Holds[At],
        disowned: Disowned,
        clock: Clock,
        moment: Callable[[], Moment],
        on_news: Callable[[], None],
        on_missed: Callable[[], object],
    ) -> None:
        """Start the thread.

        Args:
            place: Where the server is.
            identity: Who this store object is.
            holds: What it holds.
            disowned: What nobody got, to be given back.
            clock: What the holds are renewed by.
            moment: The time for statements.
            on_news: Called on the loop of the program when a dead owner's messages are free.
            on_missed: Called there when this store was taken for dead and has to enter again.
        """
        self._place, self._identity = place, identity
        self._holds, self._disowned = holds, disowned
        self._clock, self._moment = clock, moment
        self._on_news, self._on_missed = on_news, on_missed
        self._program = asyncio.get_running_loop()
        self._wake: asyncio.Event | None = None
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = self._failing = self._locked = False
        self._beat_at = self._look_at = 0.0
        self._free_since: dict[int, float] = {}
        self._missing: set[str] = set()
        self._session = place.session
        self._link = Link(place, self._session or place.dsn, "keeper", self._greet)
        self.ended: asyncio.Future[None] = self._program.create_future()
        self._thread = threading.Thread(target=self._main, name="sssnbus-postgres-keeper", daemon=True)
        self._thread.start()

    def nudge(self, lease: float) -> None:
        """Let the thread see new holds, unless it looks soon enough by itself for leases so long."""
        if lease / RENEWALS < LOOK_EVERY:
            self._rouse()

    def _rouse(self) -> None:
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None:
            call_soon(loop, wake.set)

    def stop(self) -> None:
        """Let the thread end; ``ended`` tells when it has."""
        self._stopping = True
        self._rouse()
        if self._loop is not None and self._stop is not None:
            call_soon(self._loop, self._stop.set)

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        finally:
            call_soon(self._program, self._end)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    async def _run(self) -> None:
        self._wake, self._stop = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            # A loop that ended without closing the store works on nothing any more.
            while not self._stopping and not self._program.is_closed():
                work = asyncio.ensure_future(self._tick())
                await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    # Most likely it has just begun, and a driver that is cancelled meanwhile complains.
                    await asyncio.wait([work], timeout=FAREWELL)
                if not work.done():
                    # It hangs at a server that does not answer.
                    self._link.end()
                    work.cancel()
                    await asyncio.wait([work])
                if not work.cancelled() and (error := work.exception()) is not None:
                    self._report(error)
                else:
                    self._failing = False
                await self._pause()
        finally:
            stop.cancel()
            self._link.end()

    async def _pause(self) -> None:
        assert self._wake is not None
        span = min(LOOK_EVERY, self._holds.shortest() or LOOK_EVERY)
        if not self._stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout(span):
                    await self._wake.wait()
        self._wake.clear()

    def _report(self, exc: BaseException) -> None:
        error: object = "the connection was lost" if isinstance(exc, Lost) else exc
        if not isinstance(exc, Lost | BusError):
            error = from_server(exc, self._place.url, "Renewing leases", self._place.timeout)
        # The last one is what a stop comes to.
        if not self._failing and not self._stopping:
            self._failing = True
            _log.warning("Leases of %s are not renewed: %s", self._place.url, error)

    async def _greet(self, connection: Connection) -> None:
        # If it can be had: a session of ours that was cut off may hold it for long yet. Until then only our
        # silence tells whether we live.
        lock = self._place.text(_LOCK)
        self._locked = self._session is not None and await connection.fetchval(lock, self._identity.number)
        self._beat_at = 0.0

    async def _tick(self) -> None:
        await self._link.connect(self._place.connect_timeout)
        loop = asyncio.get_running_loop()
        number = self._identity.number
        await self._renew()
        await self._give_back(number)
        if loop.time() >= self._beat_at:
            if not self._locked and self._session is not None:
                self._locked = await self._ask(_LOCK, number)
            await self._ask(_BEAT, number, self._locked)
            whole = self._locked or self._session is None
            self._beat_at = loop.time() + (SILENCE / 3 if whole else LOOK_EVERY)
        if loop.time() >= self._look_at:
            await self._look(number)

    async def _ask(self, statement: str, *args: Any) -> Any:
        rows = await self._link.fetch(self._place.text(statement), args, self._place.timeout)
        return rows[0][0]

    async def _renew(self) -> None:
        now = self._clock.elapsed()
        columns = due_columns(self._holds, now)
        if columns[0]:
            good = await self._ask(sql.RENEW, *columns, self._moment().elapsed)
            self._holds.renewed(good, now)
            self._lost(set(columns[0]) - set(good))

    async def _give_back(self, number: int) -> None:
        """Free what was claimed and whose answer nobody got: else it would be held for nobody."""
        for batch, prefix in self._disowned.all():
            await self._ask(_DISOWN, number, batch, prefix)
            self._disowned.given_back(prefix)

    def _lost(self, tokens: set[str]) -> None:
        """Give up what could not be renewed twice in a row: the first time its row may have been locked."""
        gone = tokens & self._missing
        self._missing = tokens - gone
        self._holds.drop(gone)

    async def _look(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        rows = await self._link.fetch(self._place.text(_OWNERS), (number, SILENCE), self._place.timeout)
        # The more there are, the seldomer: all look at all.
        self._look_at = loop.time() + max(LOOK_EVERY * 0.9, 0.02 * len(rows))
        if number not in {row["number"] for row in rows}:
            # The lock is one of a number that may change.
            self._link.drop()
            call_soon(self._program, self._on_missed)
            return
        free = {row["number"] for row in rows if row["free"]}
        self._free_since = {each: self._free_since.get(each, loop.time()) for each in free}
        dead = [row["number"] for row in rows if row["silent"] and row["number"] != number]
        dead += [each for each, since in self._free_since.items() if since <= loop.time() - GRACE]
        buried = [each for each in dict.fromkeys(dead) if await self._ask(_BURY, each, SILENCE)]
        if buried:
            call_soon(self._program, self._on_news)
