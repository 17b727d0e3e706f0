"""A consumer's live place in a broadcast channel."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from sssnbus.delivery.cursor import Cursor
from sssnbus.delivery.feed import Feed, Gap, Handler, Lagged, Notice, Start, Terms
from sssnbus.delivery.handling import Begun
from sssnbus.delivery.head import Entry
from sssnbus.delivery.inbox import Inbox
from sssnbus.delivery.runner import Attempts, Bury, Runner, notify
from sssnbus.delivery.shield import briefly, complete, patience
from sssnbus.errors import BusError, ClosedError, MissingAbility, NotBegun, StateError
from sssnbus.settings import check_seconds
from sssnbus.stores.base import Records

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage

log = logging.getLogger("sssnbus")

_LOOK: Final = 0.005
"""How often ``caught_up`` looks, in seconds."""


@dataclass(frozen=True, slots=True)
class SubscriptionStatistics:
    """A snapshot of one subscription."""

    name: str
    position: int
    """Everything up to this sequence was taken by the subscriber."""
    buffered: int
    delivered: int
    """Messages handled, or handed to an iterator."""
    failed: int
    """Calls of the callback that raised or ran out of time."""
    dropped: int
    """Messages skipped by the policy for a full buffer."""
    missed: int
    """Sequences removed by retention before they could be read."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a subscription needs from its channel to begin, and to say when it has ended."""

    feed: Callable[[], Awaitable[Feed]]
    start: Callable[[Feed], Awaitable[int]]
    bury: Bury
    opened: Callable[[Subscription], None]
    closed: Callable[[Subscription], None]
    durable: bool = False
    standby: bool = False


