"""What a server needs to be open: two lanes, a keeper, a bell; and how they end."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import count
from secrets import token_hex
from typing import Any, TypeVar

from pydantic_core import to_json
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as LateError

from sssnbus.clock import Clock, SystemClock
from sssnbus.stored import Stored
from sssnbus.stores.backoff import Backoff
from sssnbus.stores.base import News, Placed
from sssnbus.stores.holds import Holds
from sssnbus.stores.life import LivingStore
from sssnbus.stores.loop import run_soon
from sssnbus.stores.redis.bell import Bell
from sssnbus.stores.redis.codec import Bytes, taken_apart
from sssnbus.stores.redis.failure import is_lasting, is_passing, translated
from sssnbus.stores.redis.keeper import Keeper
from sssnbus.stores.redis.lane import PAUSES, Lane
from sssnbus.stores.redis.operation import At, Operation, note_renewed, rows_of
from sssnbus.stores.redis.place import Place
from sssnbus.stores.redis.script import scripts
from sssnbus.stores.redis.server import create, inspect, is_replica
from sssnbus.stores.redis.wire import Wire

_log = logging.getLogger(__name__)

R = TypeVar("R")


class Difference(Enum):
    """How a server's data is not what was seen before."""

    BEHIND = 0
    OTHER = 1


