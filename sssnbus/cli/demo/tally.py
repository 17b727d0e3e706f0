"""What the demo counts at its end, and whether it adds up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seen:
    """What one subscriber has seen of the events."""

    name: str
    seen: int
    doubled: int
    """Events that came a second time."""
    disordered: int
    """Events that did not come right after the one before them."""
    history: int
    """Events that were there before it joined."""
    fingerprint: str
    """A hash over the ids in the order in which they came."""
    p50_ms: float | None = None
    """From write to subscriber for events written while it listened: half were faster."""
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """The figures of a whole demo."""

    published: int
    """Files of which the publisher was told that event and job are stored."""
    events: int
    """Events in the channel."""
    subscribers: tuple[Seen, ...]
    hashed: int
    """Files with a result."""
    repeated: int
    """Files with more than one."""
    redelivered: int
    """Files with a result of a second or later attempt."""
    left: int
    """Jobs still in the queue."""
    dead: int
    """Jobs among the dead letters."""
    killed: int
    """Workers that were killed."""

    @property
    def lost(self) -> int:
        """Files that were published and never hashed."""
        return self.published - self.hashed

    @property
    def one_order(self) -> bool:
        """Whether all subscribers saw the same events in the same order, gapless."""
        fingerprints = {seen.fingerprint for seen in self.subscribers}
        return len(fingerprints) == 1 and not any(seen.disordered for seen in self.subscribers)


def complaints(tally: Tally) -> list[str]:
    """Return a sentence for everything that does not add up."""
    return [*_of_events(tally), *_of_jobs(tally)]


def _of_events(tally: Tally) -> list[str]:
    found = []
    if tally.published == 0:
        found.append("No file was published.")
    if tally.events != tally.published:
        found.append(f"{tally.published} files were published, but the channel holds {tally.events} events.")
    for seen in tally.subscribers:
        if seen.seen != tally.published:
            found.append(f"Subscriber {seen.name!r} saw {seen.seen} of {tally.published} events.")
        if seen.doubled:
            found.append(f"Subscriber {seen.name!r} saw {seen.doubled} events twice.")
        if seen.disordered:
            found.append(f"Subscriber {seen.name!r} saw {seen.disordered} events out of order.")
    if len({seen.fingerprint for seen in tally.subscribers}) > 1:
        found.append("The subscribers did not see the same events in the same order.")
    return found


def _of_jobs(tally: Tally) -> list[str]:
    found = []
    if tally.lost:
        found.append(f"{tally.lost} of {tally.published} files were never hashed.")
    if tally.left:
        found.append(f"{tally.left} jobs are still in the queue.")
    if tally.dead:
        found.append(f"{tally.dead} jobs are dead letters.")
    if tally.killed and not tally.redelivered:
        found.append("A worker was killed in the middle of its work, but nothing was redelivered.")
    if not tally.killed and tally.redelivered:
        found.append(f"{tally.redelivered} jobs were redelivered although no worker died.")
    if tally.repeated > tally.redelivered:
        found.append(f"{tally.repeated} files were hashed twice, but only {tally.redelivered} redelivered.")
    return found


class Results:
    """The results of the workers, as they come in."""

    def __init__(self) -> None:
        self._times: Counter[int] = Counter()
        self._again: set[int] = set()
        self.waits: list[float] = []
        """Seconds from the writing of a job to its result, for first attempts."""
        self.by_worker: Counter[str] = Counter()

    def add(self, worker: str, file: int, attempt: int, waited: float) -> None:
        """Note one result."""
        self._times[file] += 1
        self.by_worker[worker] += 1
        if attempt > 1:
            self._again.add(file)
        else:
            self.waits.append(waited)

    @property
    def hashed(self) -> int:
        """Files with a result."""
        return len(self._times)

    @property
    def repeated(self) -> int:
        """Files with more than one result."""
        return sum(times > 1 for times in self._times.values())

    @property
    def redelivered(self) -> int:
        """Files with a result of a second or later attempt."""
        return len(self._again)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the value below which ``percent`` of the values lie; None if there are none."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def milliseconds(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile of seconds, in milliseconds."""
    value = percentile(values, percent)
    return None if value is None else round(value * 1000, 2)
