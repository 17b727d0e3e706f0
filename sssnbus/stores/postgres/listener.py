"""Hearing of news: LISTEN on a connection of its own, and looking, in case a word was lost."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from sssnbus.errors import BusError
from sssnbus.stores.backoff import Backoff
from sssnbus.stores.postgres import letter
from sssnbus.stores.postgres.failure import Lost
from sssnbus.stores.postgres.lane import Identity
from sssnbus.stores.postgres.link import Connection, Link
from sssnbus.stores.postgres.marks import Marks
from sssnbus.stores.postgres.place import Place
from sssnbus.stores.watchers import Ring, Take, Watchers

_log = logging.getLogger(__name__)

PULSE: Final = 20.0
"""Seconds of silence after which the connection is asked whether it still is one."""

_PAUSES: Final = (0.1, 2.0)
"""The first and the longest wait, in seconds, before listening anew."""

_BELL: Final = "SELECT value FROM {schema}.meta WHERE name = 'bell'"
_LISTENING: Final = (
    "UPDATE {schema}.owner SET listening = true WHERE number = $1 RETURNING"
    " (SELECT value FROM {schema}.meta WHERE name = 'bell')"
)


class Listener:
    """Rings watchers when other stores have written."""

    def __init__(self, place: Place, identity: Identity, marks: Marks) -> None:
        self._place, self._identity, self._marks = place, identity, marks
        self.watchers = Watchers()
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._again = asyncio.Event()
        self._closed = False
        self._bell = ""
        """What notifications go by: a secret of those who may read the tables."""

    @property
    def wanted(self) -> bool:
        """Whether somebody listens here."""
        return self._task is not None

    def watch(self, ring: Ring, take: Take | None) -> Callable[[], None]:
        """Add a watcher; return what takes it away. The first of all begins the listening."""
        session = self._place.session
        if self._task is None and self._place.listen and session is not None and not self._closed:
            self._link = Link(self._place, session, "listener", self._greet)
            self._task = asyncio.create_task(self._run(self._link), name="sssnbus-postgres-listener")
        return self.watchers.add(ring, take)

    def close(self) -> None:
        """Hear nothing more. Never waits."""
        self._closed = True
        self.watchers.clear()
        if self._task is not None:
            self._task.cancel()
        if self._link is not None:
            self._link.end()

    async def drained(self) -> None:
        """Wait for the end of the task that ``close`` has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self, link: Link) -> None:
        backoff = Backoff(*_PAUSES)
        while not self._closed:
            try:
                await link.connect(self._place.connect_timeout)
                # It listens: whatever was committed before has told nobody here, so all look once.
                self.watchers.tell()
                backoff.reset()
                while True:
                    try:
                        async with asyncio.timeout(PULSE):
                            await self._again.wait()
                        break
                    except TimeoutError:
                        # It is asked whether it still is one, and others whether they know of us.
                        rows = await link.fetch(*self._flag(), self._place.timeout)
                        if rows and rows[0][0] != self._bell:
                            # The namespace was made anew.
                            break
            except Lost:
                pass
            except BusError as exc:
                _log.debug("No notifications: %s", exc)
                await backoff.wait()
            except Exception as exc:
                _log.debug("No notifications: %s", type(exc).__name__)
                await backoff.wait()
            self._again.clear()
            link.drop()

    async def _greet(self, connection: Connection) -> None:
        self._again.clear()
        try:
            await self._marks.check(connection)
        except BusError:
            # Who looks is told.
            self.watchers.tell()
            raise
        connection.add_termination_listener(self._terminated)
        self._bell = await connection.fetchval(self._place.text(_BELL))
        await connection.add_listener(self._bell, self._notified)
        statement, args = self._flag()
        await connection.execute(statement, *args)

    def _flag(self) -> tuple[str, tuple[int]]:
        """Return what lets others know that somebody listens; also after this store was taken for dead."""
        return self._place.text(_LISTENING), (self._identity.number,)

    def _terminated(self, connection: Connection) -> None:
        if self._link is not None and self._link.connection in (connection, None):
            self._again.set()

    def _notified(self, connection: Connection, pid: int, channel: str, payload: Any) -> None:
        owner, news = letter.read(payload)
        if owner != str(self._identity.number):
            if news is not None and news.messages:
                self._marks.see(news.log, news.messages[-1].sequence, news.messages[-1].id)
            self.watchers.tell(news)