class Core(LivingStore):
    """What every verb needs: a lane that writes, one that reads, and the right moment."""

    owner: str
    poll_interval: float | None

    def __init__(self, place: Place, *, clock: Clock | None = None) -> None:
        """Name a store; it is used after ``open``.

        Args:
            place: The server, and everything else that a URL can say.
            clock: Where the time comes from, for tests: the server's own clock unless it is another than
                the machine's.
        """
        super().__init__()
        self.url = place.url
        self.durability = place.durability or "none"
        self.owner = token_hex(8)
        self.poll_interval = place.poll_interval
        self._place = place
        self._clock = clock or SystemClock()
        self._manual = not isinstance(self._clock, SystemClock)
        self._birth = ""
        self._tokens = (f"{self.owner}-{number}" for number in count(1))
        self._holds: Holds[At] = Holds()
        self._born: dict[str, str] = {}
        """Which log of that name it is that we know."""
        self._marks: dict[str, tuple[int, str]] = {}
        """The newest message of a log that we have seen there: its place and its id."""

    async def _read(self, what: str, body: Sequence[object], parse: Callable[[list[Any], Bytes], R]) -> R:
        """Ask the server. It tells of everything that was acknowledged."""
        self._check()
        told: R = await self._reader.perform(Operation(what, body, parse))
        return told

    async def _write(
        self,
        what: str,
        body: Sequence[object],
        parse: Callable[[list[Any], Bytes], R],
        parts: Sequence[bytes] = (),
    ) -> R:
        """Have the server change something."""
        self._check()
        told: R = await self._writer.perform(Operation(what, body, parse, parts))
        return told

    def _renew(self) -> None:
        """Have leases renewed that are due for it, before what is done next."""
        now = self._clock.elapsed()
        due = self._holds.due(now)
        if due:

            def note(answer: list[Any], parts: Bytes) -> None:
                note_renewed(self._holds, due, answer[1:], now)

            self._writer.post(Operation("A renewal", ["renew", rows_of(due)], note))

    def _address(self, number: int) -> list[object]:
        """Return what a request begins with. Called by the keeper's thread too."""
        time, elapsed = (self._clock.time(), self._clock.elapsed()) if self._manual else (None, None)
        return [self.owner, number, self._birth, time, elapsed]

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        known = await asyncio.to_thread(scripts)
        writer = Lane(self._place, known.writing, self._address, self._greet, writes=True)
        reader = Lane(self._place, lambda verbs: known.read, self._address, self._look, writes=False)
        self._writer, self._reader = writer, reader
        try:
            await self._begin(writer)
        except BaseException as exc:
            await writer.disconnect()
            await reader.disconnect()
            if isinstance(exc, RedisError | OSError):
                raise translated(exc, self.url) from exc
            raise
        self._bell = Bell(self._place, self.owner, self._join, self._mark_news)
        self._keeper = Keeper(
            self._place, self._holds, self._address, self._clock.elapsed, loop, self._leave_server
        )

    async def _begin(self, writer: Lane) -> None:
        """Connect for the first time, and be put on the list of owners; what passes gets some time."""
        loop, limit = asyncio.get_running_loop(), self._place.connect_timeout
        end, backoff = loop.time() + limit, Backoff(*PAUSES)
        trouble: Exception = LateError(f"no answer within {limit:g} s")
        while True:
            try:
                # What an attempt that failed has found counts no more.
                self._birth = ""
                async with asyncio.timeout_at(end):
                    await writer.connect()
                    return await writer.enter(0)
            except TimeoutError:
                raise trouble from None
            except Exception as exc:
                if not is_passing(exc) or is_lasting(exc) or loop.time() + backoff.pause >= end:
                    raise
                trouble = exc
            await backoff.wait()

    async def _greet(self, wire: Wire) -> None:
        """Look at the server behind a new connection of the writer: what it gives, whether it is ours."""
        if self._birth:
            await self._refuse_replica(wire)
        self.durability = await inspect(wire, self._place)
        if not self._birth:
            self._birth = await create(wire, self._place, token_hex(16))
        elif await create(wire, self._place, "") != self._birth or await self._differs(wire) is not None:
            self._writer.replaced = True

    async def _look(self, wire: Wire) -> None:
        """Look at the server behind a new connection of the reader."""
        await self._refuse_replica(wire)
        # One that is merely behind may be read: who stands further ahead is told by what is there.
        if await self._differs(wire) is Difference.OTHER:
            self._reader.replaced = True

    async def _refuse_replica(self, wire: Wire) -> None:
        """Refuse a replica for now: it tells old news and takes none, and a failover may be under way."""
        if await is_replica(wire, self._place):
            raise ConnectionError("the server is a replica")

    def _leave_server(self) -> None:
        """Go where the name leads now, with every connection: what became a replica stays reachable."""
        for each in (self._writer, self._reader, self._bell):
            each.leave()

    def _mark(self, log: str, message: Placed | Stored) -> None:
        """Note that a message was seen where it is."""
        if message.sequence > self._marks.get(log, (0, ""))[0]:
            self._marks[log] = (message.sequence, message.id)

    def _mark_news(self, news: News) -> None:
        for message in news.messages[-1:]:
            self._mark(news.log, message)

    async def _differs(self, wire: Wire) -> Difference | None:
        """Return how a log is not the one that we have seen: the server lost data, or is another.

        A sequence would be given twice if this went on, or was given twice already.
        """
        marks = [(name, *mark) for name, mark in self._marks.items() if name in self._born]
        body = to_json([*self._address(0), [["look", name, sequence] for name, sequence, _ in marks]])
        answer = await wire.run(
            scripts().read, self._place.clock_key, body, b"", limit=self._place.connect_timeout
        )
        found = None
        rows, _ = taken_apart(answer)
        for (name, sequence, id), (code, *rest) in zip(marks, rows, strict=True):
            if code != 0:
                raise ResponseError(*rest)
            born, last, there = rest
            # Another log of that name is somebody's doing, and counts from 1 again.
            if born == self._born[name]:
                if there not in (id, None):
                    return Difference.OTHER
                if last < sequence:
                    found = Difference.BEHIND
        return found

    async def _join(self) -> None:
        """Have others tell us their news."""
        self._keeper.listens = True
        await self._write("Listening", ["listen"], nothing)

    async def _close(self, grace: float) -> None:
        """Take everything down, in order."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        # It may be about to join, which ends with the writer at the latest.
        closing = loop.create_task(self._bell.close())
        try:
            self._keeper.stop()
            await asyncio.wait([self._keeper.ended], timeout=max(0.0, end - loop.time()))
            holds = rows_of(self._holds.all())
            farewell = Operation(f"Closing {self.url}", ["leave", holds], nothing)
            patience = max(0.05, end - loop.time())
            await self._writer.insist(farewell, patience)
            if farewell.error is not None:
                # Its leases end by time, and others will find the owner dead.
                _log.debug("%s was closed without a farewell: %s", self.url, farewell.error)
        finally:
            await self._writer.disconnect()
            await self._reader.disconnect()
            await closing

    def _let_go(self) -> None:
        assert self._loop is not None, "it was opened"
        self._keeper.stop()
        for end in (self._bell.close, self._writer.disconnect, self._reader.disconnect):
            run_soon(self._loop, end)


def nothing(answer: list[Any], parts: Bytes) -> None:
    """Take nothing from an answer."""
