"""The channel where each message is one worker's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Unpack

from sssnbus.channels.base import Channel
from sssnbus.channels.drafting import (
    check_text,
    damaged_draft,
    dead_draft,
    failure_note,
)
from sssnbus.channels.options import ChannelOptions, check_ids, check_items
from sssnbus.channels.place import Place
from sssnbus.channels.retention import recorded
from sssnbus.channels.statistics import QueueStatistics
from sssnbus.delivery.claims import Claim, Claiming, Desk, Rules
from sssnbus.delivery.fanout import FanOut
from sssnbus.delivery.feed import Handler
from sssnbus.delivery.handling import check_handler, text_of
from sssnbus.delivery.workers import Workers, WorkPlan
from sssnbus.errors import ClaimLost, ExclusiveReadError, InvalidOption
from sssnbus.settings import Retry, check_count, check_seconds
from sssnbus.stored import Draft, Envelope, Receipt, Stored, check_name
from sssnbus.stores.base import (
    DEAD,
    Ack,
    Kind,
    Lease,
    Priority,
    QueueStore,
    Release,
    Settlement,
)

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage

log = logging.getLogger("sssnbus")

_MAX_PRIORITY = 2**31 - 1


@dataclass
class _Running:
    """What a started channel holds."""

    desk: Desk
    store: QueueStore
    held: dict[tuple[str, str], Claim] = field(default_factory=dict)
    """Claims made by ``read``, by worker and message id."""
    workers: set[Workers] = field(default_factory=set)


class WorkQueueChannel(Channel):
    """A channel where each message is handed to one worker, and again until it is done.

    Delivery is at-least-once: a message is claimed, and acked when its work is done. A claim is renewed by
    itself while its process lives; if the worker dies, the message is ready again. After ``max_deliveries``
    attempts, counted when they begin, it becomes a dead letter.
    """

    kind = Kind.QUEUE

    def __init__(
        self,
        id: str,
        name: str = "",
        *,
        claim_timeout: float = 300.0,
        max_deliveries: int | None = None,
        max_depth: int | None = None,
        retry: Retry | None = None,
        priorities: bool = False,
        **options: Unpack[ChannelOptions],
    ) -> None:
        """Make a work queue.

        Args:
            id: Its name in the store.
            name: A title for people.
            claim_timeout: How long a claim lasts without being renewed, in seconds.
            max_deliveries: How many attempts a message gets. It is recorded in the store and holds for
                every process; the last one given wins. Without one the recorded one holds, else 5.
            max_depth: How many messages the queue takes; more raise ``QueueFull``.
            retry: The pauses between attempts.
            priorities: Demand when starting that the store honours ``priority``.
            options: As for every ``Channel``.
        """
        super().__init__(id, name, **options)
        if not check_seconds("claim_timeout", claim_timeout):
            raise InvalidOption("claim_timeout", claim_timeout, "it must be more than 0 seconds")
        self._claim_timeout = float(claim_timeout)
        self._max_deliveries = (
            None if max_deliveries is None else check_count("max_deliveries", max_deliveries)
        )
        self._max_depth = None if max_depth is None else {id: check_count("max_depth", max_depth)}
        self._retry = retry or Retry()
        self._priorities = priorities
        self._running: _Running | None = None

    async def write(
        self,
        sender_id: str,
        data: object,
        *,
        priority: int = 0,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        key: str | None = None,
        timeout: float | None = None,
        dedupe: str | None = None,
        **envelope: Unpack[Envelope],
    ) -> Receipt:
        """Store one message for a worker, and return its receipt: a ``str``, the message's id.

        Durable on return as ``receipt.durability`` says. If cancelled, it may have been written.

        Args:
            sender_id: Who writes.
            data: A JSON value, ``bytes``, a ``MessageContent`` or a ready ``ChannelMessage``.
            priority: Higher ones are handed out first; equal ones in the order of writing. A steady
                stream of high ones keeps low ones waiting.
            delay: Seconds before it is handed out.
            at: When to hand it out, by the wall clock, instead of ``delay``.
            key: An ordering key: its messages are handled one at a time, in the order of writing, beside
                those of other keys. It excludes ``delay`` and ``at``.
            timeout: Seconds within which it must be stored.
            dedupe: A key that makes a repeated write harmless while it is remembered.
            envelope: ``topic``, ``metadata``, ``correlation_id``, ``reply_to``, ``recipient_id``, ``id``.

        Raises:
            UsageError: a part of the message breaks a rule; nothing was stored.
            MessageConflict: the id or dedupe key was used with other content; nothing was stored.
            QueueFull: the queue is at its ``max_depth``; nothing was stored.
            StoreTimeout: it could not be stored in time; nothing was, nor will be.
            StoreError: the store failed.
        """
        due = self._due(delay, at, key)
        receipts = await self._write(sender_id, (data,), envelope, timeout, dedupe, priority, key, due)
        return receipts[0]

    async def write_many(
        self,
        sender_id: str,
        items: Iterable[object],
        *,
        priority: int = 0,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        key: str | None = None,
        timeout: float | None = None,
        **envelope: Unpack[Envelope],
    ) -> list[Receipt]:
        """Store messages in one step, all or none, and return their receipts in order.

        Each item is as ``data`` of ``write``; everything else holds for all of them, except an ``id``, which
        only ready messages can bring.
        """
        if "id" in envelope:
            raise InvalidOption("id", envelope["id"], "one id cannot name several messages")
        due = self._due(delay, at, key)
        return await self._write(sender_id, items, envelope, timeout, None, priority, key, due)

    async def _write(
        self,
        sender_id: str,
        items: Iterable[object],
        envelope: Envelope,
        timeout: float | None,
        dedupe: str | None,
        priority: int,
        key: str | None,
        due: float | None,
    ) -> list[Receipt]:
        if type(priority) is not int or abs(priority) > _MAX_PRIORITY:
            raise InvalidOption("priority", priority, "it must be a whole number of at most 31 bits")
        if timeout is not None:
            check_seconds("timeout", timeout)
        place = self._at_work() or await self._writable()
        draft = self._drafter.draft
        drafts = [draft(sender_id, data, envelope, dedupe, priority, key, due) for data in check_items(items)]
        if not drafts:
            return []
        receipts = await self._append(place, drafts, timeout, self._max_depth)
        if new := sum(not receipt.duplicate for receipt in receipts):
            place.tail.notify(self.id, new)
        return receipts

    def _due(self, delay: float | timedelta | None, at: datetime | None, key: str | None) -> float | None:
        """Return when a message may be handed out, in seconds since the epoch."""
        if key is not None:
            check_text("ordering key", key)
        if delay is None and at is None:
            return None
        if key is not None:
            raise InvalidOption("delay", delay or at, "a message with an ordering key cannot be delayed")
        if at is not None:
            if delay is not None:
                raise InvalidOption("at", at, "give either at or delay")
            if at.tzinfo is None:
                raise InvalidOption("at", at, "a time needs a zone, as datetime.now(UTC) has")
            return at.timestamp()
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        return self.clock.time() + check_seconds("delay", seconds)

    async def read(
        self,
        worker: str,
        *,
        limit: int = 1,
        exclusive: bool = False,
    ) -> list[ChannelMessage]:
        """Claim up to ``limit`` messages that are ready now, best first; ``[]`` if there are none.

        This channel object keeps the claims, and renews them, until ``acknowledge``, ``nack`` or
        ``release`` with the same worker. If cancelled, nothing is claimed.

        Args:
            worker: Who claims.
            limit: How many at most.
            exclusive: Must be True: a work queue has no other reads.

        Raises:
            ExclusiveReadError: (a ``TypeError``) ``exclusive`` is not True; nothing was claimed.
        """
        if exclusive is not True:
            raise ExclusiveReadError(
                "WorkQueueChannel supports exclusive reads only: each message belongs to one worker. Use "
                "read(worker, exclusive=True), claim() or subscribe(); to let everybody read use a "
                "BroadcastChannel."
            )
        check_name("worker name", worker)
        check_count("limit", limit)
        running = await self._run()
        claims = await running.desk.claim(worker, limit=limit)
        for claim in claims:
            running.held[worker, claim.message.id] = claim
        return [claim.message for claim in claims]

    async def acknowledge(self, worker: str, ids: Iterable[str]) -> None:
        """The messages, claimed by ``read``, are done: they are removed for good, all in one step.

        Raises:
            ClaimLost: an id is not held by this worker, then nothing was changed; or a claim had ended by
                time, then the others are done.
        """
        await self._settle(worker, ids, lambda desk, claim: Ack(claim.sequence, claim.token))

    async def nack(
        self,
        worker: str,
        ids: Iterable[str],
        *,
        delay: float | timedelta = 0.0,
        error: BaseException | str | None = None,
    ) -> None:
        """The messages, claimed by ``read``, failed: they are ready again, after ``delay`` seconds.

        The attempt counts: after its last one a message becomes a dead letter.

        Raises:
            ClaimLost: as for ``acknowledge``.
        """
        seconds = check_seconds("delay", delay.total_seconds() if isinstance(delay, timedelta) else delay)
        await self._settle(worker, ids, lambda desk, claim: desk.failed(claim, text_of(error), seconds))

    async def release(self, worker: str, ids: Iterable[str]) -> None:
        """Give messages claimed by ``read`` back as if they had never been taken.

        Raises:
            ClaimLost: as for ``acknowledge``.
        """
        await self._settle(
            worker, ids, lambda desk, claim: Release(claim.sequence, claim.token, counted=False)
        )

    async def extend(self, worker: str, ids: Iterable[str], seconds: float) -> None:
        """Let claims made by ``read`` end ``seconds`` from now; they are renewed no longer.

        Raises:
            ClaimLost: as for ``acknowledge``.
        """
        check_seconds("seconds", seconds)
        running = await self._run()
        claims = self._look_up(running, worker, ids)
        for claim in claims:
            await claim.extend(seconds)

    def claim(self, worker: str, *, timeout: float | None = None) -> Claiming:
        """Wait for a message and hold it for the length of a block: ``async with queue.claim("w") as claim``.

        It is acked when the block ends normally, nacked when it raises, and released, with no attempt
        counted, when it is cancelled. ``claim.ack()``, ``nack()`` and ``release()`` settle it earlier.

        Args:
            worker: Who claims.
            timeout: Seconds to wait for a message.

        Raises:
            BusTimeout: on entering: none was ready in time.
            ClaimLost: on leaving: the claim had ended and another worker may have the message.
        """
        check_name("worker name", worker)
        if timeout is not None:
            check_seconds("timeout", timeout)

        async def desk() -> Desk:
            return (await self._run()).desk

        return Claiming(desk, worker, timeout)

    def subscribe(
        self,
        worker: str,
        handler: Handler | None = None,
        *,
        concurrency: int = 1,
        batch: int = 1,
        timeout: float | None = None,
    ) -> Workers:
        """Make workers; await them, or enter them with ``async with``, to begin.

        Each of ``concurrency`` tasks claims a message, awaits the handler, and acks the message when it
        returns. If it raises or runs out of time, the message is tried again after a pause, and becomes a
        dead letter after its last attempt.

        Args:
            worker: The workers' name.
            handler: An ``async def`` function of one message; without it, iterate the subscription.
            concurrency: How many messages are handled at a time.
            batch: How many messages a task claims, and settles, in one step. A crash repeats them all.
            timeout: Seconds that the handler gets for one message.

        Raises:
            UsageError: an argument breaks its rule, or the handler is not awaitable.
        """
        check_name("worker name", worker)
        if handler is not None:
            check_handler(handler)
        elif concurrency != 1:
            raise InvalidOption("concurrency", concurrency, "iterate from several tasks instead")
        elif batch != 1:
            raise InvalidOption("batch", batch, "an iteration claims one message after the other")

        async def desk() -> tuple[Desk, FanOut]:
            place = await self._ready()
            return (await self._run()).desk, place.fanout

        if handler is None and timeout is not None:
            raise InvalidOption("timeout", timeout, "it is for handlers, and there is none")
        plan = WorkPlan(
            desk,
            self._opened,
            self._closed,
            check_count("concurrency", concurrency),
            check_count("batch", batch),
            None if timeout is None else check_seconds("timeout", timeout),
        )
        return Workers(worker, plan, handler)

    async def unsubscribe(self, worker: str, grace: float = 5.0) -> None:
        """End the workers of this name, finishing what they handle within ``grace`` seconds."""
        running = await self._run()
        for workers in [w for w in running.workers if w.name == worker]:
            await workers.aclose(check_seconds("grace", grace))

    async def statistics(self) -> QueueStatistics:
        """Return a snapshot of the queue and of this object's workers."""
        place = await self._ready()
        running = await self._run()
        logs = await place.catalogue.logs(self.id) + await place.catalogue.logs(self.id + DEAD)
        infos = {info.name: info for info in logs}
        counts = await place.catalogue.counts(self.id)
        own, dead = infos[self.id], infos.get(self.id + DEAD)
        return QueueStatistics(
            self.id,
            own.last,
            counts.ready,
            counts.delayed,
            counts.leased,
            counts.done,
            0 if dead is None else dead.count,
            own.size,
            place.store.durability,
            tuple(w.statistics() for w in sorted(running.workers, key=lambda w: w.name)),
        )

    def _needs(self) -> Iterable[type]:
        needs = [*super()._needs(), QueueStore]
        return [*needs, Priority] if self._priorities else needs

    async def _started(self, place: Place) -> None:
        store = place.store
        assert isinstance(store, QueueStore), "the abilities were checked"
        given = None if self._max_deliveries is None else str(self._max_deliveries)
        text = await recorded(store, self.id, "max_deliveries", given)
        rules = Rules(self._claim_timeout, 5 if text is None else int(text), self._retry)
        desk = Desk(
            self.id,
            store,
            place.tail,
            place.fanout,
            self.clock,
            rules,
            self._decode_lease,
            self._dead,
            lambda stored, error: damaged_draft(self.id + DEAD, stored, error.reason, self.clock.time()),
        )
        self._running = _Running(desk, store)

    async def _stopping(self, place: Place, grace: float) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        closing = [workers.aclose(grace) for workers in tuple(running.workers)]
        running.desk.close()
        results = await asyncio.gather(*closing, return_exceptions=True)
        try:
            await running.desk.release_all()
        except ClaimLost as error:
            log.warning("%s", error)
        for result in results:
            if isinstance(result, BaseException):
                log.warning("Workers of queue %r did not end well: %s", self.id, result)

    async def _drained(self) -> None:
        running = await self._run()
        while any(workers.has_handler and workers.error is None for workers in running.workers):
            counts = await (await self._ready()).catalogue.counts(self.id)
            if not (counts.ready or counts.delayed or counts.leased):
                return
            await asyncio.sleep(0.01)

    def _returned(self, stored: Sequence[Stored]) -> None:
        if (place := self._place) is not None:
            place.tail.notify(self.id)

    async def _run(self) -> _Running:
        await self._ready()
        assert self._running is not None, "a started channel runs"
        return self._running

    def _opened(self, workers: Workers) -> None:
        if self._running is not None:
            self._running.workers.add(workers)

    def _closed(self, workers: Workers) -> None:
        if self._running is not None:
            self._running.workers.discard(workers)

    async def _settle(
        self, worker: str, ids: Iterable[str], settlement: Callable[[Desk, Claim], Settlement]
    ) -> None:
        """Settle claims that ``read`` made; change nothing if one of them is not there."""
        running = await self._run()
        claims = self._look_up(running, worker, ids)
        settlements = [settlement(running.desk, claim) for claim in claims]
        for claim in claims:
            del running.held[worker, claim.message.id]
            claim.settled = True
        try:
            await running.desk.settle(claims, settlements)
        finally:
            # What could not be settled now is held on.
            running.held.update(((worker, c.message.id), c) for c in claims if not c.settled)

    def _look_up(self, running: _Running, worker: str, ids: Iterable[str]) -> list[Claim]:
        wanted = list(dict.fromkeys(check_ids(ids)))
        missing = [id for id in wanted if (worker, id) not in running.held]
        if missing:
            raise ClaimLost(self.id, missing, worker)
        return [running.held[worker, id] for id in wanted]

    def _decode_lease(self, lease: Lease) -> ChannelMessage:
        """Return the message; one that failed before says so in its metadata."""
        message = self._decode(lease.stored)
        if lease.attempt > 1:
            message.metadata.update(retries=lease.attempt - 1, last_error=lease.error)
        return message

    def _dead(self, message: ChannelMessage, reason: str, attempts: int, error: str | None) -> Draft:
        note = failure_note(reason, attempts, error, self.clock.time())
        return dead_draft(self.id + DEAD, message, note)
