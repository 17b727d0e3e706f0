"""Hints: a connection that listens for what others publish to this store object.

A hint may be lost, and nothing about hints ever fails a write. That of a short append carries the messages
along, which spares its hearer the trip to the server.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from redis.exceptions import NoPermissionError

from sssnbus.stores.backoff import Backoff
from sssnbus.stores.base import News
from sssnbus.stores.redis.codec import taken_apart
from sssnbus.stores.redis.failure import reason
from sssnbus.stores.redis.place import Place
from sssnbus.stores.redis.wire import Wire
from sssnbus.stores.watchers import Ring, Take, Watchers

_log = logging.getLogger(__name__)

QUIET: Final = 10.0
"""Seconds of silence after which the server is asked whether it is still there."""

_PAUSES: Final = (0.05, 2.0)
"""The first and the longest wait, in seconds, before listening anew."""


class Bell:
    """The watchers of one store object, and the task that listens for them."""

    def __init__(
        self, place: Place, owner: str, join: Callable[[], Awaitable[None]], note: Callable[[News], None]
    ) -> None:
        self._place = place
        self._channel = f"{place.clock_key}:bell:{owner}"
        self._join = join
        """Has others publish to us; called when we listen already."""
        self._note = note
        """Told of messages that came along."""
        self._watchers = Watchers()
        self._task: asyncio.Task[None] | None = None
        self._astray = False

    def watch(self, ring: Ring, take: Take | None) -> Callable[[], None]:
        """Add a watcher; return what takes it away. The first of all begins the listening."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="sssnbus-redis-bell")
        return self._watchers.add(ring, take)

    def leave(self) -> None:
        """Listen on another connection soon: this server is not the one that writers write to any more."""
        self._astray = True

    async def close(self) -> None:
        """Stop listening."""
        self._watchers.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        backoff = Backoff(*_PAUSES)
        while True:
            wire = Wire(self._place)
            try:
                self._astray = False
                await wire.connect()
                wire.tell("SUBSCRIBE", self._channel)
                await wire.hear(self._place.connect_timeout)
                await self._join()
                backoff.reset()
                # Whatever was written before we listened has rung nowhere.
                self._watchers.tell()
                await self._listen(wire)
            except NoPermissionError as exc:
                # Told once: it is for somebody else to mend.
                level = logging.WARNING if backoff.pause == _PAUSES[0] else logging.DEBUG
                _log.log(level, "No hints from %s: %s", self._place.url, reason(exc))
            except Exception as exc:
                _log.debug("No hints from %s: %s", self._place.url, reason(exc))
            finally:
                await wire.close()
            await backoff.wait()

    async def _listen(self, wire: Wire) -> None:
        while True:
            message = await wire.hear(QUIET)
            if self._astray:
                return
            if message is None:
                wire.tell("PING")
                message = await wire.hear(self._place.connect_timeout)
                if message is None:
                    return
            if message[0] == b"message":
                news = _read(message[2])
                if news is not None:
                    self._note(news)
                self._watchers.tell(news)


def _read(letter: bytes) -> News | None:
    """Return the news that a hint brought; None if it brought none that can be read."""
    try:
        (log, rows), parts = taken_apart(letter)
        return News(log, parts.messages(rows))
    except (ValueError, TypeError):
        return None
