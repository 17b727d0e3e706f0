"""Random work on a store and on the plain model beside it. It needs Hypothesis."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sssnbus.errors import MessageConflict, QueueFull
from sssnbus.stored import Stored
from sssnbus.stores.base import DEAD, Ack, Bury, Kind, Record, Release, Selection, Settlement, State
from sssnbus.testing.bench import Bench, StoreFactory, draft
from sssnbus.testing.model import Model, Refused, Row
from sssnbus.topics import Pattern

T = TypeVar("T")

QUEUES = ("q", "r")
LOGS = ("a", "q", "r", "q" + DEAD)

some_topics = st.sampled_from([None, "a", "a.b", "a.b.c", "b"])
some_patterns = st.sampled_from(["a", "a.*", "a.>", "*.b", ">", "b", "c"]).map(Pattern.parse)
some_ids = st.sampled_from([None, None, None, "x", "y"])
keys = st.sampled_from([None, None, "k", "l"])
# Everything that ends by time ends at a half second, and the clock moves by whole ones: whether an end
# belongs to the lease is not promised.
spans = st.integers(0, 40).map(lambda number: number + 0.5)


def store_machine(
    place: Callable[[], AbstractContextManager[StoreFactory]], *, shared: bool = False, renewed: bool = True
) -> type[RuleBasedStateMachine]:
    """Return a state machine that puts a store to random work and compares it with a plain model.

    In a test file of your own::

        TestModel = store_machine(lambda: nullcontext(MyStore)).TestCase

    Args:
        place: Makes a factory for one run; left when the run is over.
        shared: True if the stores that one factory makes stand on one place; then runs include
            closing and reopening.
        renewed: False if the store renews leases by the clock of the machine and not by the one it
            was given; then all leases end by time.
    """
    members = {"place": staticmethod(place), "shared": shared, "renewed": renewed}
    return type("StoreMachine", (_StoreMachine,), members)


class _StoreMachine(RuleBasedStateMachine):
    place: Callable[[], AbstractContextManager[StoreFactory]]
    shared: bool
    renewed: bool

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.holds: list[tuple[str, int, str, str]] = []
        self.records: dict[str, Record] = {}
        self.ids: list[str] = ["0" * 19]
        self._runner = asyncio.Runner()
        self._place = self.place()
        self.bench = Bench(self._place.__enter__())
        self.run(self.bench.__aenter__())

    def teardown(self) -> None:
        self.run(self.bench.__aexit__())
        self._runner.close()
        self._place.__exit__(None, None, None)

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self._runner.run(work)

    @initialize()
    def declare(self) -> None:
        for name, kind in (("a", Kind.LOG), ("q", Kind.QUEUE), ("r", Kind.QUEUE)):
            self.run(self.bench.store.declare(name, kind))
            self.model.declare(name, kind)

    @rule(
        log=st.sampled_from(["a", "q", "q", "r"]),
        ids=st.lists(some_ids, min_size=1, max_size=3),
        value=st.integers(0, 1),
        priority=st.integers(-1, 1),
        key=keys,
        delay=st.none() | st.none() | st.none() | spans,
        depth=st.sampled_from([None, None, 8]),
        topic=some_topics,
    )
    def append(
        self, log: str, ids: list[str | None], value: int, priority: int, key: str | None,
        delay: float | None, depth: int | None, topic: str | None,
    ) -> None:  # fmt: skip
        due = None if delay is None else self.bench.clock.time() + delay
        plain = draft(log, value, priority=priority, key=key, due=due)
        drafts = [plain._replace(id=id, topic=topic) for id in ids]
        limits = {log: depth} if depth and log in QUEUES else {}
        work = self.bench.store.append(drafts, max_depth=limits)
        try:
            expected = self.model.append(drafts, delay, depth if limits else None)
        except Refused:
            self.refused(work)
            return
        for place, row in zip(self.run(work), expected, strict=True):
            if isinstance(row, Row):
                assert not place.duplicate
                assert place.sequence == row.sequence
                if row.draft.id is None:
                    assert place.id > max(self.ids, key=len), "made ids rise"
                    self.ids = [place.id]
                row.id = place.id
            else:
                assert place == row

    @rule(
        log=st.sampled_from(LOGS),
        after=st.integers(0, 12),
        limit=st.integers(0, 4),
        upto=st.none() | st.integers(0, 12),
        topics=st.lists(some_patterns, max_size=2),
    )
    def read(self, log: str, after: int, limit: int, upto: int | None, topics: list[Pattern]) -> None:
        its, words = self.model.logs[log], [pattern.words for pattern in topics]
        page = self.run(self.bench.store.read(log, after=after, limit=limit, upto=upto, topics=topics))
        end = max(after, its.last if upto is None else min(upto, its.last))
        expected = self.model.read(log, after, end, words)
        assert page.messages == [_stored(row) for row in expected if row.sequence <= page.reach]
        assert (page.floor, page.last) == (its.floor, its.last)
        if len(page.messages) < limit and not topics:
            assert page.reach == end
        elif len(page.messages) < limit:
            assert after < page.reach <= end or page.reach == end
        else:
            assert page.reach == (page.messages[-1].sequence if page.messages else after)

    @rule(
        queue=st.sampled_from(["q", "q", "r"]),
        limit=st.integers(1, 4),
        span=spans,
        renew=st.booleans(),
        data=st.data(),
    )
    def claim(self, queue: str, limit: int, span: float, renew: bool, data: st.DataObject) -> None:
        renew = renew and self.renewed
        select = data.draw(self.selections(queue))
        expected = self.model.claim(queue, limit, select)
        work = self.bench.store.claim(queue, worker="w", lease=span, limit=limit, select=select, renew=renew)
        claimed = self.run(work)
        assert [lease.stored for lease in claimed.leases] == [_stored(row) for row in expected]
        for lease, row in zip(claimed.leases, expected, strict=True):
            assert (lease.attempt, lease.error) == (row.attempt, row.error)
            row.token, row.ends = lease.token, None if renew else self.model.now + span
            row.due = None
            self.holds.append((queue, row.sequence, lease.token, row.id))
        due = self.model.next_due(queue)
        if all(row.ends is not None for row in self.model.logs[queue].rows if row.token):
            assert (claimed.next_due is None) == (due is None)
            assert abs((claimed.next_due or 0.0) - (due or 0.0)) < 0.01

    # Each way to settle is a rule of its own, so that all come often enough to be followed by claims.

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), keep=st.booleans())
    def ack(self, data: st.DataObject, keep: bool) -> None:
        queue, sequence, token, _ = self.some_hold(data)
        self.settle(queue, Ack(sequence, token, keep))

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), counted=st.booleans(), error=st.sampled_from([None, "boom"]))
    def release(self, data: st.DataObject, counted: bool, error: str | None) -> None:
        queue, sequence, token, _ = self.some_hold(data)
        self.settle(queue, Release(sequence, token, 0.0, counted, error))

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), delay=spans, counted=st.booleans())
    def back_off(self, data: st.DataObject, delay: float, counted: bool) -> None:
        queue, sequence, token, _ = self.some_hold(data)
        self.settle(queue, Release(sequence, token, delay, counted, "later"))

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def bury(self, data: st.DataObject) -> None:
        queue, sequence, token, id = self.some_hold(data)
        held = self.model.held(queue, sequence, token)
        letter = held.draft if held else draft(queue, 0)
        self.settle(queue, Bury(sequence, token, letter._replace(channel=queue + DEAD, id=id)))

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), span=spans)
    def extend(self, data: st.DataObject, span: float) -> None:
        queue, sequence, token, _ = self.some_hold(data)
        row = self.model.held(queue, sequence, token)
        good = self.run(self.bench.store.extend(queue, [(sequence, token)], span))
        assert good == [row is not None]
        if row is not None:
            row.ends = self.model.now + span

    @rule(ends=st.permutations(LOGS), limit=st.integers(0, 5), data=st.data())
    def transfer(self, ends: list[str], limit: int, data: st.DataObject) -> None:
        source, target = ends[:2]
        select = data.draw(self.selections(source))
        work = self.bench.store.transfer(source, target, limit=limit, select=select)
        try:
            expected = self.model.transfer(source, target, limit, select)
        except Refused:
            self.refused(work)
            return
        assert self.run(work) == [_stored(row) for row in expected]

    @rule(queue=st.sampled_from(QUEUES), data=st.data())
    def peek(self, queue: str, data: st.DataObject) -> None:
        select = data.draw(self.selections(queue))
        shown = self.run(self.bench.store.peek(queue, limit=3, select=select))
        assert shown == [_stored(row) for row in self.model.ready(queue, select)[:3]]

    @rule(log=st.sampled_from(LOGS), data=st.data())
    def remove(self, log: str, data: st.DataObject) -> None:
        rows = self.model.logs[log].rows
        some = data.draw(st.lists(st.sampled_from(rows), max_size=2)) if rows else []
        gone = list({row.id: row for row in some}.values())
        assert self.run(self.bench.store.remove(log, [row.id for row in gone])) == len(gone)
        self.model.discard(log, gone)

    @rule(
        log=st.sampled_from(LOGS),
        back=st.none() | st.integers(0, 5),
        age=st.none() | st.none() | spans,
        count=st.none() | st.integers(0, 5),
    )
    def trim(self, log: str, back: int | None, age: float | None, count: int | None) -> None:
        upto = None if back is None else self.model.logs[log].last - back
        older = None if age is None else self.bench.clock.time() - age
        gone = self.run(self.bench.store.trim(log, upto=upto, older_than=older, max_count=count))
        assert gone == self.model.trim(log, upto, None if age is None else self.model.now - age, count)

    @rule()
    def vacuum(self) -> None:
        done = {name: [row for row in self.model.logs[name].rows if row.done] for name in QUEUES}
        assert self.run(self.bench.store.vacuum()) == sum(map(len, done.values()))
        for name, rows in done.items():
            self.model.discard(name, rows)

    @rule(seconds=st.integers(1, 30))
    def advance(self, seconds: int) -> None:
        self.bench.clock.advance(seconds)
        self.model.now += seconds
        self.model.refresh()

    @rule(name=st.sampled_from("xy"), value=st.binary(max_size=3), stale=st.booleans())
    def put(self, name: str, value: bytes, stale: bool) -> None:
        known = self.records.get(name)
        version = None if known is None or stale else known.version
        new = self.run(self.bench.store.put("s", name, value, version=version))
        assert (new is not None) == (version == (known.version if known else None))
        if new is not None:
            self.records[name] = Record(value, new)

    @rule(name=st.sampled_from("xy"))
    def delete(self, name: str) -> None:
        assert self.run(self.bench.store.delete("s", name)) == (self.records.pop(name, None) is not None)

    @precondition(lambda self: self.shared and self.model.logs["q"].last)
    @rule()
    def reopen(self) -> None:
        self.run(self.bench.reopen())
        for log in self.model.logs.values():
            for row in log.rows:
                if row.token is not None and row.ends is None:
                    # Given back as if it had never been handed out.
                    row.token = None
                    row.attempt -= 1

    @invariant()
    def same_everywhere(self) -> None:
        for name, log in self.model.logs.items():
            page = self.run(self.bench.store.read(name, after=0, limit=1000))
            assert page.messages == [_stored(row) for row in log.rows]
            assert (page.floor, page.last) == (log.floor, log.last)
        for name in QUEUES:
            if name in self.model.logs:
                assert self.run(self.bench.store.counts(name)) == self.model.counts(name)
                self.stand_alike(name)
        assert self.run(self.bench.store.names("s")) == self.records

    def stand_alike(self, queue: str) -> None:
        rows = {row.sequence: row for row in self.model.logs[queue].rows}
        told = self.run(self.bench.store.standing(queue, [*rows, 10**6]))
        assert told.keys() == rows.keys()
        for sequence, standing in told.items():
            row = rows[sequence]
            assert standing.state is self.model.state(queue, row)
            assert standing.token == row.token
            if not row.done:
                assert (standing.attempt, standing.error) == (row.attempt, row.error)
            if standing.state is State.DELAYED:
                ahead = self.bench.clock.time() - self.model.now
                assert abs((standing.due or 0.0) - (row.due or 0.0) - ahead) < 0.01

    def some_hold(self, data: st.DataObject) -> tuple[str, int, str, str]:
        """Return a lease from before, good or stale."""
        return data.draw(st.sampled_from(self.holds[-6:]))

    def settle(self, queue: str, settlement: Settlement) -> None:
        assert self.run(self.bench.store.settle(queue, [settlement])) == [
            self.model.settle(queue, settlement)
        ]

    def selections(self, log: str) -> st.SearchStrategy[Selection | None]:
        ids = [row.id for row in self.model.logs[log].rows] or ["unknown"]
        bounds = st.none() | st.sampled_from(ids)
        some = st.lists(st.sampled_from(ids), max_size=3).map(tuple)
        return st.none() | st.none() | st.none() | st.builds(Selection, st.none() | some, bounds, bounds)

    def refused(self, work: Coroutine[object, object, object]) -> None:
        try:
            self.run(work)
        except (MessageConflict, QueueFull):
            return
        raise AssertionError("the store should have refused this")


def _stored(row: Row) -> Stored:
    sent = row.draft
    return Stored(
        row.id,
        row.sequence,
        sent.timestamp,
        sent.sender_id,
        sent.topic,
        sent.type,
        sent.headers,
        sent.body,
        sent.crc,
        sent.priority,
        sent.key,
    )
