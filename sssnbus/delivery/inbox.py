"""The bounded buffer of one subscription, and how it is filled: from the head, or from the store.

It begins *behind*: history is read from the store until nothing is left, and then the head is joined in
one step without an await. From there on every message is offered. When the buffer is full, the policy
decides; leaving messages in the store means to be behind again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from sssnbus.delivery.feed import Feed, Gap, Lagged, Terms
from sssnbus.delivery.handling import Begun
from sssnbus.delivery.head import Entry
from sssnbus.delivery.policy import NOTED, OVERFLOW, PAGE, Overflow, retry_delay
from sssnbus.errors import BusError, BusTimeout, StoreReset, SubscriptionOverflow
from sssnbus.stored import Stored

log = logging.getLogger("sssnbus")

Item = Entry | Lagged | Gap | Begun


@dataclass(slots=True)
class Counters:
    """What has happened to a subscription's messages so far."""

    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    missed: int = 0


class Inbox:
    """What waits for one consumer, in order."""

    def __init__(self, name: str, feed: Feed, terms: Terms, *, awaited: bool) -> None:
        self.name = name
        self.counters = Counters()
        self.items: deque[Item] = deque()
        self.error: BusError | None = None
        self.closed = False
        self.eager: Callable[[Entry], None] | None = None
        """Begins to handle a message at once; set while the one who takes messages waits for one."""
        self._feed, self._terms = feed, terms
        self._awaited = awaited
        self._limit = terms.buffer
        self._overflow = OVERFLOW[terms.on_full]
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._pauses: set[asyncio.Future[None]] = set()
        self._refilling = asyncio.Lock()
        self._held: dict[int, Entry] = {}
        self._read_to = self._resets = 0
        self._behind, self._joined = True, False

    @property
    def taken(self) -> int:
        """The sequence up to which everything has left the buffer."""
        for item in self.items:
            if isinstance(item, Entry):
                return item.sequence - 1
            if isinstance(item, Gap):
                return item.first - 1
        return self._read_to if self._behind else max(self._read_to, self._feed.head.position)

    @property
    def level(self) -> int | None:
        """The sequence up to which nothing is left to take, or None while something is."""
        return None if self.items or self._behind else self.taken

    @property
    def _idle(self) -> bool:
        return not (self.items or self._behind or self.closed or self.error)

    async def attach(self, position: int) -> None:
        """Begin after ``position``, with as much history as there is room for: often that is all."""
        self._read_to = position
        last = await self._feed.last()
        if self.closed:
            return
        if position > last:
            raise StoreReset(self._feed.channel, position, last)
        self._feed.head.attach(self, last, self._terms.patterns)
        self._join_if_level()
        reached = -1
        while self._behind and len(self.items) < self._limit and self._read_to > reached:
            reached = self._read_to
            await self._refill()

    def reset(self, position: int) -> None:
        """Drop what is buffered and go on after ``position``."""
        self._resets += 1
        self.clear()
        self._read_to = position
        self._behind = self._joined = True
        self._join_if_level()
        self.wake_all()

    def close(self) -> None:
        """Take nothing more and forget what is buffered; whoever waits is told."""
        # What is dropped now was not taken: a successor goes on before it.
        self.closed = True
        self._resets += 1
        self.eager = None
        self._feed.head.detach(self)
        self.drop()
        self.wake_all()
        for pause in self._pauses:
            end(pause)

    def drop(self) -> None:
        """Forget what is buffered and stay before it."""
        self._read_to, self._behind = self.taken, True
        self.clear()

    def clear(self) -> None:
        """Forget what is buffered; writers need not wait for it."""
        for item in self.items:
            if self._awaited and isinstance(item, Entry):
                item.settle()
        # What has begun is not forgotten: it runs to its end.
        begun = [item for item in self.items if isinstance(item, Begun)]
        self.items.clear()
        self.items.extend(begun)
        self._settle_held(None)

    def holds(self, sequence: int) -> bool:
        """Return whether a message waits here, or in the store on behalf of this inbox."""
        return sequence in self._held or any(
            isinstance(item, Entry) and item.sequence == sequence for item in self.items
        )

    # What the head calls; none of these waits.

    def offer(self, entry: Entry, eager: bool = False) -> None:
        """Take one message from the head; if ``eager``, handle it at once if that is possible."""
        if self._behind:
            # It may have been closed by a callback that got the message before us.
            wanted = self._joined and not self.closed and entry.sequence > self._read_to
            if self._overflow is Overflow.HOLD and wanted:
                self._hold(entry)
            return
        if entry.sequence <= self._read_to:
            return
        if eager and self.eager is not None and self._waiters and not self.items:
            # In hand from here on, also for what the handler asks of its own subscription.
            self._read_to = entry.sequence
            self.eager(entry)
            return
        if len(self.items) >= self._limit and not self._make_room(entry):
            return
        self.items.append(entry)
        if self._awaited:
            entry.pending += 1
        if self._waiters:
            self._wake()

    def offer_all(self, entries: Sequence[Entry]) -> int:
        """Take messages from the head in one step, if that changes nothing for each of them."""
        items = self.items
        if self._behind or entries[0].sequence <= self._read_to or len(items) + len(entries) > self._limit:
            for entry in entries:
                self.offer(entry)
            return 0
        items.extend(entries)
        for _ in entries:
            if not self._waiters:
                break
            self._wake()
        return 1 if self._awaited else 0

    def skip(self, first: int, last: int) -> None:
        """Take word of messages that were removed before this process could read them."""
        if not self._behind and last > self._read_to:
            self.items.append(Gap(max(first, self._read_to + 1), last))
            self._wake()

    def fail(self, error: BusError) -> None:
        """End after what is buffered."""
        if self.error is None:
            self.error = error
            if self._awaited and not self._feed.fanout.cancelled:
                # Who iterates gets it raised.
                log.error("Subscription %r ends: %s", self.name, error)
            self._feed.head.detach(self)
            self._settle_held(None)
            self.wake_all()

    def _make_room(self, entry: Entry) -> bool:
        """Apply the policy for a full buffer; return whether the message may be appended."""
        match self._overflow:
            case Overflow.DROP_OLDEST:
                self._drop_oldest()
                return True
            case Overflow.DROP_NEWEST:
                self._drop_newest()
            case Overflow.DISCONNECT:
                self.fail(SubscriptionOverflow(self._feed.channel, self.name, self._limit))
            case policy:
                # Everything before this message was offered or did not match.
                self._behind, self._read_to = True, entry.sequence - 1
                if policy is Overflow.HOLD:
                    self._hold(entry)
        return False

    def _drop_oldest(self) -> None:
        """Drop the oldest message, if any waits; notices, and what has begun, stay where they are."""
        items, before = self.items, list[Item]()
        while items and not isinstance(items[0], Entry):
            before.append(items.popleft())
        if items:
            first = items.popleft()
            if self._awaited and isinstance(first, Entry):
                first.settle()
            self.counters.dropped += 1
            lagged = 1
            if before and isinstance(last := before[-1], Lagged):
                lagged += last.count
                before.pop()
            before.append(Lagged(lagged))
        items.extendleft(reversed(before))

    def _drop_newest(self) -> None:
        lagged = 0
        if isinstance(last := self.items[-1], Lagged):
            lagged = last.count
            self.items.pop()
        self.counters.dropped += 1
        self.items.append(Lagged(lagged + 1))

    def _hold(self, entry: Entry) -> None:
        if self._awaited:
            entry.pending += 1
            self._held[entry.sequence] = entry

    def _settle_held(self, upto: int | None) -> None:
        for sequence in [n for n in self._held if upto is None or n <= upto]:
            self._held.pop(sequence).settle()

    # Reading from the store.

    def _join_if_level(self) -> None:
        if self._read_to >= self._feed.head.reach:
            self._behind, self._joined = False, True

    async def _refill(self) -> None:
        """Read the next stretch of history; with nothing left, join the head."""
        async with self._refilling:
            room = self._limit - len(self.items)
            if not self._behind or self.closed or room <= 0:
                return
            mark, limit, after = self._feed.head.position, min(PAGE, room), self._read_to
            resets = self._resets
            page = await self._feed.store.read(
                self._feed.channel, after=after, limit=limit, topics=self._terms.patterns
            )
            if resets != self._resets:
                # Closed or moved elsewhere meanwhile: what was read is for nobody any more.
                return
            if page.floor > after:
                self.items.append(Gap(after + 1, page.floor))
            for stored in page.messages:
                self._accept(stored)
            self._read_to = page.reach
            if page.reach >= page.last:
                # All that stands up to the head as it was before the read was there to be seen.
                self._read_to = max(self._read_to, mark)
                self._join_if_level()
            self._settle_held(self._read_to)
            for _ in self.items:
                self._wake()
            if not page.messages and page.reach < page.last:
                # There may be many such stretches, and a store in memory lets nobody else run.
                await asyncio.sleep(0)

    def _accept(self, stored: Stored) -> None:
        entry = self._held.pop(stored.sequence, None)
        if entry is None:
            message = self._feed.decode(stored)
            if message is None:
                return
            entry = Entry(stored.sequence, message)
        self.items.append(entry)

    # Taking.

    def take(self) -> Item:
        """Remove and return the first item; there must be one."""
        item = self.items.popleft()
        if isinstance(item, Gap):
            self.counters.missed += item.last - item.first + 1
        return item

    def resume(self, begun: Begun) -> None:
        """Have the one who waits for a message finish one that was begun."""
        self.items.append(begun)
        self._wake()

    def put_back(self, entry: Entry) -> None:
        """Undo ``take`` for a message that was not handed on after all."""
        self.items.appendleft(entry)
        self._wake()

    async def next(
        self, timeout: float | None = None, on_idle: Callable[[], Awaitable[None]] | None = None
    ) -> Item | None:
        """Return the next item, or None when the inbox is closed.

        Args:
            timeout: Seconds to wait for one, then ``BusTimeout``.
            on_idle: Awaited before waiting; with topics now and then meanwhile, unless there is a timeout.

        Raises:
            BusError: what has ended the subscription, once the buffer is empty.
        """
        failures = 0
        while True:
            if self.items:
                return self.take()
            if self.closed:
                return None
            if self.error is not None:
                raise self.error
            self._feed.fanout.check()
            if not self._behind:
                if on_idle is not None:
                    await on_idle()
                # What does not match wakes nobody, and moves the place of a durable one all the same.
                noting = timeout is None and on_idle is not None and bool(self._terms.patterns)
                if self._idle:
                    with suppress(BusTimeout) if noting else nullcontext():
                        await self.wait(NOTED if noting else timeout)
                continue
            try:
                await self._refill()
                failures = 0
            except BusError as error:
                if not error.retryable:
                    raise
                failures += 1
                log.warning("Subscription %r cannot read on: %s", self.name, error)
                await self._feed.clock.sleep(retry_delay(self._terms.retry, failures))

    async def wait(self, timeout: float | None = None) -> None:
        """Wait until there may be something to take; raise ``BusTimeout`` after ``timeout`` seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        timer = None
        if timeout is not None:
            late = BusTimeout(f"No message came on channel {self._feed.channel!r} for {timeout:g} s.")
            timer = self._feed.clock.call_later(timeout, lambda: fail(waiter, late))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # The wake-up was for one of us; hand it on.
                self._wake()
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def pause(self, delay: float) -> None:
        """Wait for ``delay`` seconds, or until the inbox is closed."""
        pause: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pauses.add(pause)
        timer = self._feed.clock.call_later(delay, lambda: end(pause))
        try:
            if not self.closed:
                await pause
        finally:
            timer.cancel()
            self._pauses.discard(pause)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        """Let everybody who waits look again."""
        while self._waiters:
            self._wake()


def end(waiter: asyncio.Future[None]) -> None:
    """Let a wait end, unless it has ended already."""
    if not waiter.done():
        waiter.set_result(None)


def fail(waiter: asyncio.Future[None], error: BusError) -> None:
    """Let a wait end by an error, unless it has ended already."""
    if not waiter.done():
        waiter.set_exception(error)
