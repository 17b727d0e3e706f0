"""The desk of a work queue: where claims are handed out and come back."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sssnbus.clock import Clock, Timer
from sssnbus.delivery.claims import Claim
from sssnbus.delivery.fanout import FanOut, Tail
from sssnbus.delivery.inbox import fail
from sssnbus.delivery.policy import exhausted, retry_delay
from sssnbus.delivery.shield import complete, insist, passes
from sssnbus.errors import BusError, BusTimeout, ClaimLost, ClosedError, MessageCorrupt
from sssnbus.settings import Retry
from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import Ack, Bury, Lease, Leases, QueueStore, Release, Selection, Settlement

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage

log = logging.getLogger("sssnbus")


@dataclass(frozen=True, slots=True)
class Rules:
    """How a queue treats its messages."""

    claim_timeout: float
    max_deliveries: int | None
    retry: Retry
    keep_done: bool = False


class Desk:
    """Where the workers of one started queue channel get messages and bring them back."""

    def __init__(
        self,
        channel: str,
        store: QueueStore,
        tail: Tail,
        fanout: FanOut,
        clock: Clock,
        rules: Rules,
        decode: Callable[[Lease], ChannelMessage],
        dead: Callable[[ChannelMessage, str, int, str | None], Draft],
        damaged: Callable[[Stored, MessageCorrupt], Draft],
    ) -> None:
        self.channel = channel
        self.rules = rules
        self.clock = clock
        self.claims: dict[str, Claim] = {}
        """The unsettled claims by token that end with this desk."""
        self._store, self._tail, self._fanout = store, tail, fanout
        self._decode, self._dead, self._damaged = decode, dead, damaged
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._closed = False
        self._news = 0
        self._late: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Future[None]] = set()
        """Claims that are not over: what they get after the end is given back."""
        self._end_listening = tail.listen(channel, self.news)

    def close(self) -> None:
        """Hand out nothing more; whoever waits is told."""
        self._closed = True
        self._end_listening()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._late:
            task.cancel()
        self._wake(len(self._waiters))

    def news(self, count: int | None = None) -> None:
        """There may be ``count`` messages more to claim (None: any number)."""
        self._news += 1
        self._wake(len(self._waiters) if count is None else count)

    async def claim(
        self,
        worker: str,
        *,
        limit: int = 1,
        select: Selection | None = None,
        lease: float | None = None,
        renew: bool = True,
    ) -> list[Claim]:
        """Return up to ``limit`` claims on messages that are ready now; without waiting for any."""
        self._check()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking.add(over)
        try:
            while True:
                claims, seen = await self._claim(worker, limit, select, lease, renew)
                # What was seen but could not be handed out went to the dead letters; the next may do.
                if claims or not seen:
                    return claims
        finally:
            self._asking.discard(over)
            over.set_result(None)

    async def _claim(
        self, worker: str, limit: int, select: Selection | None, lease: float | None, renew: bool
    ) -> tuple[list[Claim], bool]:
        span = self.rules.claim_timeout if lease is None else lease
        work = asyncio.ensure_future(
            self._store.claim(
                self.channel, worker=worker, lease=span, limit=limit, select=select, renew=renew
            )
        )
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await complete(self._return(work))
            raise
        leases, next_due = work.result()
        if leases and self._closed:
            # The channel was stopped meanwhile, and what it held was given back without these.
            await complete(self._return(work))
            self._check()
        self._schedule(next_due)
        claims = []
        try:
            for held in leases:
                claim = await self._admit(held, worker)
                if claim is None:
                    continue
                claims.append(claim)
                if renew:
                    self.claims[claim.token] = claim
        except BaseException:
            for held in leases:
                self.claims.pop(held.token, None)
            await complete(self._return(work))
            raise
        return claims, bool(leases)

    async def _return(self, work: asyncio.Future[Leases]) -> None:
        """Give back, as if never taken, what a cancelled claim has got."""
        try:
            leases = (await work).leases
        except BusError as error:
            log.debug("A cancelled claim failed: %s", error)
            return
        releases = [Release(held.stored.sequence, held.token, counted=False) for held in leases]
        try:
            await self._settle(releases)
        except BusError as error:
            log.debug("A cancelled claim was not given back: %s", error)
            self.settle_at_last([], releases, error)

    async def _admit(self, held: Lease, worker: str) -> Claim | None:
        """Return the claim, or None if its message must go to the dead letters instead."""
        stored, token = held.stored, held.token
        try:
            message = self._decode(held)
        except MessageCorrupt as error:
            log.error("%s It goes to the dead letters.", error)
            await complete(self._settle([Bury(stored.sequence, token, self._damaged(stored, error))]))
            return None
        if exhausted(held.attempt - 1, self.rules.max_deliveries):
            log.error(
                "Message %s of queue %r goes to the dead letters: its %d attempts all ended without a word.",
                stored.id,
                self.channel,
                held.attempt - 1,
            )
            draft = self._dead(message, "died", held.attempt - 1, held.error)
            await complete(self._settle([Bury(stored.sequence, token, draft)]))
            return None
        return Claim(self, message, worker, held)

    async def wait(
        self,
        worker: str,
        timeout: float | None = None,
        limit: int = 1,
        ended: Callable[[], bool] = lambda: False,
    ) -> list[Claim]:
        """Return at least one claim, waiting for a message to become ready.

        Args:
            worker: Who claims.
            timeout: Seconds to wait.
            limit: How many claims at most.
            ended: Asked at all ``news`` whether waiting has become pointless.

        Raises:
            BusTimeout: none did for ``timeout`` seconds.
            ClosedError: the channel was stopped, or waiting has ended.
        """
        deadline = None if timeout is None else self.clock.elapsed() + timeout
        while True:
            if ended():
                raise ClosedError(f"Worker {worker!r}")
            news = self._news
            claims = await self.claim(worker, limit=limit)
            if claims:
                # There may be more where these came from; let others look, ever more of them.
                self._wake(2)
                return claims
            if news == self._news:
                await self._wait(deadline)

    async def _wait(self, deadline: float | None) -> None:
        self._fanout.check()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        timer = None
        if deadline is not None:
            left = max(0.0, deadline - self.clock.elapsed())
            late = BusTimeout(f"No message of queue {self.channel!r} was ready in time.")
            timer = self.clock.call_later(left, lambda: fail(waiter, late))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake(1)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake(self, count: int) -> None:
        while count > 0 and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def _schedule(self, delay: float | None) -> None:
        """Look again when time alone makes a message ready: no bell rings for that."""
        if delay is None or self._closed:
            return
        at = self.clock.elapsed() + delay
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self.clock.call_later(delay, self._due), at

    def _due(self) -> None:
        self._timer = None
        self.news()

    async def settle(self, claims: Sequence[Claim], settlements: Sequence[Settlement]) -> None:
        """Settle claims, all in one step; raise ``ClaimLost`` for those that were lost.

        If cancelled, it is finished all the same before the cancellation is raised.
        """
        ours = {claim.token: claim for claim in claims if self.claims.pop(claim.token, None)}
        try:
            good = await complete(self._settle(settlements))
        except (BusError, asyncio.CancelledError) as error:
            if isinstance(error, BusError) or isinstance(error.__cause__, BusError):
                # Nothing was settled, so the claims can be settled again.
                self.claims.update(ours)
                for claim in claims:
                    claim.settled = False
            raise
        lost = [claim.message.id for claim, ok in zip(claims, good, strict=True) if not ok]
        if lost:
            raise ClaimLost(self.channel, lost, claims[0].worker)

    def settle_at_last(
        self, claims: Sequence[Claim], settlements: Sequence[Settlement], error: BaseException | None
    ) -> None:
        """Settle, once the store can, what it could not by ``error`` and nobody will ask for again.

        Whoever is alive renews what it holds: without this it would be held for nobody from then on.
        """
        if passes(error) and not self._closed and not self._fanout.cancelled:
            work = self._settle_at_last(claims, settlements)
            task = self._fanout.spawn(work, f"sssnbus-{self.channel}-settle")
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _settle_at_last(self, claims: Sequence[Claim], settlements: Sequence[Settlement]) -> None:
        try:
            await insist(lambda: self._settle(settlements), self.clock)
        except BusError as error:
            log.warning("Queue %r: a settlement failed: %s", self.channel, error)
            return
        for claim in claims:
            self.claims.pop(claim.token, None)

    async def _settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        good = await self._store.settle(self.channel, settlements)
        for settlement in settlements:
            if isinstance(settlement, Release) and settlement.delay:
                self._schedule(settlement.delay)
        # An end may make the next of its key ready, and what is given back is ready at once.
        self._tail.notify(self.channel)
        return good

    async def extend(self, claim: Claim, seconds: float) -> float:
        """Let a claim end ``seconds`` from now; return its new deadline."""
        (good,) = await complete(self._store.extend(self.channel, [(claim.sequence, claim.token)], seconds))
        if not good:
            self.claims.pop(claim.token, None)
            raise ClaimLost(self.channel, [claim.message.id], claim.worker)
        self._schedule(seconds)
        return self.clock.elapsed() + seconds

    def done(self, claim: Claim) -> Settlement:
        """Return what becomes of a message whose work is done."""
        return Ack(claim.sequence, claim.token, self.rules.keep_done)

    def failed(self, claim: Claim, error: str | None, delay: float | None) -> Settlement:
        """Return what becomes of a message whose attempt failed: another attempt, or the dead letters."""
        if exhausted(claim.attempt, self.rules.max_deliveries):
            draft = self._dead(claim.message, "failed", claim.attempt, error)
            return Bury(claim.sequence, claim.token, draft)
        pause = retry_delay(self.rules.retry, claim.attempt) if delay is None else delay
        return Release(claim.sequence, claim.token, delay=pause, error=error)

    async def see_off(self, tasks: Collection[asyncio.Task[Any]]) -> bool:
        """Wait for cancelled workers to end; return False if some wait for the store in vain."""
        return await self._fanout.see_off(tasks, self._store, self.channel)

    async def release_all(self) -> None:
        """Give back every claim that is not settled, as if it had never been taken.

        Return when those have been given back too whose answers are still to come.
        """
        claims = list(self.claims.values())
        try:
            if claims:
                await self.settle(
                    claims, [Release(claim.sequence, claim.token, counted=False) for claim in claims]
                )
        finally:
            if self._asking:
                await asyncio.wait(self._asking)

    def _check(self) -> None:
        if self._closed:
            raise ClosedError(f"Channel {self.channel!r}")
