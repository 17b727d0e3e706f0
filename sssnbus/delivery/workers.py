"""Workers: tasks that claim messages of a queue, run a handler on each, and settle it."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sssnbus.delivery.claims import Claim
from sssnbus.delivery.desk import Desk
from sssnbus.delivery.fanout import FanOut
from sssnbus.delivery.feed import Handler
from sssnbus.delivery.handling import call, text_of, within
from sssnbus.delivery.policy import retry_delay
from sssnbus.delivery.shield import briefly, complete, passes, patience
from sssnbus.errors import (
    BusError,
    ClaimLost,
    ClosedError,
    NotBegun,
    StateError,
    SubscriptionDied,
)
from sssnbus.settings import Retry, check_seconds
from sssnbus.stores.base import Bury, Release, Settlement

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage

log = logging.getLogger("sssnbus")

_AGAIN = Retry(initial=0.05, maximum=2.0)
"""The pauses while the store is in trouble."""


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """A snapshot of one subscription of a queue."""

    name: str
    done: int
    failed: int
    """Attempts that raised or ran out of time."""
    lost: int
    """Messages handled after the claim on them had ended: another worker may have them too."""
    running: int


@dataclass(frozen=True, slots=True)
class WorkPlan:
    """What workers need from their channel."""

    desk: Callable[[], Awaitable[tuple[Desk, FanOut]]]
    opened: Callable[[Workers], None]
    closed: Callable[[Workers], None]
    concurrency: int = 1
    batch: int = 1
    timeout: float | None = None


class Workers:
    """What ``subscribe`` of a queue returns: await it, enter it, or iterate it.

    With a handler, awaiting starts ``concurrency`` workers. A message is acked when the handler returns,
    and tried again when it raises. Without one, ``async for`` claims one message after the other: asking for
    the next, or leaving the block normally, acks the last; an exception gives it another attempt. Several
    tasks may iterate, each for itself: for a time limit use ``listen``, since ``asyncio.wait_for`` asks in a
    task of its own each time before Python 3.12.
    """

    def __init__(self, name: str, plan: WorkPlan, handler: Handler | None) -> None:
        self.name = name
        self._plan, self._handler = plan, handler
        self._desk: Desk | None = None
        self._fanout: FanOut | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._current: dict[asyncio.Task[Any] | None, Claim] = {}
        self._begun = self._closing = False
        self._handling: set[asyncio.Task[object]] = set()
        self._done = self._failed = self._lost = 0
        self.error: BusError | None = None
        """What has ended the workers from outside, if anything did."""

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
        try:
            while self._current:
                _, claim = self._current.popitem()
                await claim.conclude(error)
        finally:
            await self.aclose()

    @property
    def has_handler(self) -> bool:
        """Whether workers run a handler, and the subscription is not for iterating."""
        return self._handler is not None

    @property
    def busy(self) -> bool:
        """Whether a handler is at work now."""
        return bool(self._handling)

    async def _open(self) -> Self:
        if self._closing:
            raise ClosedError(f"Subscription {self.name!r}")
        self._begun = True
        if self._desk is None:
            self._desk, self._fanout = await self._plan.desk()
            if self._closing:
                raise ClosedError(f"Subscription {self.name!r}")
            self._plan.opened(self)
            if self._handler is not None:
                handler = within(self._handler, self._plan.timeout, self._desk.clock)
                self._tasks = [
                    self._fanout.spawn(
                        self._work(self._desk, handler), f"sssnbus-{self._desk.channel}-{self.name}-{n}"
                    )
                    for n in range(self._plan.concurrency)
                ]
        return self

    async def aclose(self, grace: float = 5.0) -> None:
        """Claim nothing more, and let running handlers finish within ``grace`` seconds.

        Those still running then are cancelled and their messages given back, with no attempt counted. If the
        store does not answer, the messages are free when the leases end. Idempotent.
        """
        if self._closing:
            return
        self._closing = True
        end = asyncio.get_running_loop().time() + grace
        self._plan.closed(self)
        callers = self._fanout.callers() if self._fanout else set()
        tasks = [task for task in self._tasks if task not in callers]
        for task in tasks:
            if task not in self._handling:
                # It waits for a message; a claim that comes back just now is given back.
                task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=grace)
        finally:
            for task in tasks:
                task.cancel()
        desk = self._desk
        if desk is None:
            return
        told = await desk.see_off(tasks)
        # Whoever waits in a loop is told that it has ended.
        desk.news()
        if not await briefly(self._release_current(), patience(end)) or not told:
            log.warning(
                "Worker %r of queue %r has ended, but the store did not answer in time. What it may hold "
                "still is free when its lease ends.",
                self.name,
                desk.channel,
            )

    async def _release_current(self) -> None:
        while self._current:
            _, claim = self._current.popitem()
            await claim.conclude(asyncio.CancelledError())

    def statistics(self) -> WorkerStatistics:
        """Return a snapshot of the counters."""
        return WorkerStatistics(self.name, self._done, self._failed, self._lost, len(self._handling))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChannelMessage:
        message = await self._next(None)
        if message is None:
            raise StopAsyncIteration
        return message

    async def listen(self, timeout: float | None = None) -> AsyncIterator[ChannelMessage]:
        """Iterate over claimed messages, waiting at most ``timeout`` seconds for each.

        Raises:
            BusTimeout: (a ``TimeoutError``) none was ready for that long; call ``listen`` again to go on.
            ClaimLost: the message before was taken away while it was being handled.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        while (message := await self._next(timeout)) is not None:
            yield message

    @property
    def claim(self) -> Claim | None:
        """The claim on the message that the running task's iteration handed out last."""
        return self._current.get(asyncio.current_task())

    async def _next(self, timeout: float | None) -> ChannelMessage | None:
        if self._handler is not None:
            raise StateError("This subscription has a handler. Subscribe without one to iterate it.")
        if self._desk is None:
            raise NotBegun(self.name)
        task = asyncio.current_task()
        claim = self._current.pop(task, None)
        if claim is not None and not claim.settled:
            await claim.conclude(None)
            self._done += 1
        try:
            (claim,) = await self._desk.wait(self.name, timeout, ended=lambda: self._closing)
        except ClosedError:
            return None
        if self._closing:
            await claim.conclude(asyncio.CancelledError())
            return None
        self._current[task] = claim
        return claim.message

    async def _work(self, desk: Desk, handler: Handler) -> None:
        try:
            await self._claim_and_handle(desk, handler)
        except BaseException as error:
            # A handler that cancels its own task, for one, must not end the workers without a word.
            if not self._closing:
                self.error = SubscriptionDied(desk.channel, self.name, error)
                log.error("%s", self.error)
            raise

    async def _claim_and_handle(self, desk: Desk, handler: Handler) -> None:
        failures = 0
        while not self._closing:
            try:
                claims = await desk.wait(self.name, limit=self._plan.batch)
                failures = 0
            except ClosedError:
                return
            except BusError as error:
                log.error("Worker %r of queue %r cannot claim: %s", self.name, desk.channel, error)
                # What a lost answer handed out is free again when its lease ends.
                if not passes(error):
                    self.error = error
                    return
                failures += 1
                await desk.clock.sleep(retry_delay(_AGAIN, failures))
                continue
            await self._handle_all(desk, handler, claims)

    async def _handle_all(self, desk: Desk, handler: Handler, claims: Sequence[Claim]) -> None:
        """Handle claimed messages one after the other, then settle them in one step."""
        task = asyncio.current_task()
        assert task is not None
        self._handling.add(task)
        settlements: list[Settlement] = []
        try:
            for claim in claims:
                if self._closing and settlements:
                    break
                settlements.append(await self._handle(desk, handler, claim))
        finally:
            # What was claimed but not begun goes back as if it had never been taken.
            # One that was begun counts, unless it is our closing that has ended it.
            begun = len(settlements)
            settlements += [
                Release(claim.sequence, claim.token, counted=place == 0 and not self._closing)
                for place, claim in enumerate(claims[begun:])
            ]
            try:
                await complete(self._settle(desk, claims, settlements, task))
            finally:
                self._handling.discard(task)

    async def _handle(self, desk: Desk, handler: Handler, claim: Claim) -> Settlement:
        error = await call(handler, claim.message)
        if error is None:
            self._done += 1
            return desk.done(claim)
        self._failed += 1
        settlement = desk.failed(claim, text_of(error), None)
        what = (self.name, desk.channel, claim.message.id, claim.attempt)
        if isinstance(settlement, Bury):
            log.error("Worker %r of queue %r gave message %s up after attempt %d.", *what, exc_info=error)
        else:
            again = "Worker %r of queue %r will try message %s again after attempt %d: %s"
            log.warning(again, *what, text_of(error))
        return settlement

    async def _settle(
        self,
        desk: Desk,
        claims: Sequence[Claim],
        settlements: Sequence[Settlement],
        worker: asyncio.Task[object],
    ) -> None:
        """Settle, and try again while the store is in trouble: a failed ack is not a lost message."""
        failures = 0
        while True:
            for claim in claims:
                claim.settled = True
            try:
                return await desk.settle(claims, settlements)
            except ClaimLost as error:
                self._lost += len(error.ids)
                log.warning("%s", error)
                return
            except BusError as error:
                failures += 1
                log.warning("Queue %r: a settlement failed: %s", desk.channel, error)
                if not passes(error):
                    # The claims stay on the desk, which gives them back when the channel stops.
                    return
                if self._closing or worker.cancelling():
                    # Nobody may be kept waiting for the store to come back, least of all a loop that ends.
                    desk.settle_at_last(claims, settlements, error)
                    return
                await desk.clock.sleep(retry_delay(_AGAIN, failures))
