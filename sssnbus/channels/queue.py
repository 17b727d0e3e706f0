"""A queue as those see it who run it: what is in it, and how it stands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Unpack

from sssnbus.channels import models
from sssnbus.channels.base import Channel
from sssnbus.channels.drafting import damaged_draft, dead_draft, failure_note
from sssnbus.channels.held import Held
from sssnbus.channels.moving import move
from sssnbus.channels.options import ChannelOptions, selection
from sssnbus.channels.place import Place
from sssnbus.channels.retention import recorded
from sssnbus.delivery.desk import Desk, Rules
from sssnbus.delivery.feed import Start
from sssnbus.delivery.head import decoder
from sssnbus.delivery.shield import briefly, complete, patience
from sssnbus.errors import (
    ClaimLost,
    InvalidOption,
    OutcomeUnknown,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from sssnbus.settings import Retry, check_count, check_limit, check_seconds
from sssnbus.stored import Draft, Stored, check_name
from sssnbus.stores.base import DEAD, Kind, Lease, Priority, QueueStore, Selection

if TYPE_CHECKING:
    from sssnbus.channels.observing import Observation
    from sssnbus.channels.statistics import QueueStatistics
    from sssnbus.delivery.workers import Workers
    from sssnbus.message import ChannelMessage

log = logging.getLogger("sssnbus")


@dataclass
class Running:
    """What a started queue holds."""

    desk: Desk
    store: QueueStore
    held: Held
    """Claims made by ``read``."""
    workers: set[Workers] = field(default_factory=set)
    observations: set[Observation] = field(default_factory=set)


class Queue(Channel):
    """A channel whose messages have a state each: to look at, to move and to sweep, claiming none."""

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
        keep_done: bool = False,
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
            keep_done: Let messages that are done here stay in the store, in state *done*, until ``vacuum``.
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
        self._keep_done = keep_done
        self._running: Running | None = None

    async def peek(
        self,
        limit: int = 1,
        *,
        ids: Iterable[str] | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> list[ChannelMessage]:
        """Return up to ``limit`` messages that are ready now, oldest first, without claiming them.

        Args:
            limit: How many at most.
            ids: Only these.
            after: Only messages whose ids are above this one; as for ``read``.
            before: Only messages whose ids are below this one.
        """
        limit = check_limit(limit)
        running = await self._run()
        select = selection(running.store, self.id, ids, after, before)
        found = await running.store.peek(self.id, limit=limit, select=select)
        return [message for stored in found if (message := self._legible(stored)) is not None]

    async def observe(
        self,
        start: Start = "earliest",
        *,
        ready: bool = True,
        follow: bool = True,
        after: str | None = None,
        before: str | None = None,
    ) -> AsyncGenerator[ChannelMessage, None]:
        """Iterate over the queue's messages, each once, without claiming any: what is there, then what comes.

        They come in the order of the queue; one that is not ready yet follows when it is. What workers are
        done with before its turn comes is not seen. The iteration ends when the channel is stopped.
        Leave a loop early inside ``contextlib.aclosing``, or it is ended some time later.

        Args:
            start: ``"earliest"``, ``"new"``, or from a message on: its sequence, its id, or the first one
                stored at or after a time.
            ready: False: see messages in every state, done ones too.
            follow: False: end when everything that is there has been seen.
            after: Only messages whose ids are above this one; as for ``read``.
            before: Only messages whose ids are below this one.

        Raises:
            UnknownMessage: ``start`` is an id that the queue does not hold.
            StoreReset: the queue was deleted while it was observed.
        """
        from sssnbus.channels.observing import Observation, View

        place, running = await self._ready(), await self._run()
        bounds = selection(running.store, self.id, None, after, before) or Selection()
        observation = Observation(self.id, place, running.store, self.clock, self._legible)
        running.observations.add(observation)
        try:
            async with aclosing(observation.messages(View(start, ready, follow, bounds))) as messages:
                async for message in messages:
                    yield message
        finally:
            running.observations.discard(observation)
            observation.close()

    async def move(
        self,
        target: str,
        *,
        limit: int = 1,
        ids: Iterable[str] | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> list[ChannelMessage]:
        """Move ready messages to the end of another queue, oldest first, all in one step; return them.

        They keep their ids and begin anew: no attempts are counted against them. The target is made if
        need be, and takes them whatever its ``max_depth`` is. If cancelled, all have moved or none. On NATS
        each 1000 are a step.

        Args:
            target: The name of a queue in the same store.
            limit: How many at most.
            ids: Only these, and also those of them that are done.
            after: Only messages whose ids are above this one; as for ``read``.
            before: Only messages whose ids are below this one.

        Raises:
            UsageError: the target is this queue.
            ChannelKindMismatch: the target is a broadcast channel.
            MessageConflict: the target holds one of the ids with other content; nothing has moved.
        """
        limit = check_limit(limit)
        check_name("queue name", target)
        if target == self.id:
            raise UsageError("Source and destination queues cannot be the same")
        place, running = await self._ready(), await self._run()
        select = selection(running.store, self.id, ids, after, before)
        moved = await complete(move(place, running.store, self.id, target, limit, select))
        return [message for stored in moved if (message := self._legible(stored)) is not None]

    async def vacuum(self) -> int:
        """Remove the messages that are done, for good; return how many. Durable on return."""
        return await (await self._ready()).catalogue.vacuum(self.id)

    async def statistics(self) -> QueueStatistics:
        """Return a snapshot of the queue and of this object's workers."""
        from sssnbus.channels.overview import look_up
        from sssnbus.channels.statistics import QueueStatistics

        place, running = await self._ready(), await self._run()
        info = await look_up(place.catalogue, self.id, self.kind)
        return QueueStatistics(
            self.id,
            info.last,
            info.ready,
            info.delayed,
            info.leased,
            info.done,
            info.dead,
            info.size,
            place.store.durability,
            tuple(w.statistics() for w in sorted(running.workers, key=lambda w: w.name)),
        )

    def _needs(self) -> Iterable[type]:
        needs = [*super()._needs(), QueueStore]
        return [*needs, Priority] if self._priorities else needs

    async def _started(self, place: Place) -> None:
        store = place.store
        assert isinstance(store, QueueStore), "the abilities were checked"
        limit = await recorded(
            store, self.id, "max_deliveries", self._max_deliveries, 5, lambda n: b"%d" % n, int
        )
        rules = Rules(self._claim_timeout, limit, self._retry, self._keep_done)
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
        self._running = Running(desk, store, Held(desk))

    async def _stopping(self, place: Place, grace: float) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        end = asyncio.get_running_loop().time() + grace
        closing = [workers.aclose(grace) for workers in tuple(running.workers)]
        running.desk.close()
        for observation in tuple(running.observations):
            observation.close()
        results = await asyncio.gather(*closing, return_exceptions=True)
        try:
            if not await briefly(running.desk.release_all(), patience(end)):
                log.warning("Queue %r did not give back what it held: no answer came in time.", self.id)
        except ClaimLost as error:
            log.warning("%s", error)
        except (StoreUnavailable, StoreTimeout, OutcomeUnknown) as error:
            # A store that is away or busy frees it by itself, once this process is gone from it.
            log.warning("Queue %r did not give back what it held: %s", self.id, error)
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

    async def _run(self) -> Running:
        if not models.loaded():
            await models.load()
        # Last: while a thread imports them the channel may be stopped.
        await self._ready()
        assert self._running is not None, "a started channel runs"
        return self._running

    def _opened(self, workers: Workers) -> None:
        if self._running is not None:
            self._running.workers.add(workers)

    def _closed(self, workers: Workers) -> None:
        if self._running is not None:
            self._running.workers.discard(workers)

    def _decode_lease(self, lease: Lease) -> ChannelMessage:
        """Return the message; one that failed before says so in its metadata."""
        message = self._decode(lease.stored)
        if lease.attempt > 1:
            message.metadata.update(retries=lease.attempt - 1, last_error=lease.error)
        return message

    @cached_property
    def _legible(self) -> Callable[[Stored], ChannelMessage | None]:
        """A decoder that passes over damaged messages, aloud: the next claim buries them."""
        return decoder(self._decode, lambda stored, error: None)

    def _dead(self, message: ChannelMessage, reason: str, attempts: int, error: str | None) -> Draft:
        note = failure_note(reason, attempts, error, self.clock.time())
        return dead_draft(self.id + DEAD, message, note)
