"""A log in memory: messages by sequence, by id and by time."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import ClassVar, Final

from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import Kind, LogInfo, Page, Selection
from sssnbus.stores.memory.order import Order
from sssnbus.topics import Pattern, matcher

LOOK: Final = 4096
"""Messages that a read by topics looks at, at most."""


class Log:
    """Messages in the order of their sequences. Appending, finding and removing one take no scan.

    A removed message leaves a hole. Holes at the old end are skipped by ``_first``; as soon as most of
    the rest are holes as well, everything is packed, so that a message that stays for ever costs no
    room for those that come and go behind it.
    """

    __slots__ = (
        "_dedupes", "_first", "_rows", "_sequences", "_times", "_windows", "floor", "ids", "last", "name",
        "size",
    )  # fmt: skip

    kind: ClassVar[Kind] = Kind.LOG

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = self.floor = self.size = 0
        self.ids: dict[str, int] = {}
        self._sequences: list[int] = []
        self._rows: list[Stored | None] = []
        self._times: list[float] = []
        self._first = 0
        self._dedupes: dict[str, tuple[bytes, str, int]] = {}
        self._windows: Order[str] = Order()

    def put(self, id: str, draft: Draft, at: float) -> Stored:
        """Add a message at the end. ``at`` never goes back."""
        _, _, timestamp, sender_id, topic, type, headers, body, crc, priority, key, _, _ = draft
        self.last = sequence = self.last + 1
        stored = Stored(id, sequence, timestamp, sender_id, topic, type, headers, body, crc, priority, key)
        self.ids[id] = sequence
        self._sequences.append(sequence)
        self._rows.append(stored)
        self._times.append(at)
        self.size += len(headers) + len(body)
        return stored

    def get(self, id: str) -> Stored | None:
        """Return a message by its id."""
        sequence = self.ids.get(id)
        return None if sequence is None else self._rows[self._index(sequence)]

    def holds(self, sequence: int) -> bool:
        """Return whether the message with this sequence is there."""
        if not self.ids or not self._sequences[0] <= sequence <= self._sequences[-1]:
            return False
        index = self._index(sequence)
        return self._sequences[index] == sequence and self._rows[index] is not None

    def at(self, sequence: int) -> Stored:
        """Return a message that is there."""
        stored = self._rows[self._index(sequence)]
        assert stored is not None
        return stored

    def discard(self, stored: Stored) -> None:
        """Remove a message that is there."""
        del self.ids[stored.id]
        self.size -= len(stored.headers) + len(stored.body)
        rows = self._rows
        rows[self._index(stored.sequence)] = None
        first, end = self._first, len(rows)
        while first < end and rows[first] is None:
            first += 1
        self._first = first
        if end > 2 * len(self.ids) + 64:
            self._pack()

    def page(self, after: int, limit: int, upto: int | None, topics: Sequence[Pattern]) -> Page:
        """Return a stretch of the log."""
        start = max(self._first, bisect_right(self._sequences, after)) if after else self._first
        stop = len(self._rows) if upto is None else bisect_right(self._sequences, upto)
        end = self.last if upto is None else min(upto, self.last)
        if not topics:
            messages = self._slice(start, stop, limit)
        else:
            if stop - start > LOOK:
                stop = start + LOOK
                end = self._sequences[stop - 1]
            matches = matcher(topics)
            found = (row for row in self._rows[start:stop] if row is not None and matches(row.topic))
            messages = list(islice(found, max(limit, 0)))
        return Page.of(messages, self.floor, self.last, after=after, limit=limit, end=end)

    def _slice(self, start: int, end: int, limit: int) -> list[Stored]:
        messages: list[Stored] = []
        while len(messages) < limit and start < end:
            # Most stretches have no holes, so one slice is enough.
            stop = min(end, start + limit - len(messages))
            messages += filter(None, self._rows[start:stop])
            start = stop
        return messages

    def before(self, time: float) -> int:
        """Return the sequence after which everything came at or after ``time``."""
        index = bisect_left(self._times, time, self._first)
        return self._sequences[index] - 1 if index < len(self._times) else self.last

    def trim(
        self, upto: int | None, older_than: float | None, max_count: int | None, max_bytes: int | None
    ) -> int:
        """Remove from the old end what any bound rules out; return how many went."""
        count = len(self.ids)
        surplus = 0 if max_count is None else count - max_count
        while self.ids:
            stored = self._rows[self._first]
            assert stored is not None
            if not (
                surplus > 0
                or (upto is not None and stored.sequence <= upto)
                or (older_than is not None and self._times[self._first] < older_than)
                or (max_bytes is not None and self.size > max_bytes)
            ):
                break
            surplus -= 1
            self.discard(stored)
            self.floor = stored.sequence
        if upto is not None:
            self.floor = max(self.floor, min(upto, self.last))
        return count - len(self.ids)

    def chosen(self, select: Selection | None) -> Iterator[Stored]:
        """Yield the messages that a selection means, oldest first, while nothing changes."""
        ids, after, before = select or Selection()
        if ids is None:
            found = (stored for stored in self._rows[self._first :] if stored is not None)
        else:
            found = (self.at(sequence) for sequence in sorted({self.ids[id] for id in ids if id in self.ids}))
        for stored in found:
            if (after is None or after < stored.id) and (before is None or stored.id < before):
                yield stored

    def movable(self, select: Selection | None) -> Iterator[Stored]:
        """Yield the messages that ``transfer`` may take."""
        return self.chosen(select)

    def info(self) -> LogInfo:
        """Return what the catalogue tells."""
        return LogInfo(self.name, self.kind, self.last, self.floor, len(self.ids), self.size)

    def remember(self, key: str, digest: bytes, id: str, sequence: int, until: float) -> None:
        """Keep a dedupe key until a time on the clock that only goes forward."""
        self._dedupes[key] = digest, id, sequence
        self._windows.put(key, until)

    def remembered(self, key: str, now: float) -> tuple[bytes, str, int] | None:
        """Return the digest, id and sequence that a dedupe key stands for now."""
        for old in self._windows.pop_upto(now):
            del self._dedupes[old]
        return self._dedupes.get(key)

    def _index(self, sequence: int) -> int:
        index = sequence - self._sequences[0]
        if index < len(self._sequences) and self._sequences[index] == sequence:
            return index
        return bisect_left(self._sequences, sequence)

    def _pack(self) -> None:
        kept = [index for index, row in enumerate(self._rows) if row is not None]
        self._rows = [self._rows[index] for index in kept]
        self._times = [self._times[index] for index in kept]
        self._sequences = [self._sequences[index] for index in kept]
        self._first = 0
