"""The bus: one store, and the channels in it."""

import asyncio
import os
import signal
import warnings
from enum import Enum
from os import PathLike
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from sssnbus.channels.base import Channel
from sssnbus.channels.broadcast import BroadcastChannel
from sssnbus.channels.options import BroadcastOptions, QueueOptions
from sssnbus.channels.work_queue import WorkQueueChannel
from sssnbus.clock import Clock, SystemClock
from sssnbus.delivery.fanout import FanOut
from sssnbus.delivery.shield import Turns, complete
from sssnbus.errors import (
    ChannelKindMismatch,
    ClosedError,
    ForkedProcess,
    InvalidOption,
    MissingAbility,
    NotStarted,
    WrongLoop,
)
from sssnbus.settings import check_seconds
from sssnbus.stores.base import LogStore, Store
from sssnbus.stores.registry import make_store

C = TypeVar("C", bound=Channel)

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class _Life(Enum):
    NEW = "not started"
    STARTED = "started"
    STOPPED = "stopped"


class Bus:
    """Channels by name in one store: ``async with Bus("sqlite:///events.db") as bus``.

    A started bus holds one set of connections to its store; its channels share it, and all buses of an
    event loop share one delivery task. Channels start by themselves when they are first used.
    """

    def __init__(
        self, store: str | PathLike[str] | Store = "memory://", *, clock: Clock | None = None
    ) -> None:
        """Make a bus; this does no I/O and needs no event loop.

        Args:
            store: A URL (``memory://``, ``sqlite:///file.db``), the path of an SQLite file, or a store. A
                store given as an object is opened if need be, keeps its own clock, and stays yours to close.
            clock: Where the time comes from; tests hand in their own.

        Raises:
            InvalidURL: the URL cannot be understood.
        """
        self.clock = clock or SystemClock()
        self._given = store
        # A bad URL is refused now, by whoever wrote it.
        self.url = make_store(store).url
        self._store: LogStore | None = None
        self._fanout: FanOut | None = None
        self._channels: dict[str, tuple[Channel, dict[str, Any]]] = {}
        self._life = _Life.NEW
        self._changing = Turns("Bus")
        self._stopped = asyncio.Event()
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None

    def __repr__(self) -> str:
        return f"<Bus {self.url!r} {self._life.value}>"

    def __del__(self) -> None:
        if getattr(self, "_life", None) is _Life.STARTED:
            warnings.warn(f"{self!r} was never stopped; use 'async with'", ResourceWarning, stacklevel=2)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def broadcast(self, id: str, **options: Unpack[BroadcastOptions]) -> BroadcastChannel:
        """Return the broadcast channel of this name; without I/O.

        Args:
            id: Its name in the store.
            options: As for ``BroadcastChannel``; the same for every call with one name.

        Raises:
            ChannelKindMismatch: this bus has a work queue of that name.
            InvalidOption: the channel was made before with other options.
        """
        return self._channel(BroadcastChannel, id, {**options})

    def work_queue(self, id: str, **options: Unpack[QueueOptions]) -> WorkQueueChannel:
        """Return the work queue of this name; without I/O.

        Args:
            id: Its name in the store.
            options: As for ``WorkQueueChannel``; the same for every call with one name.

        Raises:
            ChannelKindMismatch: this bus has a broadcast channel of that name.
            InvalidOption: the channel was made before with other options.
        """
        return self._channel(WorkQueueChannel, id, {**options})

    async def start(self) -> None:
        """Open the store. Idempotent; a stopped bus may be started again, its channels are new then.

        Raises:
            StoreError: the store cannot be opened.
        """
        async with self._changing.next():
            if self._life is _Life.STARTED:
                return
            try:
                await complete(self._start())
            except asyncio.CancelledError:
                await complete(self._stop(0.0))
                raise

    async def _start(self) -> None:
        store = make_store(self._given, self.clock)
        if not isinstance(store, LogStore):
            raise MissingAbility("any", store.url, ["LogStore"])
        await store.open()
        self._store, self._fanout = store, FanOut.enter()
        if self._life is _Life.STOPPED:
            self._channels.clear()
        self._stopped = asyncio.Event()
        self._home = os.getpid(), asyncio.get_running_loop()
        self._life = _Life.STARTED

    async def stop(self, grace: float = 5.0) -> None:
        """Refuse new work, finish what runs within ``grace`` seconds, give back the rest, and close.

        Idempotent; the bus is stopped even if this raises.

        Raises:
            WrongLoop: it was started in another event loop, and runs on there.
            ForkedProcess: it was started before this process was forked, and runs on in the parent.
            FanOutDied: live delivery had ended by an error before.
        """
        check_seconds("grace", grace)
        async with self._changing.next():
            if self._life is _Life.STARTED:
                self._check_home()
                await complete(self._stop(grace))

    def _check_home(self) -> None:
        pid, loop = self._home or (os.getpid(), asyncio.get_running_loop())
        if pid != os.getpid():
            raise ForkedProcess("Bus")
        if loop is not asyncio.get_running_loop():
            raise WrongLoop("Bus")

    async def _stop(self, grace: float) -> None:
        self._life = _Life.STOPPED
        self._stopped.set()
        store, fanout, self._store, self._fanout = self._store, self._fanout, None, None
        channels = [channel for channel, _ in self._channels.values()]
        try:
            results = await asyncio.gather(*(c.stop(grace) for c in channels), return_exceptions=True)
        finally:
            try:
                if fanout is not None:
                    await fanout.leave()
            finally:
                if store is not None and not isinstance(self._given, Store):
                    await store.aclose(grace)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def serve(self) -> signal.Signals | None:
        """Wait until the bus is stopped or the process gets SIGINT or SIGTERM; return the signal.

        Typically the last line inside ``async with Bus(...)``: leaving the block then ends everything in
        order. A second signal while it ends has its usual effect.
        """
        if self._life is not _Life.STARTED:
            raise NotStarted("Bus")
        import anyio  # here, since many programs end by themselves and need none of it

        received: list[signal.Signals] = []

        async def listen() -> None:
            with anyio.open_signal_receiver(*_SIGNALS) as signals:
                received.append(await anext(aiter(signals)))
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await self._stopped.wait()
            tasks.cancel_scope.cancel()
        return received[0] if received else None

    async def store(self) -> LogStore:
        """Return the open store.

        Raises:
            NotStarted: the bus is not started.
            ClosedError: the bus is stopped.
        """
        if self._store is None:
            raise ClosedError("Bus") if self._life is _Life.STOPPED else NotStarted("Bus")
        return self._store

    def _channel(self, kind: type[C], id: str, options: dict[str, Any]) -> C:
        known = self._channels.get(id)
        if known is None:
            channel = kind(id, clock=self.clock, host=self, **options)
            self._channels[id] = channel, options
            return channel
        there, its_options = known
        if not isinstance(there, kind):
            raise ChannelKindMismatch(id, there.kind.value, kind.kind.value)
        for name, value in options.items():
            if value != its_options.get(name):
                its = its_options.get(name, "its default")
                rule = f"channel {id!r} was made with {its!r}; give the same options each time"
                raise InvalidOption(name, value, rule)
        return there
