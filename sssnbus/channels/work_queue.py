"""The channel where each message is one worker's."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Unpack

from sssnbus.channels import models
from sssnbus.channels.drafting import check_priority, due_time
from sssnbus.channels.options import check_items, selection
from sssnbus.channels.queue import Queue
from sssnbus.delivery.claiming import Claiming
from sssnbus.delivery.claims import Claim
from sssnbus.delivery.desk import Desk
from sssnbus.delivery.fanout import FanOut
from sssnbus.delivery.feed import Handler, find
from sssnbus.delivery.handling import check_handler, text_of
from sssnbus.errors import ClaimLost, ExclusiveReadError, InvalidOption
from sssnbus.settings import check_count, check_limit, check_seconds
from sssnbus.stored import Envelope, Receipt, check_id, check_name
from sssnbus.stores.base import Lease, Release

if TYPE_CHECKING:
    from sssnbus.delivery.workers import Workers
    from sssnbus.message import ChannelMessage


class WorkQueueChannel(Queue):
    """A channel where each message is handed to one worker, and again until it is done.

    Delivery is at-least-once: a message is claimed, and acked when its work is done. A claim is renewed by
    itself while its process lives; if the worker dies, the message is ready again. After ``max_deliveries``
    attempts, counted when they begin, it becomes a dead letter.
    """

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
            timeout: Seconds within which storing must begin. Storing that has begun is waited for, on a
                server as long as its store's own ``timeout``.
            dedupe: A key that makes a repeated write harmless while it is remembered, also when the job is
                done by then; a repeated ``id`` is known only while its message is there.
            envelope: ``topic``, ``metadata``, ``correlation_id``, ``reply_to``, ``recipient_id``, ``id``.

        Raises:
            UsageError: a part of the message breaks a rule; nothing was stored.
            MessageConflict: the id or dedupe key was used with other content; nothing was stored.
            QueueFull: the queue is at its ``max_depth``; nothing was stored.
            StoreTimeout: storing could not begin in time; nothing was stored, nor will be.
            OutcomeUnknown: a server gave no answer, so it may be stored: write again under the same
                ``dedupe``.
            StoreError: the store failed.
        """
        due = due_time(delay, at, key, self.clock)
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
        due = due_time(delay, at, key, self.clock)
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
        check_priority(priority)
        if timeout is not None:
            check_seconds("timeout", timeout)
        place = self._at_work() or await self._writable()
        data = check_items(items)
        if not models.loaded():
            # Text needs no models: it is what commands of a shell write, one process each.
            data = tuple(data)
            if envelope or any(type(each) is not str for each in data):
                await models.load()
        draft = self._drafter.draft
        drafts = [draft(sender_id, each, envelope, dedupe, priority, key, due) for each in data]
        if not drafts:
            return []
        receipts = await self._append(place, drafts, timeout, self._max_depth)
        if new := sum(not receipt.duplicate for receipt in receipts):
            place.tail.notify(self.id, new)
        return receipts

    async def read(
        self,
        worker: str,
        *,
        limit: int = 1,
        exclusive: bool = False,
        ids: Iterable[str] | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> list[ChannelMessage]:
        """Claim up to ``limit`` messages that are ready now, best first; ``[]`` if there are none.

        This channel object keeps the claims, and renews them, until ``acknowledge``, ``nack`` or
        ``release`` with the same worker. If cancelled, nothing is claimed.

        Args:
            worker: Who claims.
            limit: How many at most.
            exclusive: Must be True: a work queue has no other reads.
            ids: Claim only these.
            after: Claim only messages whose ids are above this one. Ids that a store makes, 19 digits, are
                times in nanoseconds.
            before: Claim only messages whose ids are below this one.

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
        limit = check_limit(limit)
        running = await self._run()
        select = selection(running.store, self.id, ids, after, before)
        claims = await running.desk.claim(worker, limit=limit, select=select)
        running.held.add(worker, claims)
        return [claim.message for claim in claims]

    async def acknowledge(self, worker: str, ids: Iterable[str]) -> None:
        """The messages, claimed by ``read``, are done: all are removed, or kept as done, in one step.

        Raises:
            ClaimLost: an id is not held by this worker, then nothing was changed; or a claim had ended by
                time, then the others are done.
        """
        running = await self._run()
        await running.held.settle(worker, ids, running.desk.done)

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
        running = await self._run()
        text = text_of(error)
        await running.held.settle(worker, ids, lambda claim: running.desk.failed(claim, text, seconds))

    async def release(self, worker: str, ids: Iterable[str]) -> None:
        """Give messages claimed by ``read`` back as if they had never been taken.

        Raises:
            ClaimLost: as for ``acknowledge``.
        """
        running = await self._run()
        await running.held.settle(worker, ids, lambda c: Release(c.sequence, c.token, counted=False))

    async def extend(self, worker: str, ids: Iterable[str], seconds: float) -> None:
        """Let claims made by ``read`` end ``seconds`` from now; they are renewed no longer.

        Raises:
            ClaimLost: as for ``acknowledge``.
        """
        check_seconds("seconds", seconds)
        running = await self._run()
        for claim in running.held.of(worker, ids):
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
        from sssnbus.delivery.workers import Workers, WorkPlan

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

    async def hold(self, worker: str, seconds: float) -> Claim | None:
        """Claim the next ready message so that only time or settling ends the claim; None if there is none.

        It outlives this process: whoever has the message's id and ``claim.token`` can take it up with
        ``resume``, elsewhere too. It is not renewed; of an SQLite store a restart of the machine ends it as
        well. If cancelled, nothing is claimed.

        Args:
            worker: Who claims.
            seconds: How long the claim lasts.
        """
        check_name("worker name", worker)
        if not check_seconds("seconds", seconds):
            raise InvalidOption("seconds", seconds, "a claim must last more than 0 seconds")
        claims = await (await self._run()).desk.claim(worker, lease=float(seconds), renew=False)
        return claims[0] if claims else None

    async def resume(self, id: str, token: str) -> Claim:
        """Return a claim that was made before, here or in another process, by its message and token.

        It lasts as long as it did; ``ack``, ``nack``, ``release`` and ``extend`` work on it as ever.

        Raises:
            UnknownMessage: the queue holds no message with this id: it may be done.
            ClaimLost: the claim has ended, or somebody else has the message now.
        """
        running = await self._run()
        stored = await find(running.store, self.id, check_id(id))
        standing = (await running.store.standing(self.id, [stored.sequence])).get(stored.sequence)
        if standing is None or standing.token is None or standing.token != token:
            raise ClaimLost(self.id, [id])
        deadline = inf if standing.deadline is None else standing.deadline
        lease = Lease(stored, standing.token, standing.attempt, deadline, standing.error)
        return Claim(running.desk, self._decode_lease(lease), "", lease)

    async def unsubscribe(self, worker: str, grace: float = 5.0) -> None:
        """End the workers of this name, finishing what they handle within ``grace`` seconds."""
        running = await self._run()
        for workers in [w for w in running.workers if w.name == worker]:
            await workers.aclose(check_seconds("grace", grace))
