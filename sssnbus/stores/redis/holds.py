"""What this store object holds: the leases to renew, and to give back when it closes."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Final

from sssnbus.stores.base import Lease

RENEWALS: Final = 3
"""How often a lease is renewed while it would last."""


@dataclass(slots=True)
class Hold:
    """A lease that ends with this store object at the latest."""

    log: str
    sequence: int
    seconds: float
    renew_at: float | None
    """On ``Clock.elapsed``; None if its user said when it is to end."""


class Holds:
    """The holds of a store object by token. The loop and the keeper share it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._holds: dict[str, Hold] = {}
        # Nothing is due before this: it spares looking through all of them.
        self._soonest = inf

    def add(self, log: str, leases: Iterable[Lease], seconds: float) -> None:
        """Begin to renew leases."""
        with self._mutex:
            for lease in leases:
                renew_at = lease.deadline - seconds + seconds / RENEWALS
                self._holds[lease.token] = Hold(log, lease.stored.sequence, seconds, renew_at)
                self._soonest = min(self._soonest, renew_at)

    def fix(self, tokens: Iterable[str]) -> None:
        """End the renewing of leases whose user has set their end."""
        with self._mutex:
            for token in tokens:
                if token in self._holds:
                    self._holds[token].renew_at = None

    def drop(self, tokens: Iterable[str]) -> None:
        """Forget what has ended."""
        with self._mutex:
            for token in tokens:
                self._holds.pop(token, None)

    def due(self, now: float) -> list[tuple[str, Hold]]:
        """Return what is to be renewed now."""
        if now < self._soonest:
            return []
        with self._mutex:
            self._set_soonest()
            return [
                (token, hold)
                for token, hold in self._holds.items()
                if hold.renew_at is not None and hold.renew_at <= now
            ]

    def renewed(self, asked: Iterable[tuple[str, Hold]], now: float, good: Iterable[int]) -> None:
        """Note which leases began anew; forget the others."""
        with self._mutex:
            for (token, hold), its in zip(asked, good, strict=True):
                if not its:
                    self._holds.pop(token, None)
                elif hold.renew_at is not None:
                    hold.renew_at = now + hold.seconds / RENEWALS
            self._set_soonest()

    def shortest(self) -> float | None:
        """Return the seconds between renewals of the shortest lease, None if there is nothing to renew."""
        with self._mutex:
            spans = [hold.seconds / RENEWALS for hold in self._holds.values() if hold.renew_at is not None]
        return min(spans, default=None)

    def all(self) -> list[tuple[str, Hold]]:
        """Return every token with its hold."""
        with self._mutex:
            return list(self._holds.items())

    def _set_soonest(self) -> None:
        times = (hold.renew_at for hold in self._holds.values() if hold.renew_at is not None)
        self._soonest = min(times, default=inf)


def rows_of(holds: Iterable[tuple[str, Hold]]) -> list[tuple[str, int, str, float]]:
    """Return holds as the scripts want them."""
    return [(hold.log, hold.sequence, token, hold.seconds) for token, hold in holds]
