"""What a store object holds: the leases to renew, and to give back when it closes."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, TypeVar

from sssnbus.stores.base import Lease

RENEWALS: Final = 3
"""How often a lease is renewed while it would last."""

P = TypeVar("P")


@dataclass(slots=True)
class Hold(Generic[P]):
    """A lease that ends with this store object at the latest."""

    place: P
    """Where the store finds the message."""
    seconds: float
    renew_at: float | None
    """On ``Clock.elapsed``; None if its user said when it is to end."""


class Holds(Generic[P]):
    """The holds of a store object by token. Its loop, its keeper and its writer share it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._holds: dict[str, Hold[P]] = {}
        # Nothing is due before this: it spares looking through all of them.
        self._soonest = inf

    def add(self, leases: Iterable[tuple[P, Lease]], seconds: float) -> None:
        """Begin to renew leases, each with its place."""
        with self._mutex:
            for place, lease in leases:
                renew_at = lease.deadline - seconds + seconds / RENEWALS
                self._holds[lease.token] = Hold(place, seconds, renew_at)
                self._soonest = min(self._soonest, renew_at)

    def fix(self, tokens: Iterable[str]) -> None:
        """End the renewing of leases whose user has set their end."""
        with self._mutex:
            for token in tokens:
                if token in self._holds:
                    self._holds[token].renew_at = None

    def drop(self, tokens: Iterable[str]) -> dict[str, Hold[P]]:
        """Forget what has ended; return what was known of it."""
        with self._mutex:
            return {token: self._holds.pop(token) for token in tokens if token in self._holds}

    def put_back(self, holds: Mapping[str, Hold[P]]) -> None:
        """Renew again what was dropped."""
        with self._mutex:
            self._holds.update(holds)
            self._set_soonest()

    def due(self, now: float) -> list[tuple[str, Hold[P]]]:
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

    def renewed(self, tokens: Iterable[str], now: float) -> None:
        """Note that leases begin anew at ``now``."""
        with self._mutex:
            for token in tokens:
                hold = self._holds.get(token)
                if hold is not None and hold.renew_at is not None:
                    hold.renew_at = now + hold.seconds / RENEWALS
            self._set_soonest()

    def shortest(self) -> float | None:
        """Return the seconds between renewals of the shortest lease, None if there is nothing to renew."""
        with self._mutex:
            spans = [hold.seconds / RENEWALS for hold in self._holds.values() if hold.renew_at is not None]
        return min(spans, default=None)

    def all(self) -> list[tuple[str, Hold[P]]]:
        """Return every token with its hold."""
        with self._mutex:
            return list(self._holds.items())

    def _set_soonest(self) -> None:
        times = (hold.renew_at for hold in self._holds.values() if hold.renew_at is not None)
        self._soonest = min(times, default=inf)