class Subscription:
    """What ``subscribe`` returns: await it, enter it with ``async with``, or iterate it.

    With a callback, awaiting starts it, and it runs until ``unsubscribe``, ``aclose`` or the end of the
    channel. Without one, ``async with`` opens it and ``async for`` takes the messages, oldest first. Several
    tasks may iterate one subscription: each message goes to one of them, and a durable one takes it for done
    when that task asks again. For a time limit use ``listen``: ``asyncio.wait_for`` asks in a task of its own
    each time before Python 3.12. A cancelled wait takes nothing.
    """

    def __init__(self, name: str, plan: Plan, terms: Terms, handler: Handler | None) -> None:
        self.name = name
        self._plan, self._terms, self._handler = plan, terms, handler
        self._inbox: Inbox | None = None
        self._feed: Feed | None = None
        self._attempts: Attempts | None = None
        self._runner: Runner | None = None
        self._current: dict[asyncio.Task[Any] | None, Entry] = {}
        self._begun = self._closing = False

    def __del__(self) -> None:
        if not self._begun and not self._closing:
            warnings.warn(
                f"subscribe({self.name!r}) was never awaited, so it did nothing: await it, or enter it with "
                "'async with'.",
                RuntimeWarning,
                stacklevel=2,
            )

    def __await__(self) -> Generator[object, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._confirm(*self._current)
        await self.aclose()

    @property
    def has_callback(self) -> bool:
        """Whether the subscription runs a callback, and is not for iterating."""
        return self._handler is not None

    @property
    def error(self) -> BusError | None:
        """What has ended the subscription from outside, if anything did."""
        return None if self._inbox is None else self._inbox.error

    @property
    def has_place(self) -> bool:
        """Whether the subscription has come so far as to stand anywhere in its channel."""
        return self._inbox is not None

    @property
    def position(self) -> int:
        """The sequence up to which messages were taken; 0 before the subscription has begun."""
        return 0 if self._inbox is None else self._inbox.taken

    async def _open(self) -> Self:
        self._check_open()
        if self._begun:
            return self
        self._begun = True
        try:
            await self._begin()
        except BaseException:
            self._closing = True
            self._plan.closed(self)
            await complete(self._end(0.0))
            raise
        return self

    async def _begin(self) -> None:
        feed = self._feed = await self._plan.feed()
        self._plan.opened(self)
        inbox = Inbox(self.name, feed, self._terms, awaited=self._handler is not None)
        if self._plan.durable:
            position = await self._acquire(feed, inbox)
        else:
            position = await self._plan.start(feed)
        self._check_open()
        self._inbox = inbox
        await inbox.attach(position)
        self._check_open()
        if self._handler is not None:
            self._runner = Runner(feed, inbox, self._handler, self._terms, self._attempts)

    async def _acquire(self, feed: Feed, inbox: Inbox) -> int:
        if not isinstance(feed.store, Records):
            raise MissingAbility(feed.channel, feed.store.url, ["Records"])
        cursor = Cursor(feed.store, feed.channel, self.name, feed.clock)
        position = await cursor.load()
        if position is None:
            position = await self._plan.start(feed)
        # From here on aclose gives the record back, whatever happens.
        self._attempts = Attempts(cursor, inbox, self._terms, self._plan.bury)
        await cursor.acquire(position, standby=self._plan.standby, ended=lambda: self._closing)
        return cursor.position

    async def aclose(self, grace: float = 5.0) -> None:
        """Stop: take no more messages, and let a running callback finish within ``grace`` seconds.

        Idempotent; the subscription is gone even if it raises. A durable one keeps its place: what was not
        handled is delivered to its next owner. If the store does not answer it is the place that was saved
        last, and some of what was handled is delivered again. Writers no longer wait for it.
        """
        if self._closing:
            return
        self._closing = True
        self._plan.closed(self)
        await self._end(grace)

    async def _end(self, grace: float) -> None:
        end = asyncio.get_running_loop().time() + grace
        if self._attempts is not None:
            self._attempts.note()
        if self._inbox is not None:
            self._inbox.close()
        try:
            if self._runner is not None:
                await self._runner.stop(grace)
        finally:
            if self._attempts is not None:
                if self._inbox is not None:
                    self._attempts.cursor.reached(self._inbox.taken)
                await complete(self._release(self._attempts.cursor, patience(end)))

    async def _release(self, cursor: Cursor, seconds: float) -> None:
        """Save the place of a durable subscription, and let others have it."""
        if not await briefly(cursor.release(), seconds):
            log.warning(
                "The place of subscription %r of channel %r could not be saved: the store did not answer in "
                "time. It goes on from the place that was saved last.",
                cursor.name,
                cursor.channel,
            )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChannelMessage:
        message = await self._message(None)
        if message is None:
            raise StopAsyncIteration
        return message

    async def listen(self, timeout: float | None = None) -> AsyncIterator[ChannelMessage]:
        """Iterate over the messages, waiting at most ``timeout`` seconds for each.

        Raises:
            BusTimeout: (a ``TimeoutError``) none came for that long, counted from the last message. The
                subscription stays open; call ``listen`` again to go on.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        while (message := await self._message(timeout)) is not None:
            yield message

    async def events(self) -> AsyncIterator[ChannelMessage | Lagged | Gap]:
        """Iterate over the messages and, each at its place among them, the notices."""
        while (item := await self._take(None)) is not None:
            yield item.message if isinstance(item, Entry) else item

    async def lag(self) -> int:
        """Return how many sequences lie between the last message taken and the newest in the channel."""
        feed, inbox = self._open_parts()
        return max(0, await feed.last() - inbox.taken)

    async def seek(self, start: Start) -> None:
        """Go on from another place, given as for ``subscribe``; what is buffered is dropped.

        A durable subscription's record moves too, in the store when this returns.

        Raises:
            UnknownMessage: ``start`` is an id that the channel does not hold.
        """
        feed, inbox = self._open_parts()
        position = await feed.position(start)
        self._current.clear()
        inbox.reset(position)
        if self._attempts is not None:
            await self._attempts.cursor.move(position)

    async def caught_up(self, sequence: int) -> None:
        """Wait until the callback is through with everything up to ``sequence``."""
        while self._runner is not None and self._inbox is not None and self.error is None:
            level = self._inbox.level
            if self._inbox.closed or (level is not None and level >= sequence and not self._runner.busy):
                return
            await asyncio.sleep(_LOOK)

    def waits_for(self, sequence: int) -> bool:
        """Return whether the callback still has a message before it, or is at work on it."""
        if self._runner is None or self._inbox is None:
            return False
        return self._inbox.holds(sequence) or self._runner.handles(sequence)

    def statistics(self) -> SubscriptionStatistics:
        """Return a snapshot of the counters."""
        if self._inbox is None:
            return SubscriptionStatistics(self.name, 0, 0, 0, 0, 0, 0)
        counters = self._inbox.counters
        return SubscriptionStatistics(
            self.name,
            self._inbox.taken,
            len(self._inbox.items),
            counters.delivered,
            counters.failed,
            counters.dropped,
            counters.missed,
        )

    def _check_open(self) -> None:
        if self._closing:
            raise ClosedError(f"Subscription {self.name!r}")

    def _open_parts(self) -> tuple[Feed, Inbox]:
        self._check_open()
        if self._feed is None or self._inbox is None:
            raise NotBegun(self.name)
        return self._feed, self._inbox

    async def _message(self, timeout: float | None) -> ChannelMessage | None:
        while (item := await self._take(timeout)) is not None:
            if isinstance(item, Entry):
                return item.message
            assert self._feed is not None
            await notify(self._feed, self._terms, self.name, item)
        return None

    async def _take(self, timeout: float | None) -> Entry | Notice | None:
        """Return the next item for an iterator; asking for it confirms the one before."""
        if self._handler is not None:
            raise StateError("This subscription has a callback. Subscribe without one to iterate it.")
        self._confirm(asyncio.current_task())
        if self._closing:
            return None
        _, inbox = self._open_parts()
        attempts = self._attempts
        while True:
            item = await inbox.next(timeout, attempts.idle if attempts else None)
            assert not isinstance(item, Begun), "only callbacks begin before they are taken"
            if isinstance(item, Entry):
                if attempts is not None and not await self._try(attempts, inbox, item):
                    continue
                inbox.counters.delivered += 1
            return item

    async def _try(self, attempts: Attempts, inbox: Inbox, entry: Entry) -> bool:
        """Count an attempt at a message; return whether it may be handed out."""
        try:
            if await attempts.begin(entry) is None:
                return False
        except asyncio.CancelledError:
            inbox.put_back(entry)
            raise
        self._current[asyncio.current_task()] = entry
        return True

    def _confirm(self, *tasks: asyncio.Task[Any] | None) -> None:
        """Note that the messages which these tasks took last are done."""
        for task in tasks:
            entry = self._current.pop(task, None)
            if self._attempts is not None and entry is not None:
                self._attempts.finish(entry)
