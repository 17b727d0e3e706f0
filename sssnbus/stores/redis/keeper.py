"""The thread that keeps a store object alive in the eyes of others, and its leases with it.

It has its own connection, so that an event loop that is busy computing lets no lease end.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from pydantic_core import to_json
from redis.exceptions import NoScriptError, ResponseError

from sssnbus.stores.holds import RENEWALS, Holds
from sssnbus.stores.loop import call_soon
from sssnbus.stores.redis.codec import taken_apart
from sssnbus.stores.redis.failure import is_read_only, reason
from sssnbus.stores.redis.lane import LIFE
from sssnbus.stores.redis.operation import At, note_renewed, rows_of
from sssnbus.stores.redis.place import Place
from sssnbus.stores.redis.script import scripts

_log = logging.getLogger(__name__)

BEAT: Final = 1.0
"""Seconds between two signs of life; with each, leases of dead owners become free."""


class Keeper:
    """Renews what one store object holds, off its event loop."""

    def __init__(
        self,
        place: Place,
        holds: Holds[At],
        address: Callable[[int], list[Any]],
        elapsed: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        leave: Callable[[], None],
    ) -> None:
        self._place = place
        self._holds = holds
        self._address = address
        self._elapsed = elapsed
        self._loop = loop
        self._leave = leave
        """Called on the loop when the server has become a replica."""
        self._wake = threading.Event()
        self._stopping = False
        self._failing = False
        self.listens = False
        """Whether the store wants to hear of news: its place on that list is renewed as well."""
        self.ended = loop.create_future()
        self._thread = threading.Thread(target=self._main, name="sssnbus-redis-keeper", daemon=True)
        self._thread.start()

    def nudge(self, lease: float) -> None:
        """Let the thread see new holds, if it would sleep past their renewal."""
        if lease < BEAT * RENEWALS:
            self._wake.set()

    def stop(self) -> None:
        """Let the thread end; ``ended`` tells when it has."""
        self._stopping = True
        self._wake.set()

    def _main(self) -> None:
        # Any, for not all of its methods have types.
        connection: Any = self._place.blocking_connection()
        try:
            while True:
                self._wake.wait(min(BEAT, self._holds.shortest() or BEAT))
                self._wake.clear()
                # A loop that ended without closing the store works on nothing any more.
                if self._stopping or self._loop.is_closed():
                    break
                try:
                    self._tick(connection)
                    self._failing = False
                except Exception as exc:
                    connection.disconnect()
                    self._report(reason(exc))
                    if is_read_only(exc):
                        call_soon(self._loop, self._leave)
                    # A server that refuses at once is not asked all the time.
                    self._wake.wait(0.1)
        finally:
            connection.disconnect()
            call_soon(self._loop, self._end)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _report(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            _log.warning("Leases of %s are not renewed: %s", self._place.url, why)

    def _tick(self, connection: Any) -> None:
        now = self._elapsed()
        due = self._holds.due(now)
        operations = [["renew", rows_of(due)], ["tick", LIFE, int(self.listens)]]
        answer = self._ask(connection, to_json([*self._address(0), operations]))
        if not answer.startswith(b"["):
            self._report("its data was replaced")
            return
        ((outcome, *good), beat), _ = taken_apart(answer)
        for code, *why in ((outcome, *good), beat):
            if code != 0:
                raise ResponseError(*why)
        note_renewed(self._holds, due, good, now)

    def _ask(self, connection: Any, body: bytes) -> bytes:
        script, key = scripts().write, self._place.clock_key
        connection.connect()
        try:
            connection.send_command("EVALSHA", script.sha, 1, key, body, b"")
            answer = connection.read_response(disable_decoding=True)
        except NoScriptError:
            connection.send_command("EVAL", script.text, 1, key, body, b"")
            answer = connection.read_response(disable_decoding=True)
        return bytes(answer)
