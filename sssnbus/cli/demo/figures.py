"""How things stand while the demo runs, and in words."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from sssnbus import QueueStatistics
from sssnbus.cli.demo.tally import Results, milliseconds

LIVE, LATE, PUBLISHER, WORKERS = "live", "late", "publisher", "workers"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo is to do."""

    path: Path
    files: int
    workers: int
    rate: float
    kill: bool

    @property
    def url(self) -> str:
        """The store that all processes share."""
        return "sqlite:///" + quote(str(self.path))


class Rate:
    """How fast a count grows, over the last two seconds."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, int]] = deque()

    def of(self, count: int) -> float:
        """Note the count now; return its growth per second."""
        now = time.monotonic()
        self._past.append((now, count))
        while now - self._past[0][0] > 2.0:
            self._past.popleft()
        then, before = self._past[0]
        return (count - before) / (now - then) if now > then else 0.0


class Row(NamedTuple):
    """One line of the table, as text."""

    who: str
    state: str
    files: str
    rate: str
    behind: str
    p50: str
    p99: str


HEADINGS: Final = Row("process", "state", "files", "per s", "behind", "p50 ms", "p99 ms")


@dataclass
class Figures:
    """How things are now."""

    seconds: float = 0.0
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last report of each child."""
    published: int = 0
    events: int = 0
    workers: int = 0
    queue: QueueStatistics | None = None
    results: Results = field(default_factory=Results)
    rates: dict[str, float] = field(default_factory=dict)

    def state(self, name: str) -> str:
        """Return what a child said last of its state."""
        return str(self.reports.get(name, {}).get("state", "waiting"))

    def seen(self, name: str) -> int:
        """Return how many events a subscriber has seen."""
        return int(self.reports.get(name, {}).get("seen", 0))

    @property
    def waiting(self) -> int:
        """Jobs that no worker has yet."""
        return self.queue.ready + self.queue.delayed if self.queue else 0

    @property
    def in_flight(self) -> int:
        """Jobs that a worker has claimed."""
        return self.queue.leased if self.queue else 0

    def rows(self) -> Iterator[Row]:
        """Return the table of the processes."""
        yield self._row("publisher", self.state(PUBLISHER), PUBLISHER, self.published, "")
        for name, who in ((LIVE, "subscriber, live"), (LATE, "subscriber, late")):
            state = self.state(name)
            report = self.reports.get(name, {})
            if state == "running" and report["seen"] < report["history"]:
                state = "catching up"
            behind = "" if state == "waiting" else f"{report.get('behind', 0):,}"
            yield self._row(
                who, state, name, self.seen(name), behind, report.get("p50_ms"), report.get("p99_ms")
            )
        waits = self.results.waits[-2000:]
        state = f"{self.in_flight} in flight, {self.waiting} in the queue"
        who = f"{self.workers} worker{'s' * (self.workers != 1)}"
        behind = f"{max(0, self.published - self.results.hashed):,}"
        times = milliseconds(waits, 50), milliseconds(waits, 99)
        yield self._row(who, state, WORKERS, self.results.hashed, behind, *times)

    def _row(
        self, who: str, state: str, name: str, count: int, behind: str,
        p50: float | None = None, p99: float | None = None,
    ) -> Row:  # fmt: skip
        rate = f"{self.rates.get(name, 0.0):,.0f}"
        return Row(who, state, f"{count:,}", rate, behind, shown(p50), shown(p99))


def shown(milliseconds: float | None) -> str:
    """Return a time as it is shown."""
    return "" if milliseconds is None else f"{milliseconds:.1f}"
