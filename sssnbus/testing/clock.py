"""A clock that a test moves."""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from sssnbus.clock import Clock, Timer


class ManualClock(Clock):
    """A clock that stands still until a test moves it, so that no test has to wait.

    Hand it to whatever takes ``clock=``. Timers fire inside ``advance``, in the order of their times;
    what they wake runs when the test awaits something next, for instance ``run_until_idle``. Use it from
    one thread; reading the time from others is safe.
    """

    def __init__(self, time: float = 1_700_000_000.0, elapsed: float = 1000.0) -> None:
        """Set both hands.

        Args:
            time: The wall time to begin with, in seconds since the Unix epoch.
            elapsed: What the clock that only goes forward begins with, in seconds.
        """
        self._time = time
        self._elapsed = elapsed
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = count()

    def time(self) -> float:
        return self._time

    def elapsed(self) -> float:
        return self._elapsed

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` in the ``advance`` that reaches ``delay`` seconds from now.

        Without a delay it is called by the running loop, as soon as it can.
        """
        timer = _Timer(callback)
        if delay <= 0:
            asyncio.get_running_loop().call_soon(timer.fire)
        else:
            # The number keeps timers of one moment in the order in which they were made.
            heappush(self._timers, (self._elapsed + delay, next(self._numbers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass on both hands, and fire each timer at its own moment on the way."""
        if seconds < 0:
            raise ValueError("time does not go back; set_time moves the wall clock alone")
        end = self._elapsed + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heappop(self._timers)
            self._move(when)
            timer.fire()
        self._move(end)

    def set_time(self, time: float) -> None:
        """Step the wall clock, back or forward, as an operator or NTP does; nothing else moves."""
        self._time = time

    def _move(self, elapsed: float) -> None:
        self._time += elapsed - self._elapsed
        self._elapsed = elapsed


class _Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        if self._callback is not None:
            self._callback()
