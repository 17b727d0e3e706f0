"""What this store object holds: the leases to renew."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sssnbus.stores.base import Lease

RENEWALS: Final = 3
"""How often a lease is renewed while it would last."""


@dataclass(slots=True)
class Hold:
    """A lease that is renewed until it is settled."""

    log: str
    sequence: int
    seconds: float
    renew_at: float
    """On ``Clock.elapsed``."""


class Holds:
    """The renewed leases of a store object by token. The loop and the keeper share it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._holds: dict[str, Hold] = {}
        self._disowned: dict[str, int] = {}

    def add(self, log: str, leases: Iterable[Lease], seconds: float) -> None:
        """Begin to renew leases."""
        with self._mutex:
            for lease in leases:
                renew_at = lease.deadline - seconds + seconds / RENEWALS
                self._holds[lease.token] = Hold(log, lease.stored.sequence, seconds, renew_at)

    def drop(self, tokens: Iterable[str]) -> dict[str, Hold]:
        """Renew leases no more; return those that were renewed."""
        with self._mutex:
            return {token: self._holds.pop(token) for token in tokens if token in self._holds}

    def put_back(self, holds: Mapping[str, Hold]) -> None:
        """Renew again what was dropped."""
        with self._mutex:
            self._holds.update(holds)

    def disown(self, batch: int, prefix: str) -> None:
        """Note that nobody here has the leases that a batch may have made, if it did."""
        with self._mutex:
            self._disowned[prefix] = batch

    def disowned(self) -> list[tuple[int, str]]:
        """Return batches whose leases are to be given back, with what their tokens begin with."""
        with self._mutex:
            return [(batch, prefix) for prefix, batch in self._disowned.items()]

    def given_back(self, prefix: str) -> None:
        """Note that leases with this prefix are free."""
        with self._mutex:
            self._disowned.pop(prefix, None)

    def due(self, now: float) -> list[list[Any]]:
        """Return what is to be renewed now, as columns: tokens, logs, sequences, seconds."""
        with self._mutex:
            due = [(token, hold) for token, hold in self._holds.items() if hold.renew_at <= now]
        return [
            [token for token, _ in due],
            [hold.log for _, hold in due],
            [hold.sequence for _, hold in due],
            [hold.seconds for _, hold in due],
        ]

    def renewed(self, tokens: Iterable[str], now: float) -> None:
        """Note that leases begin anew at ``now``."""
        with self._mutex:
            for token in tokens:
                hold = self._holds.get(token)
                if hold is not None:
                    hold.renew_at = now + hold.seconds / RENEWALS

    def shortest(self) -> float | None:
        """Return the seconds between renewals of the shortest lease, None if there is nothing to renew."""
        with self._mutex:
            return min((hold.seconds / RENEWALS for hold in self._holds.values()), default=None)
