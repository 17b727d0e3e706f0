"""Claims that nobody got: their answer was lost, so what they took is to be given back."""

import threading


class Disowned:
    """Batches whose leases nobody here knows. The loop and the keeper share it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._batches: dict[str, int] = {}

    def add(self, batch: int, prefix: str) -> None:
        """Note a batch that may have made leases, if it was applied, with what their tokens begin with."""
        with self._mutex:
            self._batches[prefix] = batch

    def all(self) -> list[tuple[int, str]]:
        """Return what is to be given back: batches and prefixes."""
        with self._mutex:
            return [(batch, prefix) for prefix, batch in self._batches.items()]

    def given_back(self, prefix: str) -> None:
        """Note that leases with this prefix are free."""
        with self._mutex:
            self._batches.pop(prefix, None)
