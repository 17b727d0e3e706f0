"""The store that keeps messages in the memory of one process."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Final
from weakref import WeakValueDictionary

from sssnbus.clock import Clock, SystemClock
from sssnbus.errors import (
    ChannelKindMismatch,
    ClosedError,
    ForkedProcess,
    NotStarted,
    StateError,
    WrongLoop,
)
from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import (
    DEAD,
    Ack,
    AtomicBatch,
    AtomicMove,
    ByID,
    Catalogue,
    Counts,
    Delay,
    Fencing,
    Kind,
    Leases,
    LogInfo,
    OrderedIDs,
    OrderingKey,
    Page,
    Placed,
    Portable,
    Priority,
    QueueStore,
    Record,
    Records,
    Release,
    Selection,
    SelectiveClaim,
    Settlement,
    Standing,
    Usage,
)
from sssnbus.stores.memory.append import check_same, declared, plan_append
from sssnbus.stores.memory.log import Log
from sssnbus.stores.memory.queue import Queue, first
from sssnbus.topics import Pattern

_COUNTER: Final = 0xFFF
"""The low bits of an id, which count within 4096 nanoseconds."""

_FIRST_ID: Final = 10**18
"""The lowest number of 19 digits: a clock that is far behind still makes whole ids."""

_open_stores: WeakValueDictionary[str, "MemoryStore"] = WeakValueDictionary()


class MemoryStore(
    QueueStore, ByID, Catalogue, Records, Portable,
    OrderedIDs, AtomicBatch, AtomicMove, SelectiveClaim, Priority, Delay, OrderingKey, Fencing,
):  # fmt: skip
    """Messages in the memory of one process: everything a store can do, and gone when it is closed.

    No verb suspends, so each is atomic, and cancelling one comes too early or too late. A lease that the
    store renews ends by settling only: its owner cannot die without the store. It has no wake-ups, since
    nobody but the users of this object can change anything.
    """

    url = "memory://"
    durability = "none"
    promise = "nothing: it ends with the process"

    def __init__(self, *, clock: Clock | None = None) -> None:
        """Make an empty store; it is used after ``open``.

        Args:
            clock: Where the time comes from; the machine's by default.
        """
        self.owner = f"{os.getpid()}-{token_hex(8)}"
        self._clock = clock or SystemClock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closed = False
        self._logs: dict[str, Log] = {}
        self._records: dict[tuple[str, str], Record] = {}
        self._id = _FIRST_ID - 1
        self._at = 0.0
        self._count = 0

    async def open(self) -> None:
        if self._closed:
            raise ClosedError(f"Store {self.url}")
        if self._loop is None:
            self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
            _open_stores[self.owner] = self
        self._guard()

    async def aclose(self, grace: float = 5.0) -> None:
        _open_stores.pop(self.owner, None)
        self._closed, self._loop = True, None
        self._logs, self._records = {}, {}

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        max_depth: Mapping[str, int] | None = None,
        timeout: float | None = None,
    ) -> list[Placed]:
        self._guard()
        self._at = at = max(self._at, self._clock.time())
        if len(drafts) == 1 and not max_depth:
            draft = drafts[0]
            if draft.id is None and draft.dedupe is None:
                # This is the way of nearly every message, so it makes no plan.
                log = self._logs.get(draft.channel) or declared(self._logs, draft.channel)
                id = self._new_id(log, at)
                return [Placed(id, log.put(id, draft, at).sequence)]
        plan = plan_append(self._logs, drafts, max_depth or {}, self._clock.elapsed())
        result: list[Placed] = []
        for draft, there in zip(drafts, plan, strict=True):
            if there is None:
                result.append(self._put(self._logs[draft.channel], draft, at))
            elif isinstance(there, int):
                result.append(result[there]._replace(duplicate=True))
            else:
                result.append(there)
        return result

    async def read(
        self, log: str, *, after: int, limit: int, upto: int | None = None, topics: Sequence[Pattern] = ()
    ) -> Page:
        self._guard()
        there = self._logs.get(log)
        if there is None:
            return Page([], 0, 0, max(after, 0))
        return there.page(after, limit, upto, topics)

    async def last(self, logs: Sequence[str]) -> dict[str, int]:
        self._guard()
        return {name: log.last if (log := self._logs.get(name)) else 0 for name in logs}

    async def locate(self, log: str, time: float) -> int:
        self._guard()
        there = self._logs.get(log)
        return there.before(time) if there else 0

    async def trim(
        self,
        log: str,
        *,
        upto: int | None = None,
        older_than: float | None = None,
        max_count: int | None = None,
        max_bytes: int | None = None,
    ) -> int:
        self._guard()
        there = self._logs.get(log)
        return there.trim(upto, older_than, max_count, max_bytes) if there else 0

    async def remove(self, log: str, ids: Sequence[str]) -> int:
        self._guard()
        there = self._logs.get(log)
        if there is None:
            return 0
        found = list(there.chosen(Selection(tuple(ids))))
        for stored in found:
            there.discard(stored)
        return len(found)

    async def find(self, log: str, id: str) -> Stored | None:
        self._guard()
        there = self._logs.get(log)
        return there.get(id) if there else None

    async def claim(
        self,
        log: str,
        *,
        worker: str,
        lease: float,
        limit: int = 1,
        select: Selection | None = None,
        renew: bool = True,
    ) -> Leases:
        self._guard()
        queue = self._queue(log)
        if queue is None:
            return Leases([], None)
        time, elapsed = self._clock.time(), self._clock.elapsed()
        queue.refresh(time, elapsed)
        leases = [
            queue.lease(stored, self._token(), elapsed + lease, renew)
            for stored in queue.claim(limit, select)
        ]
        return Leases(leases, queue.next_due(time, elapsed))

    async def settle(self, log: str, settlements: Sequence[Settlement]) -> list[bool]:
        self._guard()
        queue = self._fresh(log)
        if queue is None:
            return [False] * len(settlements)
        return [self._settle(queue, settlement) for settlement in settlements]

    async def extend(self, log: str, holds: Sequence[tuple[int, str]], lease: float) -> list[bool]:
        self._guard()
        queue = self._fresh(log)
        if queue is None:
            return [False] * len(holds)
        deadline = self._clock.elapsed() + lease
        good = [queue.held(sequence, token) for sequence, token in holds]
        for (sequence, _), held in zip(holds, good, strict=True):
            if held:
                queue.extend(sequence, deadline)
        return good

    async def peek(self, log: str, *, limit: int, select: Selection | None = None) -> list[Stored]:
        self._guard()
        queue = self._fresh(log)
        return first(queue.peek(select), limit) if queue else []

    async def standing(self, log: str, sequences: Sequence[int]) -> dict[int, Standing]:
        self._guard()
        queue = self._fresh(log)
        if queue is None:
            return {}
        ahead = self._clock.time() - self._clock.elapsed()
        return {n: standing for n in sequences if (standing := queue.standing(n, ahead)) is not None}

    async def transfer(
        self, source: str, target: str, *, limit: int, select: Selection | None = None
    ) -> list[Stored]:
        self._guard()
        there, origin = declared(self._logs, target), self._logs.get(source)
        if isinstance(origin, Queue):
            self._fresh(source)
        moving = first(origin.movable(select), limit) if origin else []
        for stored in moving:
            if (same := there.get(stored.id)) is not None:
                check_same(target, same, stored)
        self._at = max(self._at, self._clock.time())
        moved: list[Stored] = []
        for stored in moving:
            assert origin is not None
            origin.discard(stored)
            moved.append(there.get(stored.id) or there.put(stored.id, _as_draft(target, stored), self._at))
        return moved

    async def declare(self, log: str, kind: Kind) -> Kind:
        self._guard()
        if log not in self._logs:
            self._logs[log] = Queue(log) if kind is Kind.QUEUE else Log(log)
            if "!" not in log:
                self._logs.setdefault(log + DEAD, Log(log + DEAD))
        return self._logs[log].kind

    async def logs(self, prefix: str = "") -> list[LogInfo]:
        self._guard()
        return [
            self._logs[name].info()
            for name in sorted(self._logs)
            if name.startswith(prefix) and ("!" in prefix or "!" not in name)
        ]

    async def counts(self, log: str) -> Counts:
        self._guard()
        queue = self._fresh(log)
        return queue.counts() if queue else Counts()

    async def drop(self, log: str) -> None:
        self._guard()
        self._logs.pop(log, None)
        if "!" not in log:
            self._logs.pop(log + DEAD, None)
        elif log.removesuffix(DEAD) in self._logs:
            self._logs[log] = Log(log)

    async def vacuum(self, log: str | None = None, *, compact: bool = False) -> int:
        self._guard()
        chosen = self._logs.values() if log is None else filter(None, [self._logs.get(log)])
        return sum(queue.vacuum() for queue in chosen if isinstance(queue, Queue))

    async def usage(self) -> Usage:
        self._guard()
        last = None if self._id < _FIRST_ID else str(self._id)
        return Usage(last, sum(log.size for log in self._logs.values()))

    async def get(self, space: str, name: str) -> Record | None:
        self._guard()
        return self._records.get((space, name))

    async def put(self, space: str, name: str, value: bytes, *, version: int | None) -> int | None:
        self._guard()
        record = self._records.get((space, name))
        if (record.version if record else None) != version:
            return None
        # One count for the whole store: a version is not reused when a value is deleted and made anew.
        self._count += 1
        self._records[space, name] = Record(value, self._count)
        return self._count

    async def delete(self, space: str, name: str) -> bool:
        self._guard()
        return self._records.pop((space, name), None) is not None

    async def names(self, space: str) -> dict[str, Record]:
        self._guard()
        return {name: record for (its, name), record in self._records.items() if its == space}

    async def spaces(self) -> list[str]:
        self._guard()
        return sorted({space for space, _ in self._records})

    async def restore(self, log: str, items: Sequence[tuple[Draft, Standing]]) -> list[Placed]:
        self._guard()
        queue = self._queue(log)
        placed = await self.append([draft for draft, _ in items])
        assert queue is not None, "append has found it"
        for place, (_, standing) in zip(placed, items, strict=True):
            if not place.duplicate:
                queue.restore(queue.at(place.sequence), standing)
        return placed

    async def alive(self, owner: str) -> bool:
        self._guard()
        return owner in _open_stores

    def _guard(self) -> None:
        # In a forked child the running loop is never the one that opened the store.
        try:
            if asyncio.get_running_loop() is self._loop:
                return
        except RuntimeError:
            pass
        raise self._misuse()

    def _misuse(self) -> StateError:
        what = f"Store {self.url}"
        if self._closed:
            return ClosedError(what)
        if self._loop is None:
            return NotStarted(what)
        return WrongLoop(what) if self._pid == os.getpid() else ForkedProcess(what)

    def _token(self) -> str:
        self._count += 1
        return str(self._count)

    def _queue(self, name: str) -> Queue | None:
        log = self._logs.get(name)
        if log is None or isinstance(log, Queue):
            return log
        raise ChannelKindMismatch(name, log.kind, Kind.QUEUE)

    def _fresh(self, name: str) -> Queue | None:
        queue = self._queue(name)
        if queue is not None:
            queue.refresh(self._clock.time(), self._clock.elapsed())
        return queue

    def _put(self, log: Log, draft: Draft, at: float) -> Placed:
        id = draft.id or self._new_id(log, at)
        stored = log.put(id, draft, at)
        if draft.dedupe is not None:
            key, digest, seconds = draft.dedupe
            log.remember(key, digest, id, stored.sequence, self._clock.elapsed() + seconds)
        return Placed(id, stored.sequence)

    def _new_id(self, log: Log, at: float) -> str:
        self._id = number = max(self._id + 1, int(at * 1e9) & ~_COUNTER)
        id = str(number)
        # Writers may give ids of this form too.
        return id if id not in log.ids else self._new_id(log, at)

    def _settle(self, queue: Queue, settlement: Settlement) -> bool:
        if not queue.held(settlement.sequence, settlement.token):
            return False
        stored = queue.at(settlement.sequence)
        if isinstance(settlement, Release):
            queue.release(stored, settlement, self._clock.elapsed())
        elif isinstance(settlement, Ack) and settlement.keep:
            queue.finish(stored)
        else:
            queue.discard(stored)
            if not isinstance(settlement, Ack):
                dead = self._logs[queue.name + DEAD]
                if (older := dead.get(stored.id)) is not None:
                    dead.discard(older)
                self._at = max(self._at, self._clock.time())
                dead.put(stored.id, settlement.draft, self._at)
        return True


def _as_draft(log: str, stored: Stored) -> Draft:
    return Draft(
        log,
        stored.id,
        stored.timestamp,
        stored.sender_id,
        stored.topic,
        stored.type,
        stored.headers,
        stored.body,
        stored.crc,
        stored.priority,
        stored.key,
    )
