"""What a store should do, in lists and loops so plain that they can be believed at sight."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sssnbus.stored import Draft
from sssnbus.stores.base import DEAD, Ack, Bury, Counts, Kind, Placed, Selection, Settlement, State


@dataclass
class Row:
    """One message."""

    draft: Draft
    id: str
    sequence: int
    at: float
    due: float | None = None
    attempt: int = 0
    error: str | None = None
    token: str | None = None
    ends: float | None = None
    done: bool = False


@dataclass
class ModelLog:
    """One log."""

    kind: Kind
    rows: list[Row] = field(default_factory=list)
    last: int = 0
    floor: int = 0


class Refused(Exception):
    """The store should raise ``MessageConflict`` or ``QueueFull`` and change nothing."""


class Model:
    """All logs, and a time that its user sets; dues and ends are on that time."""

    def __init__(self) -> None:
        self.logs: dict[str, ModelLog] = {}
        self.now = 0.0

    def declare(self, name: str, kind: Kind) -> None:
        self.logs[name] = ModelLog(kind)
        self.logs[name + DEAD] = ModelLog(Kind.LOG)

    def append(self, drafts: Sequence[Draft], delay: float | None, depth: int | None) -> list[Row | Placed]:
        """Return a row that waits for its made id, or the place of the first one, for each draft."""
        result: list[Row | Placed] = []
        added: list[Row] = []
        for draft in drafts:
            log = self.logs[draft.channel]
            same = next((row for row in log.rows + added if row.id == draft.id), None)
            if same is not None:
                if same.draft.body != draft.body:
                    raise Refused
                result.append(Placed(same.id, same.sequence, True))
            else:
                due = None if delay is None else self.now + delay
                row = Row(draft, draft.id or "", log.last + len(added) + 1, self.now, due)
                added.append(row)
                result.append(row)
        for log in {id(log): log for log in (self.logs[draft.channel] for draft in drafts)}.values():
            waiting = sum(not row.done for row in log.rows)
            if added and depth is not None and waiting + len(added) > depth:
                raise Refused
            log.rows += added
            log.last += len(added)
        return result

    def read(self, name: str, after: int, upto: int, topics: Sequence[Sequence[str]]) -> list[Row]:
        """Return the rows of a stretch, with patterns, given as their words, those that fit one of them."""
        rows = [row for row in self.logs[name].rows if after < row.sequence <= upto]
        if not topics:
            return rows
        return [
            row
            for row in rows
            if row.draft.topic and any(_fits(words, row.draft.topic.split(".")) for words in topics)
        ]

    def discard(self, name: str, rows: Sequence[Row]) -> None:
        log = self.logs[name]
        log.rows = [row for row in log.rows if row not in rows]

    def trim(self, name: str, upto: int | None, before: float | None, count: int | None) -> int:
        log = self.logs[name]
        there = len(log.rows)
        while log.rows and (
            (upto is not None and log.rows[0].sequence <= upto)
            or (before is not None and log.rows[0].at < before)
            or (count is not None and len(log.rows) > count)
        ):
            log.floor = log.rows.pop(0).sequence
        if upto is not None:
            log.floor = max(log.floor, min(upto, log.last))
        return there - len(log.rows)

    def refresh(self) -> None:
        """Let the time have its effects."""
        for log in self.logs.values():
            for row in log.rows:
                if row.ends is not None and row.ends <= self.now:
                    row.token = row.ends = None

    def is_head(self, name: str, row: Row) -> bool:
        key = row.draft.key
        line = [other for other in self.logs[name].rows if other.draft.key == key and not other.done]
        return key is None or line[0] is row

    def is_ready(self, name: str, row: Row) -> bool:
        late = row.due is None or row.due <= self.now
        return row.token is None and not row.done and late and self.is_head(name, row)

    def is_delayed(self, name: str, row: Row) -> bool:
        early = row.due is not None and row.due > self.now
        return row.token is None and not row.done and early and self.is_head(name, row)

    def ready(self, name: str, select: Selection | None = None) -> list[Row]:
        return [row for row in _chosen(self.logs[name].rows, select) if self.is_ready(name, row)]

    def claim(self, name: str, limit: int, select: Selection | None) -> list[Row]:
        """Return the rows that are handed out next; the caller gives them their tokens."""
        rows = sorted(self.ready(name, select), key=lambda row: (-row.draft.priority, row.sequence))
        for row in rows[:limit]:
            row.attempt += 1
        return rows[:limit]

    def next_due(self, name: str) -> float | None:
        times = [
            row.ends if row.token else row.due
            for row in self.logs[name].rows
            if row.token or self.is_delayed(name, row)
        ]
        return min((time - self.now for time in times if time is not None), default=None)

    def counts(self, name: str) -> Counts:
        rows = self.logs[name].rows
        delayed = sum(self.is_delayed(name, row) for row in rows)
        leased = sum(row.token is not None for row in rows)
        done = sum(row.done for row in rows)
        return Counts(len(rows) - delayed - leased - done, delayed, leased, done)

    def state(self, name: str, row: Row) -> State:
        if row.done:
            return State.DONE
        if row.token is not None:
            return State.LEASED
        return State.DELAYED if self.is_delayed(name, row) else State.READY

    def held(self, name: str, sequence: int, token: str) -> Row | None:
        rows = self.logs[name].rows
        return next((row for row in rows if row.sequence == sequence and row.token == token), None)

    def settle(self, name: str, settlement: Settlement) -> bool:
        row = self.held(name, settlement.sequence, settlement.token)
        if row is None:
            return False
        row.token = row.ends = row.due = None
        if isinstance(settlement, Ack) and settlement.keep:
            row.done = True
        elif isinstance(settlement, Ack):
            self.discard(name, [row])
        elif isinstance(settlement, Bury):
            self.discard(name, [row])
            dead = self.logs[name + DEAD]
            dead.rows = [other for other in dead.rows if other.id != row.id]
            self._put(name + DEAD, row)
        else:
            row.attempt -= not settlement.counted
            row.error = settlement.error or row.error
            row.due = self.now + settlement.delay if settlement.delay else None
        return True

    def transfer(self, source: str, target: str, limit: int, select: Selection | None) -> list[Row]:
        if self.logs[source].kind is Kind.LOG:
            rows = list(_chosen(self.logs[source].rows, select))
        else:
            rows = [
                row
                for row in _chosen(self.logs[source].rows, select)
                if self.is_ready(source, row) or (row.done and select is not None and select.ids is not None)
            ]
        there = {row.id: row for row in self.logs[target].rows}
        rows = rows[:limit]
        if any(row.id in there and there[row.id].draft.body != row.draft.body for row in rows):
            raise Refused
        self.discard(source, rows)
        return [there.get(row.id) or self._put(target, row) for row in rows]

    def _put(self, name: str, row: Row) -> Row:
        log = self.logs[name]
        log.last += 1
        log.rows.append(Row(row.draft, row.id, log.last, self.now))
        return log.rows[-1]


def _fits(pattern: Sequence[str], topic: Sequence[str]) -> bool:
    if not pattern or not topic:
        return not pattern and not topic
    if pattern[0] == ">":
        return any(_fits(pattern[1:], topic[count:]) for count in range(1, len(topic) + 1))
    return pattern[0] in ("*", topic[0]) and _fits(pattern[1:], topic[1:])


def _chosen(rows: Sequence[Row], select: Selection | None) -> Iterator[Row]:
    for row in rows:
        if select is None or (
            (select.ids is None or row.id in select.ids)
            and (select.after is None or row.id > select.after)
            and (select.before is None or row.id < select.before)
        ):
            yield row
