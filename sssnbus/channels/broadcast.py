"""The channel where every subscriber gets every message."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

from sssnbus.channels import models
from sssnbus.channels.base import Channel
from sssnbus.channels.drafting import dead_draft, failure_note, placed
from sssnbus.channels.options import ChannelOptions, check_confirm, check_items
from sssnbus.channels.overview import list_subscriptions, look_up
from sssnbus.channels.place import Place
from sssnbus.channels.reading import History, Readers
from sssnbus.channels.requests import answer, request
from sssnbus.channels.retention import Keeper, recorded_retention
from sssnbus.channels.statistics import BroadcastStatistics, SubscriptionInfo
from sssnbus.channels.terms import make_terms, patterns_of
from sssnbus.delivery.cursor import space
from sssnbus.delivery.feed import Feed, Handler, Notice, Start
from sssnbus.delivery.handling import in_handler, text_of
from sssnbus.delivery.head import Entry, Head, decoder
from sssnbus.delivery.subscription import Plan, Subscription
from sssnbus.errors import DeliveryTimeout, ExclusiveReadError, InvalidOption, MissingAbility
from sssnbus.settings import Confirm, OnFull, Retention, Retry, check_count, check_limit, check_seconds
from sssnbus.stored import Dedupe, Envelope, Receipt, Stored, check_name
from sssnbus.stores.base import DEAD, ByID, Kind, Records
from sssnbus.stores.memory import MemoryStore
from sssnbus.topics import Syntax

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage

log = logging.getLogger("sssnbus")

_MEMORY = Retention(max_count=10_000)
"""What the memory store keeps of a channel unless told otherwise."""

_TRIES_LAST = 3600.0
"""Seconds for which the tries to bury one message are known as one."""


@dataclass
class _Running:
    """What a started channel holds."""

    feed: Feed
    keeper: Keeper
    task: asyncio.Task[None] | None
    named: dict[str, Subscription] = field(default_factory=dict)
    replacing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while one callback gives way to another of its name."""
    subscriptions: set[Subscription] = field(default_factory=set)


