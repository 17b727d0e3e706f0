"""How far long work has come, on a terminal only."""

import sys
import time
from typing import Final

_EVERY: Final = 0.1
"""Seconds between two words about work that goes on."""


class Meter:
    """One line on stderr that is written over again and again, and wiped away at the end."""

    def __init__(self, *, shown: bool) -> None:
        """Make a meter that shows itself, unless stderr is no terminal."""
        self._shown = shown and sys.stderr is not None and sys.stderr.isatty()
        self._began = time.monotonic()
        self._next = 0.0
        self._dirty = False

    def tell(self, what: str) -> None:
        """Say what goes on, if it is time to."""
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next, self._dirty = now + _EVERY, True
            print(f"\r\033[K{what}, {now - self._began:.0f} s", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Wipe the line away."""
        if self._dirty:
            self._dirty = False
            print("\r\033[K", end="", file=sys.stderr, flush=True)
