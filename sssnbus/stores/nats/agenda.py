"""When which message of a queue is looked at: now, when it is due, or when its lease or delay ends."""

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush

from sssnbus.stores.nats.lines import Lines
from sssnbus.stores.nats.row import Row


class Agenda:
    """Heaps of what may be ready, now or later; whether it is, the table says when it gets there.

    A message may stand in them more than once, and at times that do not count any more.
    """

    def __init__(self, rows: Mapping[int, Row], lines: Lines, is_dead: Callable[[str], bool]) -> None:
        """Make an empty one.

        Args:
            rows: The messages of the queue.
            lines: Who of those with a key comes first.
            is_dead: Says whether an owner of leases is known to be gone.
        """
        self._rows, self._lines, self._is_dead = rows, lines, is_dead
        self._ready: list[tuple[int, int]] = []
        self._dues: list[tuple[float, int]] = []
        self._rests: list[tuple[float, int]] = []
        self._ends: list[tuple[float, int]] = []

    def clear(self) -> None:
        """Forget everything."""
        for heap in (self._ready, self._dues, self._rests, self._ends):
            heap.clear()

    def offer(self, row: Row) -> None:
        """Put a message where it is looked for, whatever its state."""
        if row.done or row.facts is None:
            return
        if row.token is not None and row.ends is not None:
            heappush(self._ends, (row.ends, row.sequence))
        if row.due is not None:
            heappush(self._dues, (row.due, row.sequence))
        elif row.rest is not None:
            heappush(self._rests, (row.rest, row.sequence))
        elif row.token is None or (row.owner is not None and self._is_dead(row.owner)):
            self._push(row)

    def refresh(self, wall: float, elapsed: float) -> None:
        """See what has become ready by time."""
        for heap, now in ((self._dues, wall), (self._rests, elapsed), (self._ends, elapsed)):
            while heap and heap[0][0] <= now:
                row = self._rows.get(heappop(heap)[1])
                if row is not None:
                    self._push(row)

    def next(self) -> int | None:
        """Take out what is to be looked at first: highest priority, then oldest."""
        return heappop(self._ready)[1] if self._ready else None

    def next_due(self, wall: float, elapsed: float) -> float | None:
        """Return the seconds until something becomes ready by time alone; ``refresh`` comes first."""
        firsts = (
            (self._first(self._ends, lambda row: row.ends if row.token is not None else None), elapsed),
            (self._first(self._dues, lambda row: row.due if self._waits(row) else None), wall),
            (self._first(self._rests, lambda row: row.rest if self._waits(row) else None), elapsed),
        )
        return min((when - now for when, now in firsts if when is not None), default=None)

    def _waits(self, row: Row) -> bool:
        return row.token is None and not row.done and row.facts is not None and self._lines.is_head(row)

    def _push(self, row: Row) -> None:
        if row.facts is None:
            return
        heappush(self._ready, (-row.facts.priority, row.sequence))
        if len(self._ready) > 4 * len(self._rows) + 1000:
            self._ready = list(set(self._ready))
            heapify(self._ready)

    def _first(self, heap: list[tuple[float, int]], now: Callable[[Row], float | None]) -> float | None:
        """Return the lowest entry that still says what its row says."""
        while heap:
            when, sequence = heap[0]
            row = self._rows.get(sequence)
            if row is not None and now(row) == when:
                return when
            heappop(heap)
        return None