class BroadcastChannel(Channel):
    """A channel where every subscriber gets every message, in commit order.

    Messages stay after delivery, for late joiners, until retention removes them. A live subscription is
    at-most-once: what happens while it is away can be read from the history. A durable one is at-least-once.
    """

    kind = Kind.LOG

    def __init__(
        self,
        id: str,
        name: str = "",
        *,
        retention: Retention | None = None,
        **options: Unpack[ChannelOptions],
    ) -> None:
        """Make a broadcast channel.

        Args:
            id: Its name in the store.
            name: A title for people.
            retention: How much of the past is kept. It is recorded in the store and holds for every
                process; the last one given wins. Without one the recorded one holds, else everything is
                kept; the memory store keeps 10,000 messages.
            options: As for every ``Channel``.
        """
        super().__init__(id, name, **options)
        if retention is not None and not isinstance(retention, Retention):
            raise InvalidOption("retention", retention, "it must be a Retention, as Retention(max_count=100)")
        self._retention = retention
        self._readers = Readers()
        self._running: _Running | None = None

    async def write(
        self,
        sender_id: str,
        data: object,
        *,
        confirm: Confirm | None = None,
        timeout: float | None = None,
        dedupe: str | None = None,
        **envelope: Unpack[Envelope],
    ) -> Receipt:
        """Store one message, hand it to the subscribers, and return its receipt: a ``str``, the id.

        With ``confirm="delivered"``, the default, it returns when every callback that was live in this
        process has settled: ended well or badly, or run out of time, dropped the message by its policy, or
        unsubscribed. Iterators, other processes and subscriptions that are still reading history are not
        waited for. With ``confirm="stored"``, and always inside a handler, it returns after the commit.

        Durable on return as ``receipt.durability`` says. If cancelled, the message may have been written,
        and then it is delivered. The data is encoded here: what happens to it later changes nothing. All
        handlers of a process get one message object, so none should change what is inside its content.

        Args:
            sender_id: Who writes.
            data: A JSON value, ``bytes``, a ``MessageContent`` or a ready ``ChannelMessage``.
            confirm: ``"delivered"`` or ``"stored"``.
            timeout: Seconds within which storing must begin and delivery be over. Storing that has begun is
                waited for, on a server as long as its store's own ``timeout``.
            dedupe: A key that makes a repeated write harmless while it is remembered.
            envelope: ``topic``, ``metadata``, ``correlation_id``, ``reply_to``, ``recipient_id``, ``id``.

        Raises:
            UsageError: a part of the message breaks a rule; nothing was stored.
            MessageConflict: the id or dedupe key was used with other content; nothing was stored.
            StoreTimeout: storing could not begin in time; nothing was stored, nor will be.
            DeliveryTimeout: it is stored, but callbacks are not through with it.
            OutcomeUnknown: a server gave no answer, so it may be stored: write again under the same
                ``dedupe`` or ``id``.
            StoreError: the store failed.
        """
        receipts = await self._write(sender_id, (data,), envelope, confirm, timeout, dedupe)
        return receipts[0]

    async def write_many(
        self,
        sender_id: str,
        items: Iterable[object],
        *,
        confirm: Confirm | None = None,
        timeout: float | None = None,
        **envelope: Unpack[Envelope],
    ) -> list[Receipt]:
        """Store messages in one step, all or none, and return their receipts in order.

        Each item is as ``data`` of ``write``; the ``envelope`` holds for all of them, except ``id``, which
        only ready messages can bring. They stand next to each other in the channel.
        """
        if "id" in envelope:
            raise InvalidOption("id", envelope["id"], "one id cannot name several messages")
        return await self._write(sender_id, items, envelope, confirm, timeout, None)

    async def _write(
        self,
        sender_id: str,
        items: Iterable[object],
        envelope: Envelope,
        confirm: Confirm | None,
        timeout: float | None,
        dedupe: str | None,
    ) -> list[Receipt]:
        check_confirm(confirm)
        deadline = None if timeout is None else self.clock.elapsed() + check_seconds("timeout", timeout)
        place = self._at_work() or await self._writable()
        draft = self._drafter.draft
        drafts = [draft(sender_id, data, envelope, dedupe) for data in check_items(items)]
        if not drafts:
            return []
        receipts = await self._append(place, drafts, timeout)
        running = self._running
        if running is None:
            return receipts
        if running.feed.head.attached:
            waits = confirm != "stored" and not in_handler()
            new = [placed(draft, r) for draft, r in zip(drafts, receipts, strict=True) if not r.duplicate]
            pending = running.feed.head.publish(new, eager=waits) if new else []
            if waits:
                for entry in pending:
                    if entry.pending:
                        await self._settled(pending, deadline)
                        break
        if running.keeper.due(drafts):
            await running.keeper.trim()
        return receipts

    async def _settled(self, pending: Sequence[Entry], deadline: float | None) -> None:
        if deadline is None:
            for entry in pending:
                await entry.wait()
            return
        try:
            async with asyncio.timeout(None) as limit:
                loop = asyncio.get_running_loop()
                left = max(0.0, deadline - self.clock.elapsed())
                timer = self.clock.call_later(left, lambda: limit.reschedule(loop.time()))
                try:
                    for entry in pending:
                        await entry.wait()
                finally:
                    timer.cancel()
        except TimeoutError:
            late = next((entry for entry in pending if entry.pending), None)
            if late is None:
                # The last one has settled in the very moment in which the time was over.
                return
            subscriptions = self._running.subscriptions if self._running else ()
            names = sorted(s.name for s in subscriptions if s.waits_for(late.sequence))
            raise DeliveryTimeout(late.message.id, names) from None

    async def request(
        self, sender_id: str, data: object, *, timeout: float = 5.0, **envelope: Unpack[Envelope]
    ) -> ChannelMessage:
        """Write a message that asks for an answer, and return the first one that comes.

        The message carries a ``correlation_id`` and a ``reply_to`` of its own; answers to other requests, and
        late ones, are not taken for it. If cancelled, the question may have been written.

        Args:
            sender_id: Who asks.
            data: As for ``write``.
            timeout: Seconds to wait for the answer.
            envelope: As for ``write``, but ``reply_to``.

        Raises:
            BusTimeout: no answer came in time; the question stays in the channel.
        """
        check_seconds("timeout", timeout)

        def listen(inbox: str) -> Subscription:
            return self.subscribe(inbox, start="new")

        async def ask(asked: Envelope) -> Receipt:
            return await self.write(sender_id, data, confirm="stored", **asked)

        return await request(listen, ask, envelope, timeout, self.clock.elapsed)

    async def reply(
        self, request: ChannelMessage, sender_id: str, data: object, **envelope: Unpack[Envelope]
    ) -> Receipt:
        """Write the answer to a message that ``request`` has written, and return its receipt.

        Raises:
            InvalidOption: the message asks for no answer.
        """
        return await self.write(sender_id, data, **answer(request, envelope))

    async def read(
        self,
        consumer: str,
        *,
        limit: int = 10,
        after: str | int | None = None,
        topic: str | Iterable[str] | None = None,
        syntax: Syntax = "native",
        durable: bool = False,
        exclusive: bool = False,
    ) -> History:
        """Return the next messages for a reader, oldest first; its place moves behind them.

        Every reader has a place of its own, which begins at the oldest message kept. It lives in this
        channel object; with ``durable=True`` in the store, where it is saved when the next read begins: a
        reader that dies in between gets the same messages again. If cancelled, the place did not move.

        Args:
            consumer: Who reads.
            limit: How many messages at most.
            after: Read behind this message, an id or a sequence, instead of the reader's place.
            topic: A pattern that topics must match, or several; the store passes over the rest, and so does
                the reader's place.
            syntax: How patterns are written: ``"native"``, or ``"equals-plus"`` with ``=`` and ``+``.
            durable: Keep the place in the store.
            exclusive: Not for this kind of channel.

        Returns:
            A list; its ``gap`` tells of messages that were removed before this reader could read them.

        Raises:
            ExclusiveReadError: (a ``TypeError``) ``exclusive=True`` was asked for; nothing moved.
            UsageError: an argument breaks its rule.
            UnknownMessage: ``after`` is an id that the channel does not hold.
            StoreReset: the channel ends before the reader's place.
        """
        if exclusive:
            raise ExclusiveReadError(
                "BroadcastChannel does not support exclusive reads. Every subscriber gets every message: "
                "use subscribe() or a shared read(); to claim messages use a WorkQueueChannel."
            )
        check_name("consumer name", consumer)
        limit = check_limit(limit)
        patterns = patterns_of(topic, syntax)
        running = await self._run()
        return await self._readers.read(running.feed, consumer, limit, after, patterns, durable)

    def subscribe(
        self,
        consumer: str,
        handler: Handler | None = None,
        *,
        start: Start | None = None,
        topic: str | Iterable[str] | None = None,
        syntax: Syntax = "native",
        durable: bool = False,
        standby: bool = False,
        buffer: int = 1024,
        on_full: OnFull = "catch_up",
        concurrency: int = 1,
        timeout: float | None = None,
        retry: Retry | None = None,
        max_deliveries: int | None = 5,
        on_notice: Callable[[Notice], Awaitable[object]] | None = None,
    ) -> Subscription:
        """Make a subscription; await it, or enter it with ``async with``, to begin.

        With a ``handler`` a runner of its own awaits it for one message after the other, in order. An error
        in it is logged and counted, and reaches neither the writer nor other subscribers. A live subscription
        then goes on with the next message. A durable one tries again, after a growing pause, up to
        ``max_deliveries`` times, and then puts a copy among the dead letters. A second subscription with a
        handler under one name replaces the first, which may have ended even if beginning is cancelled.

        Args:
            consumer: The subscriber's name.
            handler: An ``async def`` function of one message; without it, iterate the subscription.
            start: ``"new"``, ``"earliest"``, or from a message on: its sequence, its id, or the first one
                stored at or after a time. Left out, the place of this consumer's ``read``, if it has read
                through this object, else ``"new"``. A durable subscription goes by it only once.
            topic: A pattern that topics must match, such as ``user.*`` or ``user.>``, or several. In the
                history the store passes over the rest.
            syntax: How patterns are written: ``"native"``, or ``"equals-plus"`` with ``=`` and ``+``.
            durable: Keep the place in the store under the consumer's name.
            standby: If a durable subscription is in use, wait until it is free.
            buffer: How many messages may wait here.
            on_full: What happens to more. ``"catch_up"``: they stay in the store until there is room.
                ``"block"``: the same, and local writers wait for them. ``"drop_oldest"`` and
                ``"drop_newest"`` skip messages and tell of it. ``"disconnect"`` ends the subscription.
            concurrency: How many messages the handler may have at a time; above 1, order is up to it.
            timeout: Seconds that the handler gets for one message.
            retry: The pauses between attempts of a durable subscription.
            max_deliveries: How many attempts those are; None for no limit.
            on_notice: Awaited with ``Lagged`` and ``Gap`` at their place in the order; else they are logged.

        Raises:
            UsageError: an argument breaks its rule, or the handler is not awaitable.
            SubscriptionInUse: on beginning, a durable one has a living owner and ``standby`` is False.
        """
        check_name("consumer name", consumer)
        if not durable and (standby or retry is not None):
            raise InvalidOption("durable", durable, "standby and retry are for durable subscriptions")
        terms = make_terms(
            handler,
            topic=topic,
            syntax=syntax,
            buffer=buffer,
            on_full=on_full,
            concurrency=concurrency,
            timeout=timeout,
            on_notice=on_notice,
            retry=retry or Retry(),
            max_deliveries=max_deliveries,
        )

        replaced: list[int] = []

        async def feed() -> Feed:
            running = await self._run()
            if handler is None:
                return running.feed
            async with running.replacing:
                if (before := running.named.get(consumer)) is not None:
                    # The new one goes on where the old one stops, so that nothing falls between the two.
                    await before.aclose()
                    if before.has_place:
                        replaced.append(before.position)
            return running.feed

        async def position(feed: Feed) -> int:
            if start is not None:
                return await feed.position(start)
            if replaced:
                return replaced[0]
            read = self._readers.position(consumer)
            return await feed.position("new") if read is None else read

        plan = Plan(feed, position, self._bury, self._opened, self._closed, durable, standby)
        return Subscription(consumer, plan, terms, handler)

    async def unsubscribe(self, consumer: str, grace: float = 5.0) -> None:
        """End the subscription with a handler of this name; a no-op if there is none.

        Nothing further reaches the handler; one that is running may finish within ``grace`` seconds.
        """
        running = await self._run()
        if (subscription := running.named.get(consumer)) is not None:
            await subscription.aclose(check_seconds("grace", grace))

    async def forget(self, consumer: str) -> bool:
        """Remove a durable subscription's record; return whether there was one. Its owner loses it."""
        store = await self._ready_store()
        if not isinstance(store, Records):
            raise MissingAbility(self.id, store.url, ["Records"])
        return await store.delete(space(self.id), check_name("consumer name", consumer))

    async def evict(self, *, before: datetime | None = None, max_count: int | None = None) -> int:
        """Remove the oldest messages; return how many. Readers that were not past them get a ``Gap``.

        Args:
            before: Remove what was stored before this time.
            max_count: Keep at most so many of the newest.
        """
        if before is not None and before.tzinfo is None:
            raise InvalidOption("before", before, "a time needs a zone, as datetime.now(UTC) has")
        if max_count is not None:
            check_count("max_count", max_count, 0)
        store = await self._ready_store()
        return await store.trim(
            self.id, older_than=None if before is None else before.timestamp(), max_count=max_count
        )

    async def subscriptions(self) -> list[SubscriptionInfo]:
        """Return the durable subscriptions of the channel, by name, whichever process owns them."""
        return await list_subscriptions(await self._ready_store(), self.id)

    async def statistics(self) -> BroadcastStatistics:
        """Return a snapshot of the channel and of this object's subscriptions."""
        place = await self._ready()
        info = await look_up(place.catalogue, self.id, self.kind)
        running = await self._run()
        return BroadcastStatistics(
            self.id,
            info.last,
            info.messages,
            info.size,
            info.dead,
            place.store.durability,
            tuple(s.statistics() for s in sorted(running.subscriptions, key=lambda s: s.name)),
        )

    def _needs(self) -> Iterable[type]:
        return (*super()._needs(), ByID)

    async def _started(self, place: Place) -> None:
        await models.load()
        unsaid = _MEMORY if isinstance(place.store, MemoryStore) else Retention()
        retention = await recorded_retention(place.store, self.id, self._retention, unsaid)
        keeper = Keeper(self.id, place.store, retention, self.clock)
        task = None
        if retention != Retention():
            task = place.fanout.spawn(keeper.run(), f"sssnbus-retention-{self.id}")
        decode = decoder(self._decode, self._bury_damaged)
        head: Head = place.tail.head(self.id, decode)
        feed = Feed(self.id, place.store, head, place.fanout, self.clock, decode)
        self._running = _Running(feed, keeper, task)

    async def _stopping(self, place: Place, grace: float) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        if running.task is not None:
            running.task.cancel()
        closing = [subscription.aclose(grace) for subscription in tuple(running.subscriptions)]
        results = await asyncio.gather(*closing, return_exceptions=True)
        place.tail.leave(running.feed.head)
        if place.owned and place.instant:
            # A store in memory is gone with its channel, and the places in it mean nothing any more.
            self._readers = Readers()
        for result in results:
            if isinstance(result, BaseException):
                log.warning("A subscription of channel %r did not end well: %s", self.id, result)

    async def _drained(self) -> None:
        running = await self._run()
        last = await running.feed.last()
        for subscription in tuple(running.subscriptions):
            await subscription.caught_up(last)

    def _returned(self, stored: Sequence[Stored]) -> None:
        if self._running is not None:
            self._running.feed.head.publish(stored)

    async def _run(self) -> _Running:
        place = await self._ready()
        assert self._running is not None, place
        return self._running

    def _opened(self, subscription: Subscription) -> None:
        if (running := self._running) is not None:
            running.subscriptions.add(subscription)
            if subscription.has_callback:
                running.named[subscription.name] = subscription

    def _closed(self, subscription: Subscription) -> None:
        if (running := self._running) is not None:
            running.subscriptions.discard(subscription)
            if running.named.get(subscription.name) is subscription:
                del running.named[subscription.name]

    async def _bury(
        self, message: ChannelMessage, consumer: str, attempts: int, error: BaseException | None, key: str
    ) -> None:
        place = await self._ready()
        note = failure_note("failed" if error else "died", attempts, text_of(error), self.clock.time())
        note |= {"id": message.id, "sequence": message.sequence, "subscription": consumer}
        copy = message.model_copy(update={"id": ""})
        draft = dead_draft(self.id + DEAD, copy, note)
        await place.store.append([draft._replace(dedupe=Dedupe(key, b"", _TRIES_LAST))])
