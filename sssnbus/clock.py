"""Time, behind one seam, so that tests can own it."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


class Timer(Protocol):
    """A scheduled callback that can still be called off."""

    def cancel(self) -> None: ...


class Clock(ABC):
    """Where the package gets the time from.

    Wall time is for people and for schedules; everything that measures a span uses ``elapsed``.
    """

    @abstractmethod
    def time(self) -> float:
        """Return seconds since the Unix epoch; may step in both directions."""

    @abstractmethod
    def elapsed(self) -> float:
        """Return seconds on a clock that only goes forward and is the same for all local processes."""

    @abstractmethod
    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` on the running loop after ``delay`` seconds."""

    async def sleep(self, delay: float) -> None:
        """Wait for ``delay`` seconds of this clock."""
        woken = asyncio.Event()
        timer = self.call_later(delay, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()


class SystemClock(Clock):
    """The clock of the machine."""

    def time(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        # CLOCK_MONOTONIC stands still while a Linux machine is suspended; a lease must not.
        return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)
