"""What a server needs to be open, what time it is, how a verb is run, and how it all ends."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from secrets import randbits, token_hex
from typing import Any, Final, ParamSpec, TypeVar

from sssnbus.clock import Clock, SystemClock
from sssnbus.errors import BusError, IncompatibleStore, StoreError, StoreUnavailable, WeakDurability
from sssnbus.stores.life import LivingStore
from sssnbus.stores.loop import outlive, run_soon
from sssnbus.stores.nats import stream
from sssnbus.stores.nats.access import Access
from sssnbus.stores.nats.failure import Missing, Nobody, Refusal
from sssnbus.stores.nats.fetch import newest, stamp_of
from sssnbus.stores.nats.keeper import Keeper
from sssnbus.stores.nats.link import Link
from sssnbus.stores.nats.names import Names
from sssnbus.stores.nats.settings import Settings
from sssnbus.stores.nats.waiters import Promise

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

OLDEST: Final = (2, 12, 1)
"""The first server that takes a batch as a whole, and lets single messages end by time."""

_COUNTER: Final = 0xFFF
"""The low bits of an id, which count within 4096 nanoseconds."""


class Core(LivingStore):
    """What every verb needs: a connection, the time, and the right moment."""

    owner: str

    def __init__(self, access: Access, settings: Settings, *, clock: Clock | None = None) -> None:
        """Name a store; it is used after ``open``.

        Args:
            access: How its server is reached.
            settings: What it is told.
            clock: Takes the place of the server's clock if it is not the machine's: for tests.
        """
        super().__init__()
        self.url = access.url
        self.durability = "process"
        self.owner = f"{os.getpid()}-{token_hex(8)}"
        self._access, self._settings = access, settings
        self._names = Names(settings.prefix)
        self._clock = clock or SystemClock()
        self._given_clock = None if clock is None or isinstance(clock, SystemClock) else clock
        self._link = Link(access, f"sssnbus {self.owner}")
        self._keeper: Keeper | None = None
        self._running: set[asyncio.Future[Any]] = set()
        self._direct = True
        self._offset = self._at = self._set_at = 0.0
        self._id = 0
        # Writers of one moment rarely meet on one id; if they do, one of them takes another.
        self._salt = randbits(12)
        self._writes = count(1)

    def _check(self) -> None:
        super()._check()
        if self._link.refusal is not None:
            raise self._link.refusal

    def _deadline(self, timeout: float | None = None) -> float:
        return self._link.deadline(timeout)

    def _now(self) -> float:
        """Return the wall time by which messages are stored and due: the server's."""
        if self._given_clock is not None:
            return self._given_clock.time()
        return self._clock.elapsed() + self._offset

    def _elapsed(self) -> float:
        """Return the time by which leases end: the same for all who share the store."""
        return self._now() if self._given_clock is None else self._given_clock.elapsed()

    def _stamp(self) -> float | None:
        """Return when a message is stored, if that is not for the server to say. It never goes back."""
        if self._given_clock is None:
            return None
        self._at = max(self._at, self._given_clock.time())
        return self._at

    def _new_id(self) -> str:
        """Return an id like no other: the server's time, and never less than the last one from here."""
        made = (int(self._now() * 1e9) - _COUNTER) & ~_COUNTER | self._salt
        self._id = number = max(self._id + 1, made, 10**18)
        return str(number)

    async def _do(self, verb: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a verb as a whole: a cancellation is raised when it has ended.

        A verb takes no longer than the timeout of operations, so neither does this.
        """
        task = self._begin(verb, *args, **kwargs)
        await outlive(task)
        return task.result()

    def _begin(
        self, verb: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> "asyncio.Task[T]":
        """Begin a verb in a task of its own; closing the store waits for it."""
        self._check()
        assert self._loop is not None
        task = self._loop.create_task(self._translated(verb(*args, **kwargs)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _awaited(self, answer: Promise[T]) -> T:
        """Return an answer, for verbs that need no task; a cancellation is raised when it is there."""
        self._running.add(answer)
        try:
            return await self._translated(answer)
        finally:
            self._running.discard(answer)

    async def _translated(self, verb: Awaitable[T]) -> T:
        try:
            return await verb
        except (Missing, Nobody) as error:
            raise StoreError(
                f"Store {self.url} has lost a stream that it was working on: somebody dropped it, or the "
                "server lost its data. Start the channel again."
            ) from error
        except Refusal as error:
            raise StoreError(f"Store {self.url} refused an operation: {error}.") from error

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        await self._link.connect()
        try:
            end = self._link.deadline(self._access.connect_timeout)
            self._check_version()
            await self._link.request("$JS.API.INFO", deadline=end)
            await self._set_up(end)
            await self._announce()
        except Nobody:
            await self._link.close()
            raise StoreUnavailable(
                f"Store {self.url} needs JetStream, which this server or account does not have: start the "
                "server with -js, or enable JetStream for the account."
            ) from None
        except BaseException:
            await self._link.close()
            raise
        self._keeper = Keeper(self._access, self._names.owner(self.owner), self._settings.owner_timeout, loop)

    def _check_version(self) -> None:
        version = self._link.version
        if version < OLDEST:
            raise IncompatibleStore(
                self.url,
                f"its server is version {'.'.join(map(str, version))}, and {'.'.join(map(str, OLDEST))} is "
                "the oldest that can take several messages as one, each under its id",
            )

    async def _set_up(self, deadline: float) -> None:
        config = stream.records(self._names.records, self._settings.prefix, self._settings.replicas)
        await stream.ensure(self._link, config, deadline)
        info = await self._set_clock(deadline)
        ids = await newest(self._link, self._names.records, self._names.ids, False, deadline)
        self._id = max(self._id, int(ids.data)) if ids is not None else self._id
        self._direct = bool(info["config"].get("allow_direct"))
        self._settle_durability(int(info["config"].get("num_replicas", 1)))

    async def _set_clock(self, deadline: float) -> dict[str, Any]:
        """Find out what time it is at the server, as exactly as one round trip tells; return the answer."""
        self._set_at = before = self._clock.elapsed()
        info = await self._link.api(f"STREAM.INFO.{self._names.records}", deadline=deadline)
        self._offset = stamp_of(info["ts"]) - (before + self._clock.elapsed()) / 2
        return info

    def _settle_durability(self, replicas: int) -> None:
        """Say what the server gives, and refuse if more was asked for."""
        # How often a server syncs its files is a setting that no client can read.
        self.durability = "disk" if self._settings.server_sync == "always" else "process"
        if self._settings.durability == "disk" and self.durability != "disk":
            raise WeakDurability(
                self.url,
                "disk",
                self.durability,
                "the server syncs its files every sync_interval, 2 minutes unless its configuration says "
                "otherwise, and does not tell. Set  jetstream { sync_interval: always }  there and add "
                f"server_sync=always to the URL (the store's streams have {replicas} replica(s), which "
                "protects from the loss of a server and not from a power cut of all)",
            )

    async def _announce(self) -> None:
        """Let others know that this store is open; the keeper goes on with it."""
        await self._link.request(
            self._names.owner(self.owner),
            headers={"Nats-TTL": f"{round(self._settings.owner_timeout)}s"},
            deadline=self._deadline(),
        )

    async def _close(self, grace: float) -> None:
        """Take everything down, in order, within the grace."""
        assert self._loop is not None
        end = self._loop.time() + grace
        if self._running:
            await asyncio.wait(self._running, timeout=max(0.0, grace * 0.8))
        try:
            async with asyncio.timeout_at(end):
                await self._farewell(end)
        except (TimeoutError, BusError, Refusal, Nobody) as error:
            # Others find the owner dead and free what it held.
            _log.debug("%s was closed without a farewell: %s", self.url, error)
        finally:
            if self._keeper is not None:
                self._keeper.stop()
                await self._loop.run_in_executor(None, self._keeper.join, max(0.1, end - self._loop.time()))
            self._abandon()
            await self._link.close()

    def _abandon(self) -> None:
        """Tell whoever waits still that it is over; the rooms above add to it."""

    async def _farewell(self, deadline: float) -> None:
        """Give back what is held; the rooms above add to it."""
        if self._keeper is not None:
            self._keeper.stop()
        refused = self._link.refusal is not None
        if not refused:
            # The next one goes on from there, even if the clock has gone back.
            there = await newest(self._link, self._names.records, self._names.ids, False, deadline)
            if there is None or int(there.data) < self._id:
                await self._link.request(self._names.ids, b"%d" % self._id, deadline=deadline)
        await self._link.api(
            f"STREAM.PURGE.{self._names.records}",
            {"filter": self._names.owner(self.owner)},
            deadline=deadline,
            early=refused,
        )

    def _let_go(self) -> None:
        assert self._loop is not None, "it was opened"
        if self._keeper is not None:
            self._keeper.stop()
        run_soon(self._loop, self._link.close)
