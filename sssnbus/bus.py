"""The bus: one store, and the channels in it."""

from __future__ import annotations

import asyncio
import os
import signal
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from enum import Enum
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack

from sssnbus.channels.base import Channel
from sssnbus.channels.options import BroadcastOptions, QueueOptions
from sssnbus.clock import Clock, SystemClock
from sssnbus.delivery.fanout import FanOut, depart
from sssnbus.delivery.shield import Turns, briefly, complete, patience
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
from sssnbus.stored import Envelope, Receipt, check_name
from sssnbus.stores.base import LogStore, Store
from sssnbus.stores.registry import make_store

# What a program may do without is imported by the methods that need it: a command that writes one message
# should not pay for subscriptions.
if TYPE_CHECKING:
    from sssnbus.archive.load import Loaded
    from sssnbus.channels.broadcast import BroadcastChannel
    from sssnbus.channels.statistics import ChannelInfo, StoreUsage, SubscriptionInfo
    from sssnbus.channels.work_queue import WorkQueueChannel

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
            store: A URL (``memory://``, ``sqlite:///file.db``), a ``Path``, which is that of an SQLite file,
                or a store. A store given as an object is opened if need be, keeps its own clock, and stays
                yours to close.
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
        from sssnbus.channels.broadcast import BroadcastChannel

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
        from sssnbus.channels.work_queue import WorkQueueChannel

        return self._channel(WorkQueueChannel, id, {**options})

    async def start(self) -> None:
        """Open the store. Idempotent; a stopped bus may be started again, its channels are new then.

        A server that is away, or is starting, is tried again for ``connect_timeout`` seconds of the URL.

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
        self._stopped = asyncio.Event()
        self._home = os.getpid(), asyncio.get_running_loop()
        self._life = _Life.STARTED

    async def stop(self, grace: float = 5.0) -> None:
        """Refuse new work, finish what runs within ``grace`` seconds, give back the rest, and close.

        If the store does not answer, this takes a few seconds beyond the grace, and warnings tell what
        could not be given back or saved: claims end by themselves, and durable subscriptions go on from the
        place that was saved last. Idempotent; the bus is stopped even if this raises.

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
        end = asyncio.get_running_loop().time() + grace
        # What is asked for from here on belongs to the next life, and is stopped with that.
        channels = [channel for channel, _ in self._channels.values()]
        self._channels.clear()
        try:
            # A start that hangs is ended by closing the store, and nothing else.
            stops = (briefly(c.stop(grace), patience(end)) if c.starting else c.stop(grace) for c in channels)
            results = await asyncio.gather(*stops, return_exceptions=True)
        finally:
            await depart(fanout, None if isinstance(self._given, Store) else store, end)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def write_to(
        self,
        queues: Iterable[str],
        sender_id: str,
        data: object,
        *,
        timeout: float | None = None,
        **envelope: Unpack[Envelope],
    ) -> list[Receipt]:
        """Store one copy of a message in each of several work queues, all or none; return their receipts.

        Queues that are not there are made. Each copy has an id of its own, unless ``id`` is given. Durable
        on return as the receipts say. If cancelled, all may have been written, or none.

        Args:
            queues: Their names.
            sender_id: Who writes.
            data: As for ``WorkQueueChannel.write``.
            timeout: As for ``WorkQueueChannel.write``.
            envelope: As for ``WorkQueueChannel.write``.

        Raises:
            UsageError: a name or a part of the message breaks a rule; nothing was stored.
            ChannelKindMismatch: one of the names belongs to a broadcast channel; nothing was stored.
            MissingAbility: the store cannot write to several queues in one step.
            QueueFull: a queue made here is at its ``max_depth``; nothing was stored.
        """
        from sssnbus.channels.spreading import spread

        store, fanout = await self.store(), self._fanout
        assert fanout is not None, "a started bus has one"
        if isinstance(queues, str) or not isinstance(queues, Iterable):
            raise InvalidOption("queues", queues, "give a list of queue names")
        if timeout is not None:
            check_seconds("timeout", timeout)
        channels = [self.work_queue(name) for name in dict.fromkeys(queues)]
        return await spread(store, fanout, channels, sender_id, data, envelope, timeout)

    async def channels(self, prefix: str = "") -> list[ChannelInfo]:
        """Return every channel of the store whose name starts with ``prefix``, sorted by name.

        Each is looked at by itself: their numbers are not of one moment.
        """
        from sssnbus.channels.overview import list_channels

        return await list_channels(await self.store(), prefix)

    async def channel(self, name: str) -> ChannelInfo | None:
        """Return what the store keeps of one channel, None if it knows none of that name."""
        from sssnbus.channels.overview import catalogue_of, find_channel

        return await find_channel(catalogue_of(await self.store()), check_name("channel name", name))

    async def subscriptions(self, channel: str | None = None) -> list[SubscriptionInfo]:
        """Return the durable subscriptions of one channel, or of all, sorted by channel and name."""
        from sssnbus.channels.overview import list_subscriptions

        return await list_subscriptions(await self.store(), channel)

    async def usage(self) -> StoreUsage:
        """Return how much the store holds, and how far its ids have come."""
        from sssnbus.channels.overview import measure

        return await measure(await self.store())

    async def delete(self, name: str) -> bool:
        """Remove a channel: its messages in any state, dead letters, cursors and recorded settings.

        A channel object of that name in this bus is stopped first. Elsewhere whoever writes makes the
        channel anew, and its sequences begin at 1 again. Whoever followed it then gets ``StoreReset``, but
        only if it looks before as many messages are written as it had seen: later it takes the new ones for
        those that follow, and misses the first. So stop those who follow a channel before you delete it. If
        cancelled, delete it again. Durable on return.

        Returns:
            Whether the store knew the channel.
        """
        from sssnbus.channels.overview import delete_channel

        check_name("channel name", name)
        store = await self.store()
        known = self._channels.pop(name, None)
        if known is not None:
            await known[0].stop()
        return await delete_channel(store, name)

    async def vacuum(self, *, compact: bool = False) -> int:
        """Remove all messages that are done; return how many. Durable on return.

        Args:
            compact: Also give back the room that removed messages took up, if the store can. It may take
                long and as much room again, and other writers may have to wait meanwhile.
        """
        from sssnbus.channels.overview import catalogue_of

        return await catalogue_of(await self.store()).vacuum(compact=compact)

    async def serve(self) -> signal.Signals | None:
        """Wait until the bus is stopped or the process gets SIGINT or SIGTERM; return the signal.

        Typically the last line inside ``async with Bus(...)``: leaving the block then ends everything in
        order, and gives handlers 5 seconds; ``await bus.stop(grace=30)`` behind it gives them more. A second
        signal while it ends has its usual effect. Where something else handles signals, as a web server does,
        do without ``serve``.

        Raises:
            NotStarted: the bus is not started, or stopped already.
        """
        if self._life is not _Life.STARTED:
            raise NotStarted("Bus")
        import anyio

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

    async def dump(self, channels: Iterable[str] = ()) -> AsyncIterator[dict[str, Any]]:
        """Iterate over the store, or some of its channels, as records that hold nothing but JSON values.

        The messages come as they were when it began, with their ids and how they stand in their queues; what
        is leased counts as given back. Then follow the places of durable subscriptions and readers, and
        everything else that is kept by name. Nothing is changed, and others may write meanwhile.

        A message that is moved meanwhile may come twice, with one id. One that is damaged comes as a record
        that says so. Dedupe keys are left out.

        Args:
            channels: Names of channels; all of them, and what belongs to none, when left out.

        Raises:
            InvalidOption: the store has no channel of that name.
            MissingAbility: the store cannot list its channels.
        """
        from sssnbus.archive.dump import dump

        async for record in dump(await self.store(), self.clock, channels):
            yield record

    async def load(
        self,
        records: AsyncIterable[object] | Iterable[object],
        *,
        refuse: Callable[[int, str], object] | None = None,
    ) -> Loaded:
        """Take in what ``dump`` has given, from this store or any other; return what came of it.

        Messages keep their ids and go to the ends of their channels, in steps that are durable one after the
        other. What is there already stays as it is: loading twice changes nothing, and a load that was
        interrupted, or cancelled, is completed by another one. What was consumed since comes back.

        Args:
            records: Mappings, or lines of JSON as text or bytes.
            refuse: Called with the number of a line, from 1, and the reason why it is not taken in; the
                others are. Without it the first such line raises.

        Raises:
            InvalidDump: the records do not begin as a dump does; or, without ``refuse``, a line cannot be
                taken in, or the end is missing. What came before it may have been loaded.
            MissingAbility: the store cannot hold a dump.
        """
        from sssnbus.archive.load import load

        store, fanout = await self.store(), self._fanout
        assert fanout is not None, "a bus with a store has it"
        # News of our own making: the store tells other processes only.
        tail = fanout.tail(store)
        try:
            return await load(store, records, refuse=refuse, added=tail.check)
        finally:
            fanout.forget(tail)

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
                its = repr(its_options[name]) if name in its_options else "the default"
                rule = f"channel {id!r} was made with {its}; give the same options each time"
                raise InvalidOption(name, value, rule)
        return there
