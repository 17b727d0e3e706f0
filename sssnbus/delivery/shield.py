"""How steps are taken: to their end, again while a store is in trouble, one after the other."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from sssnbus.clock import Clock
from sssnbus.delivery.policy import retry_delay
from sssnbus.errors import BusError, ForkedProcess, OutcomeUnknown
from sssnbus.settings import Retry

log = logging.getLogger("sssnbus")

PARTING: Final = 1.0
"""Seconds for each step of an end that needs the store, though the grace is over. One that is there needs
far less."""

_AGAIN: Final = Retry(initial=0.05, maximum=2.0)
"""The pauses while the store is in trouble."""

_left: set[asyncio.Task[Any]] = set()
"""What nobody waits for any more. It ends when the store answers, or is closed."""

T = TypeVar("T")


def patience(end: float) -> float:
    """Return the seconds that a step of an end may wait for the store; ``end`` is when the grace is over."""
    return max(PARTING, end - asyncio.get_running_loop().time())


async def briefly(work: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Run ``work``, and raise its error. After ``seconds`` it is left to itself; return False then."""
    task = asyncio.ensure_future(work)
    _left.add(task)
    task.add_done_callback(_end_alone)
    await asyncio.wait([task], timeout=seconds)
    if task.done():
        task.result()
    return task.done()


def _end_alone(task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("What was left to itself has failed: %s", error)


async def complete(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end even if the caller is cancelled; the cancellation is raised afterwards.

    If the work fails after a cancellation, its error is chained to the ``CancelledError``.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except BaseException:
            break
    if cancelled is None:
        return task.result()
    raise cancelled from (None if task.cancelled() else task.exception())


def passes(error: BaseException | None) -> bool:
    """Return whether a step that failed so may do better later, also if it was done already."""
    return isinstance(error, BusError) and (error.retryable or isinstance(error, OutcomeUnknown))


async def insist(step: Callable[[], Coroutine[Any, Any, T]], clock: Clock) -> T:
    """Repeat a step while a store fails in a way that passes. A cancellation ends this between two tries.

    One whose outcome is unknown is repeated too, so it has to be such that it may have been done.
    """
    failures = 0
    while True:
        try:
            return await step()
        except BusError as error:
            if not passes(error):
                raise
            failures += 1
            log.warning("The store does not answer, trying again: %s", error)
        await clock.sleep(retry_delay(_AGAIN, failures))


class Turns:
    """A lock for an object that is used in several event loops, one after the other."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    def next(self) -> asyncio.Lock:
        """Return the running loop's lock."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # A coroutine that runs although no loop does can only be in a forked child.
            raise ForkedProcess(self._what) from None
        return self._locks.setdefault(loop, asyncio.Lock())
