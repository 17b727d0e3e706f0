"""What a server needs to be open: two lanes, a reader, a listener, a keeper; and how they end."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from weakref import WeakMethod

import asyncpg

from sssnbus.clock import Clock, SystemClock
from sssnbus.errors import BusError, StoreUnavailable
from sssnbus.stores.backoff import Backoff
from sssnbus.stores.holds import Holds
from sssnbus.stores.life import LivingStore, Phase
from sssnbus.stores.loop import call_soon
from sssnbus.stores.postgres.disowned import Disowned
from sssnbus.stores.postgres.failure import Lost, from_connecting, from_server, is_lost
from sssnbus.stores.postgres.keeper import Keeper
from sssnbus.stores.postgres.lane import Identity, Lane
from sssnbus.stores.postgres.link import PAUSES, Connection, Link
from sssnbus.stores.postgres.listener import Listener
from sssnbus.stores.postgres.marks import Marks
from sssnbus.stores.postgres.operation import Operation, moment_of
from sssnbus.stores.postgres.place import Place
from sssnbus.stores.postgres.reader import Reader
from sssnbus.stores.postgres.schema import prepare
from sssnbus.stores.postgres.work import At, Hand

_log = logging.getLogger(__name__)

_ENTER: Final = "SELECT number, store, stamp FROM {schema}.enter($1, $2, $3)"
_LEAVE: Final = "SELECT {schema}.leave($1, false)"
_FORGET: Final = "DELETE FROM {schema}.writer WHERE owner = $1"


class Core(LivingStore):
    """What every verb needs: two lanes to write, a reader, and the right moment."""

    owner: str
    poll_interval: float | None

    def __init__(
        self, place: Place, *, poll_interval: float | None = None, clock: Clock | None = None
    ) -> None:
        """Name a store; it is used after ``open``. ``store_from_url`` makes one from a URL.

        Args:
            place: Where the server is, and how to talk to it.
            poll_interval: Seconds between two looks for what no notification told.
            clock: Where the time comes from. The server's clock by default, and for a ``SystemClock``:
                several hosts agree on that one only. Any other is for tests.
        """
        super().__init__()
        self.url = place.url
        self.durability = place.durability or "process"
        self.owner = ""
        heard = place.listen and place.session is not None
        self.poll_interval = poll_interval or (2.0 if heard else 0.25)
        self._place = place
        self._clock = clock or SystemClock()
        self._moment = partial(moment_of, self._clock)
        self._entering: asyncio.Task[None] | None = None
        self._identity = Identity()
        self._marks = Marks(place, self._identity)
        self._holds: Holds[At] = Holds()
        self._disowned = Disowned()
        self._hand = Hand(self._holds, self._disowned, self._clock)
        self._apart: set[Link] = set()

    def _check(self) -> None:
        super()._check()
        if self._marks.error is not None:
            raise self._marks.error

    async def _read(self, what: str, statement: str, *args: Any) -> list[Any]:
        """Run a statement that changes nothing. It sees everything committed."""
        self._check()
        return await self._reader.fetch(what, statement, args)

    async def _write(self, operation: Operation, timeout: float | None = None) -> Any:
        """Have an operation done by the next statement that can take it along."""
        self._check()
        return await self._log_lane.perform(operation, timeout)

    async def _run_apart(self, what: str, statements: Sequence[str]) -> None:
        """Run statements that may take long, on a connection of their own, which ends with the call."""
        self._check()
        place = self._place
        link = Link(place, place.session or place.dsn, "upkeep")
        self._apart.add(link)
        try:
            await link.connect(place.connect_timeout)
            for statement in statements:
                await link.run(place.text(statement))
        except Lost:
            self._check()
            raise StoreUnavailable(f"Store {place.url} was lost during {what.lower()}. Try again.") from None
        except asyncpg.PostgresError as exc:
            raise from_server(exc, place.url, what, place.timeout / 2) from exc
        finally:
            self._apart.discard(link)
            link.end()

    async def _open(self) -> None:
        place = self._place
        greet = self._marks.check
        links = Link(place, place.dsn, "writer", greet), Link(place, place.dsn, "worker", greet)
        try:
            self.durability = await self._begin(links[0])
        except BaseException:
            links[0].end()
            raise
        self._reader = Reader(place, greet)
        self._log_lane, self._work_lane = (
            Lane(place, link, self._identity, self._moment, self._enter) for link in links
        )
        self._listener = Listener(place, self._identity, self._marks)
        # Its thread must not keep a store alive that nobody else holds any more.
        missed = WeakMethod(self._missed)
        self._keeper = Keeper(
            place,
            self._identity,
            self._holds,
            self._disowned,
            self._clock,
            self._moment,
            self._listener.watchers.tell,
            lambda: (alive := missed()) and alive(),
        )

    async def _begin(self, link: Link) -> str:
        """Connect for the first time, have the place prepared, and enter; return what a commit survives.

        What is lost on the way is begun again, as long as connecting may take.
        """
        place, loop = self._place, asyncio.get_running_loop()
        end, backoff = loop.time() + place.connect_timeout, Backoff(*PAUSES)
        while True:
            connection = await link.connect(max(0.05, end - loop.time()))
            # What hangs from here on is ended by ending its connection.
            timer = loop.call_at(max(end, loop.time() + place.timeout), connection.terminate)
            try:
                durability = await prepare(connection, place)
                await self._enter(connection)
                return durability
            except BusError:
                raise
            except Exception as exc:
                if not is_lost(exc) and not connection.is_closed():
                    raise from_server(exc, self.url, "Opening", place.timeout) from exc
                if loop.time() + backoff.pause >= end:
                    raise from_connecting(exc, self.url, place.connect_timeout) from exc
                link.drop()
            finally:
                timer.cancel()
            await backoff.wait()

    async def _enter(self, connection: Connection) -> None:
        """Have this store listed at the server, for the first time or again."""
        identity = self._identity
        listening = self._phase is Phase.OPEN and self._listener.wanted
        args = identity.number or None, identity.store, listening
        timer = asyncio.get_running_loop().call_later(self._place.timeout, connection.terminate)
        try:
            row = await connection.fetchrow(self._place.text(_ENTER), *args)
        finally:
            timer.cancel()
        identity.number, identity.store = row["number"], row["store"]
        identity.floor = max(identity.floor, row["stamp"])
        self.owner = identity.name

    def _missed(self) -> None:
        """Enter again: this store was taken for dead, as after a long silence, or its place was made anew."""
        if self._phase is Phase.OPEN and self._entering is None:
            self._entering = asyncio.ensure_future(self._enter_again())
            self._entering.add_done_callback(lambda _: setattr(self, "_entering", None))

    async def _enter_again(self) -> None:
        _log.warning("Store %s was taken for dead; what it held is free.", self.url)
        link = Link(self._place, self._place.dsn, "entrance")
        try:
            await self._enter(await link.connect(self._place.connect_timeout))
        except Exception as exc:
            # The keeper asks again.
            _log.debug("Store %s is not listed: %s", self.url, type(exc).__name__)
        finally:
            link.end()

    async def _close(self, grace: float) -> None:
        """Take everything down, in order. Whatever is stuck is cut off."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        keeper, link = self._keeper, self._log_lane.link
        try:
            keeper.stop()
            await asyncio.wait([keeper.ended], timeout=max(0.0, end - loop.time()))
            for lane in (self._log_lane, self._work_lane):
                await lane.drained(max(0.0, end - loop.time()))
            timer = loop.call_at(max(end, loop.time() + 0.05), link.drop)
            try:
                await self._say_farewell(link, max(0.05, end - loop.time()))
            finally:
                timer.cancel()
        finally:
            self._let_go()
            endings: Sequence[Any] = [
                asyncio.ensure_future(each.drained()) for each in (self._reader, self._listener)
            ]
            await asyncio.wait([*endings, keeper.ended], timeout=max(0.2, end - loop.time()))

    async def _say_farewell(self, link: Link, patience: float) -> None:
        place = self._place
        try:
            await link.connect(patience)
            await link.fetch(place.text(_LEAVE), (self._identity.number,), patience)
            await link.fetch(place.text(_FORGET), (self._identity.number,), patience)
        except Exception as exc:
            # Others find the owner dead and free what it held.
            _log.debug("%s was closed without a farewell: %s", self.url, type(exc).__name__)

    def _let_go(self) -> None:
        """Cut every connection."""
        loop = self._loop
        assert loop is not None, "it was opened"
        self._keeper.stop()
        if loop.is_closed():
            return
        parts = (self._log_lane.close, self._work_lane.close, self._reader.close, self._listener.close)
        for close in (*parts, *(link.end for link in self._apart)):
            try:
                running = asyncio.get_running_loop()
            except RuntimeError:
                running = None
            if running is loop:
                close()
            else:
                call_soon(loop, close)

    async def _run_write_now(self, lane: Lane, operation: Operation) -> None:
        """Do something although the task is being cancelled; its failure is only logged."""
        await lane.insist(operation, self._place.timeout)
        if operation.error is not None:
            _log.warning("%s failed: %s", operation.what, operation.error)
