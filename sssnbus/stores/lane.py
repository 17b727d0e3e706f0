"""Group commit: operations queue up while a step is under way, and go together in the next one.

An operation is waiting, then running or abandoned: what a caller gave up is never applied, and what has
begun is known to its caller before the call ends.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from enum import Enum
from typing import Any, Generic, TypeVar

from sssnbus.errors import BusError, ClosedError, OutcomeUnknown, StoreTimeout, StoreUnavailable

_log = logging.getLogger(__name__)


class Stage(Enum):
    """How far an operation came."""

    WAITING = 0
    RUNNING = 1
    ABANDONED = 2


class Operation:
    """Something to do with the storage, and what came of it."""

    __slots__ = ("deadline", "error", "future", "result", "size", "stage", "timeout", "what")

    def __init__(self, what: str, size: int = 0) -> None:
        """Describe it.

        Args:
            what: Its name for people, as in "A claim".
            size: Bytes of messages that it brings.
        """
        self.what = what
        self.size = size
        self.stage = Stage.WAITING
        self.result: Any = None
        self.error: BaseException | None = None
        self.timeout = self.deadline = 0.0
        self.future: asyncio.Future[Any] | None = None
        """Awaited by the caller; None once the operation has ended."""

    def end(self, error: BaseException | None = None) -> None:
        """Hand out the result, or an error."""
        self.error = error
        future, self.future = self.future, None
        if future is None or future.done():
            return
        if error is None:
            future.set_result(self.result)
        else:
            future.set_exception(error)

    def unknown(self, url: str) -> BusError:
        """Return the error for an answer that never came."""
        return OutcomeUnknown(url, self.what.lower())


O = TypeVar("O", bound=Operation)  # noqa: E741


class Lane(ABC, Generic[O]):
    """Operations that wait, those under way, and everybody who waits for them.

    How they are carried out is for each store to say: it takes them with ``_take`` or its own choice, marks
    them as running when they begin, and ends each one.
    """

    def __init__(self, url: str, timeout: float) -> None:
        """Make an empty lane on the running loop.

        Args:
            url: The store, for error messages.
            timeout: Seconds within which an operation must begin, unless it says otherwise.
        """
        self._url, self._timeout = url, timeout
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[O] = deque()
        self._flying: list[O] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def perform(self, operation: O, timeout: float | None = None) -> Any:
        """Return the result of an operation once it is applied.

        A cancelled one was either abandoned, or has ended before the ``CancelledError`` leaves; then its
        ``result`` is there to be undone.
        """
        future = self._submit(operation, timeout)
        self._wake()
        try:
            return await future
        except asyncio.CancelledError:
            await self._leave(operation)
            raise

    async def insist(self, operation: O, timeout: float) -> None:
        """Do an operation although the task may be cancelled meanwhile; its error is left in it."""
        self._submit(operation, timeout)
        self._wake()
        await self._see_out(operation)

    def close(self) -> None:
        """Give up what waits, and waiting for what does not end."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._loop.is_closed():
            for operation in (*self._waiting, *self._flying):
                if not self._abandon(operation, ClosedError(f"Store {self._url}")):
                    operation.end(self._unknown(operation))
        self._waiting.clear()

    @abstractmethod
    def _wake(self) -> None:
        """See to it that what waits is taken, unless somebody is at it."""

    def _late(self, operation: O) -> BusError:
        """Return the error for an operation that could not begin in time."""
        return StoreTimeout(operation.what, operation.timeout)

    def _unknown(self, operation: O) -> BusError:
        """Return the error for an operation that has begun and was never heard of again."""
        return operation.unknown(self._url)

    def _limit(self, operation: O) -> float | None:
        """Return when an operation is given up, None if it never is: one that has begun is waited for."""
        return operation.deadline if operation.stage is Stage.WAITING else None

    def _submit(self, operation: O, timeout: float | None) -> asyncio.Future[Any]:
        if self._closed:
            raise ClosedError(f"Store {self._url}")
        operation.future = future = self._loop.create_future()
        operation.timeout = self._timeout if timeout is None else timeout
        operation.deadline = deadline = self._loop.time() + operation.timeout
        self._waiting.append(operation)
        if self._timer is None or self._timer.when() > deadline:
            self._set_timer(deadline)
        return future

    def _take(self, most: int, most_bytes: int) -> list[O]:
        """Return what goes together next: ``most_bytes`` at most, unless a single one brings more."""
        taken: list[O] = []
        waiting, size = self._waiting, 0
        while waiting and len(taken) < most:
            size += waiting[0].size
            if taken and size > most_bytes:
                break
            operation = waiting.popleft()
            if operation.stage is Stage.WAITING:
                taken.append(operation)
        return taken

    def _abandon(self, operation: O, reason: BaseException | None = None) -> bool:
        """Make sure that a waiting operation is never applied; return False if it has begun."""
        if operation.stage is Stage.RUNNING:
            return False
        operation.stage = Stage.ABANDONED
        if reason is None:
            operation.future = None
        else:
            operation.end(reason)
        return True

    def _interrupt(self) -> None:
        """See to what was under way when the task that carried it was cancelled, as by a loop that ends.

        Nobody else would ever tell those who wait for it.
        """
        flying, self._flying = self._flying, []
        for operation in flying:
            if operation.stage is Stage.RUNNING:
                operation.end(self._unknown(operation))
        self._waiting.extendleft(each for each in reversed(flying) if each.stage is Stage.WAITING)

    async def _leave(self, operation: O) -> None:
        """Let a caller go who was cancelled: at once if it has not begun."""
        if self._abandon(operation):
            return
        await self._see_out(operation)
        if isinstance(operation.error, OutcomeUnknown | StoreUnavailable):
            # Nobody else is told.
            _log.warning("%s", operation.error)

    async def _see_out(self, operation: O) -> None:
        """Wait until an operation has ended, however often the task is cancelled."""
        if operation.future is None:
            return
        # The caller's own one may have been cancelled with it.
        operation.future = future = self._loop.create_future()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        future.exception()

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._expire)

    def _expire(self) -> None:
        """Give up what is out of time."""
        self._timer, now, soonest = None, self._loop.time(), None
        for operation in (*self._flying, *self._waiting):
            if (limit := self._limit(operation)) is None:
                continue
            if limit > now:
                soonest = min(soonest or limit, limit)
            elif not self._abandon(operation, self._late(operation)):
                self._overdue(operation)
        if soonest is not None:
            self._set_timer(soonest)
        # A lane that is stuck must not pile up what nobody waits for.
        self._waiting = deque(each for each in self._waiting if each.stage is Stage.WAITING)

    def _overdue(self, operation: O) -> None:
        """See to an operation that has begun and is out of time; only where ``_limit`` names such."""
