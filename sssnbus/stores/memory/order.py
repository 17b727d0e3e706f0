"""Keys in the order of a number that each of them has."""

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", int, str)


class Order(Generic[K]):
    """A heap of keys by place, then by key, whose entries can be moved and dropped: O(log n) each."""

    __slots__ = ("_heap", "_places")

    def __init__(self) -> None:
        self._places: dict[K, float] = {}
        # Entries that no longer agree with the dict are passed over when they come to the top.
        self._heap: list[tuple[float, K]] = []

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: K) -> bool:
        return key in self._places

    def put(self, key: K, place: float) -> None:
        """Add a key, or move it."""
        if self._places.get(key) == place:
            return
        self._places[key] = place
        heappush(self._heap, (place, key))
        if len(self._heap) > 2 * len(self._places) + 64:
            self._heap = [(place, key) for key, place in self._places.items()]
            heapify(self._heap)

    def place(self, key: K) -> float | None:
        """Return the place of a key, or None if it is not there."""
        return self._places.get(key)

    def drop(self, key: K) -> bool:
        """Take a key out; return whether it was there."""
        return self._places.pop(key, None) is not None

    def first(self) -> float | None:
        """Return the lowest place, or None."""
        heap, places = self._heap, self._places
        while heap:
            place, key = heap[0]
            if places.get(key) == place:
                return place
            heappop(heap)
        return None

    def pop(self) -> K:
        """Take out the key at the lowest place."""
        heap, places = self._heap, self._places
        while True:
            place, key = heappop(heap)
            if places.get(key) == place:
                del places[key]
                return key

    def pop_upto(self, place: float) -> list[K]:
        """Take out every key whose place is not above ``place``."""
        keys: list[K] = []
        while self._heap and (lowest := self.first()) is not None and lowest <= place:
            keys.append(self.pop())
        return keys
