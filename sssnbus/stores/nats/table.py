"""What a process knows of a queue: its messages without their bodies, and the state of each.

Pure bookkeeping: no time but what is handed in, nothing awaited. Two times are in use: *wall*, by which
messages become due, and *elapsed*, by which leases and delays end; on a server they are the same.

The state changes in one way only: by the entries of the queue's journal, applied in their order. Each change
says what it found, a revision or a token, and is void if that is not so any more. Every process that reads
the journal therefore comes to the same state, and nobody has to know what time it was.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sssnbus.stores.base import Counts, Selection, Standing, State
from sssnbus.stores.nats.agenda import Agenda
from sssnbus.stores.nats.change import ACK, CLAIM, DONE, EXTEND, GONE, TRIM, Change
from sssnbus.stores.nats.lines import Lines
from sssnbus.stores.nats.message import Facts
from sssnbus.stores.nats.row import Row


class Table:
    """The messages of one queue."""

    def __init__(self, is_dead: Callable[[str], bool]) -> None:
        """Make an empty one.

        Args:
            is_dead: Says whether an owner of leases is known to be gone.
        """
        self.rows: dict[int, Row] = {}
        self.ids: dict[str, int] = {}
        self.gone: dict[int, int] = {}
        """Removed, but perhaps still lying in the stream; with the entry that removed each."""
        self.floor = 0
        """Everything up to this sequence was trimmed."""
        self.reserved: set[int] = set()
        """Chosen by a claim of this process whose entry is on its way."""
        self.leased: set[int] = set()
        """Those with a token, whether or not its lease goes on."""
        self.done = 0
        self.unknown = 0
        self._is_dead = is_dead
        self._lines = Lines()
        self._agenda = Agenda(self.rows, self._lines, is_dead)

    @property
    def depth(self) -> int:
        """How many messages are not done."""
        return len(self.rows) - self.unknown - self.done

    # Messages

    def add(self, facts: Facts) -> None:
        """Take in a message of the stream."""
        sequence = facts.sequence
        if sequence in self.gone or sequence <= self.floor:
            return
        row = self.rows.get(sequence)
        if row is None:
            row = self.rows[sequence] = Row(sequence)
        elif row.facts is None:
            self.unknown -= 1
        else:
            return
        row.facts = facts
        self.ids[facts.id] = sequence
        if facts.done and not row.done:
            row.done = True
            self.done += 1
        if not row.done:
            self._lines.join(row)
        self._agenda.offer(row)

    def discard(self, row: Row, revision: int) -> None:
        """Forget a message."""
        sequence = row.sequence
        del self.rows[sequence]
        self.leased.discard(sequence)
        self.done -= row.done
        self.gone[sequence] = revision
        if row.facts is None:
            self.unknown -= 1
            return
        if self.ids.get(row.facts.id) == sequence:
            del self.ids[row.facts.id]
        self._leave_line(row)

    def forget_gone(self, revision: int) -> None:
        """Forget what entries up to this one removed: it has left the stream as well."""
        self.gone = {sequence: entry for sequence, entry in self.gone.items() if entry > revision}

    # Questions

    def held(self, row: Row, elapsed: float) -> bool:
        """Return whether somebody's lease on it goes on."""
        if row.token is None or (row.ends is not None and row.ends <= elapsed):
            return False
        return row.owner is None or not self._is_dead(row.owner)

    def good(self, sequence: int, token: str, elapsed: float) -> bool:
        """Return whether a token still holds a message."""
        row = self.rows.get(sequence)
        return row is not None and row.token == token and self.held(row, elapsed)

    def is_ready(self, row: Row, wall: float, elapsed: float) -> bool:
        """Return whether it could be handed out now."""
        return not self._is_early(row, wall, elapsed) and self._is_open(row, elapsed)

    def chosen(self, select: Selection | None) -> Iterator[Row]:
        """Yield the known messages that a selection means, oldest first, while nothing changes."""
        ids, after, before = select or Selection()
        if ids is None:
            rows = (self.rows[sequence] for sequence in sorted(self.rows))
        else:
            rows = (self.rows[n] for n in sorted({self.ids[id] for id in ids if id in self.ids}))
        for row in rows:
            facts = row.facts
            if facts is None:
                continue
            if (after is None or after < facts.id) and (before is None or facts.id < before):
                yield row

    def between(self, after: int, upto: int, limit: int) -> list[int]:
        """Return the first sequences of known messages in a stretch, whatever their state."""
        found = [n for n, row in self.rows.items() if after < n <= upto and row.facts is not None]
        return sorted(found)[:limit]

    def next_to(self, sequence: int, count: int, size: int) -> list[int]:
        """Return messages right behind one that a claim could get next, within a number and a size."""
        found: list[int] = []
        for number in range(sequence + 1, sequence + 1 + count):
            row = self.rows.get(number)
            if row is None or row.facts is None or row.token is not None or number in self.reserved:
                continue
            size -= row.facts.size
            if size < 0:
                break
            found.append(number)
        return found

    def pick(self, limit: int, select: Selection | None, wall: float, elapsed: float) -> list[Row]:
        """Return and reserve what a claim shall get: highest priority first, then oldest first."""
        self._agenda.refresh(wall, elapsed)
        picked: list[Row] = []
        if select is not None:
            found = [
                row
                for row in self.chosen(select)
                if row.sequence not in self.reserved and self.is_ready(row, wall, elapsed)
            ]
            found.sort(key=_rank)
            picked = found[: max(limit, 0)]
            self.reserved.update(row.sequence for row in picked)
            return picked
        while len(picked) < limit and (sequence := self._agenda.next()) is not None:
            row = self.rows.get(sequence)
            if row is None or row.sequence in self.reserved or not self.is_ready(row, wall, elapsed):
                # Whatever makes it ready offers it again.
                continue
            self.reserved.add(row.sequence)
            picked.append(row)
        return picked

    def unreserve(self, rows: Sequence[Row]) -> None:
        """Let go of what was picked; what is ready still can be picked again."""
        for row in rows:
            self.reserved.discard(row.sequence)
            if self.rows.get(row.sequence) is row:
                self._agenda.offer(row)

    def next_due(self, wall: float, elapsed: float) -> float | None:
        """Return the seconds until something becomes ready by time alone."""
        self._agenda.refresh(wall, elapsed)
        return self._agenda.next_due(wall, elapsed)

    def counts(self, wall: float, elapsed: float) -> Counts:
        """Return how many messages are in each state."""
        delayed = leased = 0
        for row in self.rows.values():
            if row.facts is None or row.done:
                continue
            if row.token is not None and self.held(row, elapsed):
                leased += 1
            elif self._is_early(row, wall, elapsed) and self._lines.is_head(row):
                delayed += 1
        return Counts(self.depth - delayed - leased, delayed, leased, self.done)

    def standing(self, sequence: int, wall: float, elapsed: float) -> Standing | None:
        """Return how a message stands; its times are wall time for a delay, elapsed time for a lease."""
        row = self.rows.get(sequence)
        if row is None or row.facts is None:
            return None
        if row.done:
            return Standing(State.DONE)
        if self.held(row, elapsed):
            return Standing(State.LEASED, row.attempts, None, row.last_error, row.token, row.ends)
        due = None
        if self._is_early(row, wall, elapsed):
            due = row.due if row.due is not None else wall + (row.rest or 0.0) - elapsed
        # Behind the head of its key it counts as ready, whatever its own delay.
        state = State.DELAYED if due is not None and self._lines.is_head(row) else State.READY
        return Standing(state, row.attempts, due, row.last_error)

    def foreign_owners(self, own: str) -> set[str]:
        """Return who else renews leases here."""
        owners = {self.rows[sequence].owner for sequence in self.leased}
        return {owner for owner in owners if owner is not None and owner != own}

    def offer_all(self, owner: str) -> None:
        """See what an owner held, who is known to be gone now, as ready."""
        for sequence in self.leased:
            if self.rows[sequence].owner == owner:
                self._agenda.offer(self.rows[sequence])

    # Changes

    def apply(self, change: Change, revision: int) -> int:
        """Make one change of an entry; return how much it changed, 0 if it is void."""
        kind = change[0]
        if kind == TRIM:
            self.floor = max(self.floor, change[1])
            return self._remove([row for row in self.rows.values() if row.sequence <= change[1]], revision)
        sequence = change[1]
        row = self.rows.get(sequence)
        if row is None:
            if sequence in self.gone or kind not in (CLAIM, GONE) or change[2]:
                return 0
            # Told before the message itself was met.
            row = self.rows[sequence] = Row(sequence)
            self.unknown += 1
        if kind == GONE:
            if change[2] is not None and change[2] != row.revision:
                return 0
            self.discard(row, revision)
            return 1
        if kind == CLAIM:
            if change[2] != row.revision or row.done:
                return 0
            row.token, row.owner, row.ends = change[3], change[5], change[6]
            row.attempt += 1
            row.rest, row.started = None, True
            self.leased.add(sequence)
        else:
            if row.token is None or row.token != change[2]:
                return 0
            if not self._end(row, change, revision):
                return 1
        row.revision = revision
        self._agenda.offer(row)
        return 1

    def _end(self, row: Row, change: Change, revision: int) -> bool:
        """Make a change that needed a token; return whether the message is still there."""
        kind = change[0]
        if kind == EXTEND:
            row.owner, row.ends = None, change[3]
            return True
        if kind == ACK:
            self.discard(row, revision)
            return False
        row.token = row.owner = row.ends = None
        self.leased.discard(row.sequence)
        if kind == DONE:
            row.done = True
            self.done += 1
            row.attempt, row.error = 0, None
            self._leave_line(row)
        else:
            row.rest = change[3]
            row.attempt -= not change[4]
            row.error = change[5] or row.error
        return True

    def _leave_line(self, row: Row) -> None:
        """Let the next one of its key come."""
        head = self._lines.leave(row)
        if head is not None:
            self._agenda.offer(self.rows[head])

    def _remove(self, rows: list[Row], revision: int) -> int:
        count = sum(row.facts is not None for row in rows)
        for row in rows:
            self.discard(row, revision)
        return count

    # Snapshots

    def snapshot(self) -> list[Any]:
        """Return what the messages alone do not tell."""
        rows = [
            [
                row.sequence, row.revision, row.attempt, row.error, row.token, row.owner, row.ends, row.rest,
                int(row.started),
            ]
            for row in self.rows.values()
            if row.revision and not row.done
        ]  # fmt: skip
        done = [[row.sequence, row.revision] for row in self.rows.values() if row.done]
        return [rows, done, spans(self.gone), self.floor]

    def restore(
        self, rows: list[Any], done: list[Any], gone: list[list[int]], floor: int, revision: int
    ) -> None:
        """Take over a snapshot: messages that it does not name are as they came."""
        known = [row.facts for row in self.rows.values() if row.facts is not None]
        self.rows.clear()
        self.ids.clear()
        self._lines.clear()
        self.gone = {sequence: revision for first, last in gone for sequence in range(first, last + 1)}
        self.floor = floor
        self.done = self.unknown = 0
        self._agenda.clear()
        for sequence, revision, attempt, error, token, owner, ends, rest, started in rows:
            self.rows[sequence] = Row(
                sequence, None, revision, attempt, error, token, owner, ends, rest, bool(started)
            )
        for sequence, revision in done:
            self.rows[sequence] = Row(sequence, None, revision, started=True, done=True)
        self.leased = {sequence for sequence, row in self.rows.items() if row.token is not None}
        self.done = len(done)
        self.unknown = len(self.rows)
        for facts in sorted(known, key=lambda facts: facts.sequence):
            self.add(facts)

    # Inside

    def _is_open(self, row: Row, elapsed: float) -> bool:
        return (
            row.facts is not None
            and not row.done
            and not self.held(row, elapsed)
            and self._lines.is_head(row)
        )

    def _is_early(self, row: Row, wall: float, elapsed: float) -> bool:
        due, rest = row.due, row.rest
        return (due is not None and due > wall) or (rest is not None and rest > elapsed)


def _rank(row: Row) -> tuple[int, int]:
    assert row.facts is not None
    return -row.facts.priority, row.sequence


def spans(numbers: Iterable[int]) -> list[list[int]]:
    """Return numbers as stretches, first and last included."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
