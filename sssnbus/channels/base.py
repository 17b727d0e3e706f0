"""What every channel promises: its life, writing, and the operations of whoever runs it."""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self, Unpack

from sssnbus.channels import models
from sssnbus.channels.dead_letters import DeadLetters
from sssnbus.channels.drafting import Drafter, damaged_draft
from sssnbus.channels.options import Content, content_classes, possible_ids
from sssnbus.channels.place import Host, Life, Place
from sssnbus.clock import Clock, SystemClock
from sssnbus.delivery.fanout import FanOut, depart
from sssnbus.delivery.policy import STRIDE
from sssnbus.delivery.shield import Turns, complete
from sssnbus.errors import (
    BusError,
    BusTimeout,
    ChannelKindMismatch,
    ClosedError,
    ForkedProcess,
    MessageCorrupt,
    MissingAbility,
    NotStarted,
    WrongLoop,
)
from sssnbus.settings import check_count, check_seconds
from sssnbus.stored import MAX_PAYLOAD, Draft, Envelope, Receipt, Stored, check_name
from sssnbus.stores.base import DEAD, Catalogue, Kind, LogStore, Store
from sssnbus.stores.memory import MemoryStore
from sssnbus.stores.registry import make_store
from sssnbus.topics import Pattern

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage, MessageContent

log = logging.getLogger("sssnbus")


