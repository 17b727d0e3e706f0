"""A queue in memory: a log whose messages are ready, waiting for a time, leased or done."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from typing import ClassVar

from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import Counts, Kind, Lease, Release, Selection, Standing, State
from sssnbus.stores.memory.log import Log
from sssnbus.stores.memory.order import Order


class Queue(Log):
    """A log with a state for each message. Claiming and settling one are O(log n).

    A message is in exactly one of: ``_ready``, ``_resting`` (released with a delay), ``_scheduled``
    (due at a wall time), ``_tokens`` (leased), ``_done``; or in none of them, behind the head of its key.
    """

    __slots__ = (
        "_attempts", "_done", "_dues", "_ends", "_errors", "_keys", "_ready", "_resting", "_scheduled",
        "_tokens",
    )  # fmt: skip

    kind: ClassVar[Kind] = Kind.QUEUE

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._ready: Order[int] = Order()
        self._resting: Order[int] = Order()
        self._scheduled: Order[int] = Order()
        self._ends: Order[int] = Order()
        self._tokens: dict[int, str] = {}
        self._done: set[int] = set()
        self._attempts: dict[int, int] = {}
        self._errors: dict[int, str] = {}
        # An OrderedDict finds its head at once however many went before; a dict scans their places.
        self._keys: dict[str, OrderedDict[int, None]] = {}
        self._dues: dict[int, float] = {}

    @property
    def depth(self) -> int:
        """How many messages are not done."""
        return len(self.ids) - len(self._done)

    def put(self, id: str, draft: Draft, at: float) -> Stored:
        stored = super().put(id, draft, at)
        sequence, key = stored.sequence, stored.key
        if draft.due is not None:
            self._dues[sequence] = draft.due
        if key is not None:
            line = self._keys.setdefault(key, OrderedDict())
            line[sequence] = None
            if len(line) > 1:
                return stored
        self._admit(stored)
        return stored

    def discard(self, stored: Stored) -> None:
        super().discard(stored)
        sequence = stored.sequence
        if sequence in self._done:
            self._done.remove(sequence)
            return
        self._ready.drop(sequence)
        self._resting.drop(sequence)
        self._scheduled.drop(sequence)
        self._leave(stored)

    def refresh(self, time: float, elapsed: float) -> None:
        """Make ready what became so by time."""
        for sequence in self._scheduled.pop_upto(time):
            self._make_ready(self.at(sequence))
        for sequence in self._resting.pop_upto(elapsed):
            self._make_ready(self.at(sequence))
        for sequence in self._ends.pop_upto(elapsed):
            del self._tokens[sequence]
            self._make_ready(self.at(sequence))

    def next_due(self, time: float, elapsed: float) -> float | None:
        """Return the seconds until the next message becomes ready by time."""
        waits = [
            place - now
            for order, now in ((self._scheduled, time), (self._resting, elapsed), (self._ends, elapsed))
            if (place := order.first()) is not None
        ]
        return min(waits, default=None)

    def claim(self, limit: int, select: Selection | None) -> list[Stored]:
        """Take out the first ready messages, by priority, then by age."""
        if select is None:
            return [self.at(self._ready.pop()) for _ in range(min(limit, len(self._ready)))]
        taken = nsmallest(limit, self.peek(select), key=lambda stored: (-stored.priority, stored.sequence))
        for stored in taken:
            self._ready.drop(stored.sequence)
        return taken

    def lease(self, stored: Stored, token: str, deadline: float, renew: bool) -> Lease:
        """Hand out a claimed message."""
        sequence = stored.sequence
        self._tokens[sequence] = token
        self._attempts[sequence] = attempt = self._attempts.get(sequence, 0) + 1
        if not renew:
            self._ends.put(sequence, deadline)
        return Lease(stored, token, attempt, deadline, self._errors.get(sequence))

    def held(self, sequence: int, token: str) -> bool:
        """Return whether a token is good."""
        return self._tokens.get(sequence) == token

    def extend(self, sequence: int, deadline: float) -> None:
        """Let a lease end at a time of its own."""
        self._ends.put(sequence, deadline)

    def finish(self, stored: Stored) -> None:
        """Let a leased message be done."""
        self._leave(stored)
        self._done.add(stored.sequence)

    def release(self, stored: Stored, settlement: Release, elapsed: float) -> None:
        """Give a leased message back."""
        sequence, _, delay, counted, error = settlement
        del self._tokens[sequence]
        self._ends.drop(sequence)
        if not counted:
            self._attempts[sequence] -= 1
        if error is not None:
            self._errors[sequence] = error
        if delay > 0:
            self._resting.put(sequence, elapsed + delay)
        else:
            self._make_ready(stored)

    def peek(self, select: Selection | None) -> Iterator[Stored]:
        """Yield the ready messages, oldest first."""
        return (stored for stored in self.chosen(select) if stored.sequence in self._ready)

    def movable(self, select: Selection | None) -> Iterator[Stored]:
        if select is None or select.ids is None:
            return self.peek(select)
        return (
            stored
            for stored in self.chosen(select)
            if stored.sequence in self._ready or stored.sequence in self._done
        )

    def counts(self) -> Counts:
        """Return how many messages are in each state."""
        delayed, leased = len(self._resting) + len(self._scheduled), len(self._tokens)
        return Counts(self.depth - delayed - leased, delayed, leased, len(self._done))

    def restore(self, stored: Stored, standing: Standing) -> None:
        """Let a message that was just put stand as it did elsewhere."""
        sequence = stored.sequence
        if standing.state is State.DONE:
            for order in (self._ready, self._scheduled):
                order.drop(sequence)
            self.finish(stored)
            return
        if standing.attempt:
            self._attempts[sequence] = standing.attempt
        if standing.error is not None:
            self._errors[sequence] = standing.error

    def standing(self, sequence: int, ahead: float) -> Standing | None:
        """Return how a message stands; ``ahead`` is what wall time is ahead of elapsed time."""
        if not self.holds(sequence):
            return None
        attempt, error = self._attempts.get(sequence, 0), self._errors.get(sequence)
        if sequence in self._done:
            return Standing(State.DONE, attempt, None, error)
        if (token := self._tokens.get(sequence)) is not None:
            return Standing(State.LEASED, attempt, None, error, token, self._ends.place(sequence))
        due = self._scheduled.place(sequence)
        if due is None and (rest := self._resting.place(sequence)) is not None:
            due = rest + ahead
        if due is not None:
            return Standing(State.DELAYED, attempt, due, error)
        return Standing(State.READY, attempt, self._dues.get(sequence), error)

    def vacuum(self) -> int:
        """Remove what is done."""
        done: Sequence[int] = tuple(self._done)
        for sequence in done:
            self.discard(self.at(sequence))
        return len(done)

    def _admit(self, stored: Stored) -> None:
        """Let a message in that is the head of its key, or has none."""
        due = self._dues.pop(stored.sequence, None)
        if due is None:
            self._make_ready(stored)
        else:
            # If the time has come already, the next refresh makes it ready.
            self._scheduled.put(stored.sequence, due)

    def _make_ready(self, stored: Stored) -> None:
        self._ready.put(stored.sequence, -stored.priority)

    def _leave(self, stored: Stored) -> None:
        """Forget the life of a message, and make the next of its key ready if it was the head."""
        sequence, key = stored.sequence, stored.key
        if self._tokens.pop(sequence, None) is not None:
            self._ends.drop(sequence)
        self._attempts.pop(sequence, None)
        self._errors.pop(sequence, None)
        if key is not None:
            self._dues.pop(sequence, None)
            line = self._keys[key]
            head = next(iter(line)) == sequence
            del line[sequence]
            if not line:
                del self._keys[key]
            elif head:
                self._admit(self.at(next(iter(line))))


def first(found: Iterator[Stored], limit: int) -> list[Stored]:
    """Return the first messages of an iterator, before anything changes."""
    return list(islice(found, max(limit, 0)))
