"""What this store object holds: the leases to renew, and to give back when it closes."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sssnbus.stores.base import Lease

RENEWALS: Final = 3
"""How often a lease is renewed while it would last."""


@dataclass(slots=True)
class Hold:
    """A lease that ends with this store object at the latest."""

    position: int
    seconds: float
    renew_at: float | None
    """On ``Clock.elapsed``; None if its user said when it is to end."""


class Holds:
    """The holds of a store object by token. The loop, the writer and the keeper share it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._holds: dict[str, Hold] = {}

    def add(self, base: int, leases: Iterable[Lease], seconds: float) -> None:
        """Begin to renew leases."""
        with self._mutex:
            for lease in leases:
                renew_at = lease.deadline - seconds + seconds / RENEWALS
                self._holds[lease.token] = Hold(base + lease.stored.sequence, seconds, renew_at)

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
        with self._mutex:
            return [
                (token, hold)
                for token, hold in self._holds.items()
                if hold.renew_at is not None and hold.renew_at <= now
            ]

    def renewed(self, token: str, now: float) -> None:
        """Note that a lease begins anew."""
        with self._mutex:
            hold = self._holds.get(token)
            if hold is not None and hold.renew_at is not None:
                hold.renew_at = now + hold.seconds / RENEWALS

    def shortest(self) -> float | None:
        """Return the seconds between renewals of the shortest lease, None if there is nothing to renew."""
        with self._mutex:
            spans = [hold.seconds / RENEWALS for hold in self._holds.values() if hold.renew_at is not None]
        return min(spans, default=None)

    def all(self) -> list[tuple[str, int]]:
        """Return every token with its position."""
        with self._mutex:
            return [(token, hold.position) for token, hold in self._holds.items()]