class Channel(ABC):
    """A named stream of messages under one rule.

    Start it with ``async with`` or ``await start()``, and end it with ``await stop()``; a channel of a
    ``Bus`` starts by itself at its first awaited verb. All verbs may be called by many tasks of the loop
    that started it. Unless a verb says otherwise, what it has changed is durable when it returns, as the
    store's ``durability`` says; and if it is cancelled, it either had no effect or was done as a whole.
    """

    kind: ClassVar[Kind]

    def __init__(
        self,
        id: str,
        name: str = "",
        *,
        store: str | PathLike[str] | Store = "memory://",
        content: Content = (),
        max_payload: int = MAX_PAYLOAD,
        dedupe_window: float = 120.0,
        clock: Clock | None = None,
        host: Host | None = None,
    ) -> None:
        """Make a channel; this does no I/O and needs no event loop.

        Args:
            id: Its name in the store: 1 to 512 letters, digits, ``.``, ``_`` and ``-``.
            name: A title for people.
            store: A URL (``sqlite:///file.db``), a ``Path``, which is that of an SQLite file, or a store. A
                store given as an object is opened if need be, keeps its own clock, and stays yours to close.
            content: The content class, or classes, that the channel takes; anything when left out.
            max_payload: The largest content, in bytes.
            dedupe_window: How long a ``dedupe`` key is remembered, in seconds.
            clock: Where the time comes from; tests hand in their own.
            host: What opens the store in this channel's stead; ``Bus`` passes itself.

        Raises:
            InvalidName: the id breaks the rule.
            InvalidURL: the store's URL cannot be understood.
            InvalidOption: an option is out of range.
        """
        self.id = check_name("channel name", id)
        self.name = name or id
        self.clock = clock or SystemClock()
        self._types = content_classes(content)
        self._drafter = Drafter(
            id,
            self._types,
            check_count("max_payload", max_payload),
            check_seconds("dedupe_window", dedupe_window),
            self.clock,
        )
        self._store = store
        make_store(store)  # A bad URL is refused now, by whoever wrote it.
        self._host = host
        self._life = Life.NEW
        self._place: Place | None = None
        self._streak = 0
        self._changing = Turns(f"Channel {self.id!r}")
        self.starting = False
        """Whether it is being started now, so that whoever stops it has to wait."""
        self.dead_letters = DeadLetters(id, self._ready_store, self._decode, self._returned)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} {self._life.value}>"

    def __del__(self) -> None:
        if getattr(self, "_host", self) is None and self._life is Life.STARTED:
            warnings.warn(f"{self!r} was never stopped; use 'async with'", ResourceWarning, stacklevel=2)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open the store and take up work. Idempotent; a stopped channel may be started again.

        Raises:
            ChannelKindMismatch: the store knows the name as the other kind of channel.
            MissingAbility: the store cannot do what the channel asks for.
            StoreError: the store cannot be opened.
        """
        async with self._changing.next():
            if self._life is Life.STARTED:
                self._check_place()
                return
            if self._life is Life.DRAINING:
                raise ClosedError(f"Channel {self.id!r}")
            self.starting = True
            try:
                await complete(self._start())
            except asyncio.CancelledError:
                # Nobody will stop what nobody was told has started. A host will, and other tasks may be using
                # it already.
                if self._host is None and (place := self._place) is not None:
                    self._place, self._life = None, Life.STOPPED
                    await complete(self._stop(place, 0.0))
                raise
            finally:
                self.starting = False

    async def _start(self) -> None:
        store, owned = await self._open_store()
        fanout = FanOut.enter()
        tail = fanout.tail(store)
        try:
            catalogue = await self._declare(store)
            self._place = Place(
                store,
                catalogue,
                owned,
                fanout,
                tail,
                asyncio.get_running_loop(),
                os.getpid(),
                isinstance(store, MemoryStore),
            )
            await self._started(self._place)
        except BaseException:
            self._place = None
            fanout.forget(tail)
            await fanout.leave()
            if owned:
                await store.aclose()
            raise
        self._life = Life.STARTED

    async def stop(self, grace: float = 5.0) -> None:
        """Refuse new work, finish what runs within ``grace`` seconds, give back the rest, close.

        If the store does not answer, warnings tell what was not given back, as for ``Bus.stop``. Idempotent;
        the channel is stopped even if this raises.

        Raises:
            WrongLoop: it was started in another event loop, and runs on there.
            FanOutDied: live delivery had ended by an error before.
        """
        check_seconds("grace", grace)
        async with self._changing.next():
            place = self._place
            if place is not None:
                self._check_here(place)
                self._place = None
            if place is not None or self._host is not None:
                self._life = Life.STOPPED
            if place is not None:
                await complete(self._stop(place, grace))

    async def _stop(self, place: Place, grace: float) -> None:
        end = asyncio.get_running_loop().time() + grace
        try:
            await self._stopping(place, grace)
        finally:
            place.fanout.forget(place.tail)
            await depart(place.fanout, place.store if place.owned else None, end)

    async def drain(self, timeout: float | None = None) -> None:
        """Refuse new writes, let everything already written here be handled, then stop.

        In a queue with handlers that includes retries and messages that are scheduled; leases of other
        processes are waited for as well.

        Args:
            timeout: Seconds to wait for that; then the channel stops all the same.

        Raises:
            BusTimeout: work was left when the time was over; it stays in the store.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        await self._ready()
        self._life = Life.DRAINING
        try:
            async with asyncio.timeout(timeout):
                await self._drained()
        except TimeoutError as late:
            raise BusTimeout(f"Channel {self.id!r} was stopped with work left in it.") from late
        finally:
            await self.stop()

    @abstractmethod
    async def write(
        self,
        sender_id: str,
        data: object,
        *,
        timeout: float | None = None,
        dedupe: str | None = None,
        **envelope: Unpack[Envelope],
    ) -> Receipt:
        """Store one message and return its receipt: a ``str``, the message's id."""

    async def remove(self, ids: Iterable[str]) -> int:
        """Remove messages by id, whatever their state; return how many were there. Durable on return."""
        wanted = possible_ids(ids)
        place = await self._ready()
        return await place.store.remove(self.id, wanted)

    async def clear(self, topic: str | None = None) -> int:
        """Remove every message of this channel, or those whose topic matches a pattern; return how many.

        Other channels and the dead letters stay. Sequences go on from where they were; a reader that had
        not come so far gets a ``Gap``, unless a ``topic`` was given. Durable on return.
        """
        place = await self._ready()
        last = (await place.store.last([self.id]))[self.id]
        if topic is None:
            return await place.store.trim(self.id, upto=last)
        topics, after, removed = [Pattern.parse(topic)], 0, 0
        while after < last:
            page = await place.store.read(self.id, after=after, limit=256, upto=last, topics=topics)
            ids = [stored.id for stored in page.messages]
            removed += await place.store.remove(self.id, ids) if ids else 0
            # It may have been dropped meanwhile, and then ends before.
            after, last = page.reach, min(last, page.last)
        return removed

    # What the kinds fill in.

    def _needs(self) -> Iterable[type]:
        """Return the abilities that this channel's options ask of its store."""
        return (LogStore, Catalogue)

    @abstractmethod
    async def _started(self, place: Place) -> None: ...

    @abstractmethod
    async def _stopping(self, place: Place, grace: float) -> None: ...

    @abstractmethod
    async def _drained(self) -> None: ...

    @abstractmethod
    def _returned(self, stored: Sequence[Stored]) -> None:
        """Messages have come into the channel by another way than ``write``."""

    # What the kinds use.

    async def _ready(self) -> Place:
        """Return the started channel's place; start it if it belongs to a running host."""
        if self._life is not Life.STARTED:
            if self._life is Life.DRAINING and self._place is not None:
                return self._place
            if self._life is Life.STOPPED:
                raise ClosedError(f"Channel {self.id!r}")
            if self._host is None:
                raise NotStarted(f"Channel {self.id!r}")
            await self.start()
        return self._check_place()

    def _at_work(self) -> Place | None:
        """Return the place of a channel that is started and may be used from here, else None."""
        place = self._place
        try:
            # In a forked child no loop of its parent is ever the running one.
            if place is None or place.loop is not asyncio.get_running_loop():
                return None
        except RuntimeError:
            return None
        return None if self._life is not Life.STARTED or place.fanout.error is not None else place

    async def _writable(self) -> Place:
        if self._life is Life.DRAINING:
            raise ClosedError(f"Channel {self.id!r}")
        return await self._ready()

    async def _ready_store(self) -> LogStore:
        place = await self._ready()
        await models.load()
        return place.store

    def _check_place(self) -> Place:
        place = self._place
        if place is None:
            raise ClosedError(f"Channel {self.id!r}")
        self._check_here(place)
        place.fanout.check()
        return place

    def _check_here(self, place: Place) -> None:
        if place.pid != os.getpid():
            raise ForkedProcess(f"Channel {self.id!r}")
        if place.loop is not asyncio.get_running_loop():
            raise WrongLoop(f"Channel {self.id!r}")

    def _decode(self, stored: Stored) -> ChannelMessage:
        return self._to_message(self.id, stored, self._types)

    @cached_property
    def _to_message(self) -> Callable[[str, Stored, Mapping[str, type[MessageContent]]], ChannelMessage]:
        # Only who receives messages needs the models, and waits for pydantic to be imported.
        from sssnbus.message import to_message

        return to_message

    async def _append(
        self,
        place: Place,
        drafts: Sequence[Draft],
        timeout: float | None,
        max_depth: Mapping[str, int] | None = None,
    ) -> list[Receipt]:
        """Store messages and return their receipts."""
        if place.instant:
            # Neither this store nor callbacks that wait for nothing let other tasks run.
            self._streak += 1
            if self._streak == STRIDE:
                self._streak = 0
                await asyncio.sleep(0)
        append = partial(place.store.append, drafts, max_depth=max_depth, timeout=timeout)
        try:
            try:
                places = await append()
            except NotStarted:
                # Somebody has deleted the channel since it was started here. Writing makes it anew.
                await self._declare(place.store)
                places = await append()
        except asyncio.CancelledError:
            # It may have been stored all the same; then the fan-out has to find it.
            place.tail.check()
            raise
        durability = place.store.durability
        return [Receipt(id, sequence, duplicate, durability) for id, sequence, duplicate in places]

    def _bury_damaged(self, stored: Stored, error: MessageCorrupt) -> None:
        """Put what is left of a damaged message among the dead letters, from wherever it was met."""
        place = self._place
        if place is not None:
            place.fanout.spawn(self._keep_damaged(place, stored, error), f"sssnbus-damaged-{self.id}")

    async def _keep_damaged(self, place: Place, stored: Stored, error: MessageCorrupt) -> None:
        draft = damaged_draft(self.id + DEAD, stored, error.reason, self.clock.time())
        try:
            await place.store.append([draft])
        except BusError as failure:
            log.warning("A damaged message could not be put among the dead letters: %s", failure)

    async def _open_store(self) -> tuple[LogStore, bool]:
        if self._host is not None:
            return await self._host.store(), False
        owned = not isinstance(self._store, Store)
        store = make_store(self._store, self.clock)
        await store.open()
        if not isinstance(store, LogStore):
            raise MissingAbility(self.id, store.url, ["LogStore"])
        return store, owned

    async def _declare(self, store: LogStore) -> Catalogue:
        missing = [ability.__name__ for ability in self._needs() if not isinstance(store, ability)]
        if missing or not isinstance(store, Catalogue):
            raise MissingAbility(self.id, store.url, missing)
        recorded = await store.declare(self.id, self.kind)
        if recorded is not self.kind:
            raise ChannelKindMismatch(self.id, recorded.value, self.kind.value)
        return store
