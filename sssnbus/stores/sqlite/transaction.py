"""What an operation has at hand inside a write transaction."""

import sqlite3
from typing import Final

from sssnbus.clock import Clock
from sssnbus.stores.base import News
from sssnbus.stores.sqlite import sql

SEQUENCE_BITS: Final = 40
"""A position is the number of a log, followed by a sequence in this many bits."""

LAST_SEQUENCE: Final = (1 << SEQUENCE_BITS) - 1

COUNTER: Final = 0xFFF
"""The low bits of an id, which count within 4096 nanoseconds."""

FIRST_ID: Final = 10**18
"""The lowest number of 19 digits: ids are of one length even if the clock is far behind."""


HINT: Final = News("", [])
"""News that says no more than that there is some."""


class Transaction:
    """A write transaction: its connection, its moment, and the store-wide clock of ids."""

    __slots__ = ("_letters", "_moved", "_stamp", "careful", "conn", "elapsed", "news", "now")

    def __init__(self, conn: sqlite3.Connection, clock: Clock, *, careful: bool = False) -> None:
        self.conn = conn
        self.now = clock.time()
        self.elapsed = clock.elapsed()
        self.news = False
        """Set by operations after which others may find something to do."""
        self.careful = careful
        """Whether this is the second try, one operation at a time."""
        self._letters: list[News] = []
        self._stamp = 0
        self._moved = False

    def tell(self, news: News) -> None:
        """Note what others will want to know of, so exactly that it can be sent along."""
        self._letters.append(news)

    def mark(self) -> tuple[bool, int]:
        """Return what ``forget`` needs to take back what is told from here on."""
        return self.news, len(self._letters)

    def forget(self, mark: tuple[bool, int]) -> None:
        """Take back what was told of an operation that is undone."""
        self.news = mark[0]
        del self._letters[mark[1] :]

    def letter(self) -> News | None:
        """Return what to tell others after the commit: None for nothing, no log for no more than a hint."""
        if not self.news and len(self._letters) == 1:
            return self._letters[0]
        return HINT if self.news or self._letters else None

    def stamp(self) -> int:
        """Take an id from the hybrid clock. They never go back."""
        self._stamp = stamp = self.peek_stamp() + 1
        self._moved = True
        return stamp

    def peek_stamp(self) -> int:
        """Return the number before the next id; who takes some tells by ``set_stamp``."""
        if not self._stamp:
            self._stamp = max(self.conn.execute(sql.CLOCK).fetchone()[0], FIRST_ID - 1)
        return max(stamp_of(self.now) - 1, self._stamp)

    def set_stamp(self, last: int) -> None:
        """Tell which id was taken last."""
        self._stamp = last
        self._moved = True

    def flush(self) -> None:
        """Write down how far the clock came. Call it once, before the commit."""
        if self._moved:
            self.conn.execute(sql.SET_CLOCK, (self._stamp,))


def stamp_of(time: float) -> int:
    """Return the lowest id that the clock gives at a wall time."""
    return int(time * 1e9) & ~COUNTER
