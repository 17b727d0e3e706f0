"""The newest point of one channel that this process has handed out, and the messages there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from sssnbus.delivery.policy import PAGE
from sssnbus.errors import BusError, MessageCorrupt, StoreReset
from sssnbus.stored import Stored
from sssnbus.stores.base import LogStore
from sssnbus.topics import Pattern, TopicIndex

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage

log = logging.getLogger("sssnbus")

Decode = Callable[[Stored], "ChannelMessage | None"]
"""Turns what a store kept into a message; None if it is damaged, which has then been reported."""


class Entry:
    """One message at a head: shared by all subscriptions, settled when each callback is through."""

    __slots__ = ("message", "pending", "sequence", "waiters")

    def __init__(self, sequence: int, message: ChannelMessage) -> None:
        self.sequence = sequence
        self.message = message
        # The hand-out itself counts as one, so that no callback can settle it half-way.
        self.pending = 1
        self.waiters: list[asyncio.Future[None]] | None = None

    def settle(self) -> None:
        """One callback is through."""
        self.pending -= 1
        if not self.pending and self.waiters:
            self.release()

    def release(self) -> None:
        """Every callback is through: tell who waits for it."""
        for waiter in self.waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        self.waiters = None

    async def wait(self) -> None:
        """Wait until no callback is pending."""
        if self.pending:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if self.waiters is None:
                self.waiters = []
            self.waiters.append(waiter)
            await waiter


class Target(Protocol):
    """A subscription as the fan-out sees it. None of these may wait."""

    def __hash__(self) -> int: ...
    def offer(self, entry: Entry, eager: bool = False) -> None: ...
    def offer_all(self, entries: Sequence[Entry]) -> int:
        """Take messages; return 1 if each has gained one callback to wait for, 0 if that is seen to."""

    def skip(self, first: int, last: int) -> None: ...
    def fail(self, error: BusError) -> None: ...


class Head:
    """The newest point of one channel that its live subscriptions have been offered."""

    def __init__(self, channel: str, store: LogStore, check: Callable[[], None], decode: Decode) -> None:
        self.channel = channel
        self._store = store
        self._check = check
        self.position = 0
        self.known = 0
        self.users = 0
        self._handing = 0
        self._decode = decode
        self._all: dict[Target, None] = {}
        self._by_topic: TopicIndex[Target] = TopicIndex()
        self._patterns: dict[Target, tuple[Pattern, ...]] = {}
        self._local: dict[int, Entry] = {}
        self._open: dict[int, Entry] = {}
        self._open_limit = PAGE

    @property
    def attached(self) -> bool:
        """Whether any subscription is live here."""
        return bool(self._patterns)

    @property
    def reach(self) -> int:
        """The newest sequence that is handed out, or being handed out by a callback's leave."""
        return max(self.position, self._handing)

    def attach(self, target: Target, position: int, patterns: tuple[Pattern, ...]) -> None:
        """Make a subscription that has everything up to ``position`` live. It must not lag the head."""
        if not self._patterns:
            # Nobody was here to move the head, so what it knows of others' writes may be old.
            self.position = position
            self._settle_local(position)
            self._check()
        self._patterns[target] = patterns
        if not patterns:
            self._all[target] = None
        for pattern in patterns:
            self._by_topic.add(pattern, target)

    def detach(self, target: Target) -> None:
        """Take a subscription off; a no-op if it is not live."""
        if target not in self._patterns:
            return
        self._all.pop(target, None)
        for pattern in self._patterns.pop(target):
            self._by_topic.remove(pattern, target)
        if not self._patterns:
            self._settle_local(self.known)

    def publish(self, stored: Sequence[Stored], *, eager: bool = False) -> list[Entry]:
        """Hand out messages that this process has just stored; return them to wait for.

        They go out at once if the head stands right before them; otherwise the fan-out task first
        fetches what other processes wrote in between.

        Args:
            stored: The messages, in order.
            eager: Run callbacks that are idle now, instead of waking their tasks. For a writer who waits, and
                for news; never for a handler: handlers that write to each other would pile up.
        """
        first, last = stored[0].sequence, stored[-1].sequence
        self.known = max(self.known, last)
        if not self._patterns:
            return []
        if first == self.position + 1 and last - first < len(stored) and not self._local:
            entries = [
                Entry(item.sequence, message)
                for item in stored
                if (message := self._decode(item)) is not None
            ]
            self._handing = last
            try:
                self._hand_out(entries, eager and len(entries) == 1)
            finally:
                self._handing = 0
            # Only now: what a callback has written meanwhile must not overtake this at anybody.
            self.position = max(self.position, last)
            if self._local:
                self._advance()
        else:
            entries = [entry for item in stored if (entry := self._publish(item)) is not None]
        if self.position < self.known:
            self._check()
        return entries

    def take(self, stored: Sequence[Stored]) -> None:
        """Hand out messages that came with news: others wrote them, or one of us who has not heard of it."""
        for entry in self.publish(stored, eager=True):
            if entry.sequence <= self.position:
                self._keep_open(entry)

    def _keep_open(self, entry: Entry) -> None:
        """Keep what was handed out while callbacks are at it: its writer, if that is one of us, may come."""
        if entry.pending:
            self._open[entry.sequence] = entry
        if len(self._open) > self._open_limit:
            self._open = {n: entry for n, entry in self._open.items() if entry.pending}
            self._open_limit = max(PAGE, 2 * len(self._open))

    def _publish(self, stored: Stored) -> Entry | None:
        """Keep one of our messages until those before it have come, if they have not."""
        sequence = stored.sequence
        if sequence <= self.position:
            # It was met in the store, or came with news, before its writer could tell.
            return self._open.pop(sequence, None)
        if (known := self._local.get(sequence)) is not None:
            return known
        message = self._decode(stored)
        if message is None:
            return None
        entry = self._local[sequence] = Entry(sequence, message)
        self._advance()
        return entry

    def _advance(self) -> None:
        """Hand out our own messages as far as they follow the head without a gap."""
        while self._local and (entry := self._local.pop(self.position + 1, None)) is not None:
            self._hand_out([entry])
            self.position = entry.sequence
            self._keep_open(entry)

    def _settle_local(self, upto: int) -> None:
        """Let go of our own messages up to ``upto``: nobody will get them from here."""
        for sequence in [n for n in self._local if n <= upto]:
            self._local.pop(sequence).settle()

    def _hand_out(self, entries: Sequence[Entry], eager: bool = False) -> None:
        whole = 0
        if not entries:
            # All of them were damaged.
            return
        if eager:
            for target in tuple(self._all):
                target.offer(entries[0], True)
        else:
            for target in tuple(self._all):
                whole += target.offer_all(entries)
        if len(self._patterns) != len(self._all):
            for entry in entries:
                if topic := entry.message.topic:
                    for target in self._by_topic.match(topic):
                        target.offer(entry, eager)
        for entry in entries:
            entry.pending += whole
            entry.settle()

    async def look(self) -> None:
        """Read on from here, and hand out what there is: one trip to the store when the news is short."""
        after = self.position
        page = await self._store.read(self.channel, after=after, limit=PAGE)
        self.heard(page.last, after)
        if page.messages:
            self._hand_out_page(page.messages, page.floor, page.messages[-1].sequence)
        await self.catch_up()

    def heard(self, last: int, position: int) -> None:
        """Take word of the channel's newest message; ``position`` is where the head stood when asking."""
        if last < position:
            self.fail(StoreReset(self.channel, position, last))
        self.known = max(self.known, last)

    async def catch_up(self) -> None:
        """Hand out everything up to the newest message known, reading what is not in memory."""
        while self._patterns and self.position < self.known:
            after = self.position
            upto = min((n for n in self._local if n > after), default=self.known + 1) - 1
            if upto <= after:
                self._advance()
                continue
            page = await self._store.read(self.channel, after=after, limit=PAGE, upto=upto)
            self._hand_out_page(page.messages, page.floor, upto)

    def _hand_out_page(self, messages: list[Stored], floor: int, upto: int) -> None:
        if floor > self.position:
            for target in tuple(self._patterns):
                target.skip(self.position + 1, floor)
            self.position = floor
        for stored in messages:
            if stored.sequence <= self.position:
                continue
            entry = self._local.pop(stored.sequence, None)
            if entry is None:
                message = self._decode(stored)
                if message is None:
                    self.position = stored.sequence
                    continue
                entry = Entry(stored.sequence, message)
            self._hand_out([entry])
            self.position = entry.sequence
            self._keep_open(entry)
        if len(messages) < PAGE:
            # What is missing from a full stretch was removed; there is nothing to wait for.
            self.position = max(self.position, upto)
        self._settle_local(self.position)
        self._advance()

    def fail(self, error: BusError) -> None:
        """End every live subscription: the channel can no longer be followed."""
        for target in tuple(self._patterns):
            self.detach(target)
            target.fail(error)


def decoder(
    decode: Callable[[Stored], ChannelMessage], damaged: Callable[[Stored, MessageCorrupt], None]
) -> Decode:
    """Return a decoder that reports a damaged message instead of handing it out."""

    def attempt(stored: Stored) -> ChannelMessage | None:
        try:
            return decode(stored)
        except MessageCorrupt as error:
            log.error("%s It is not handed out.", error)
            damaged(stored, error)
            return None

    return attempt
