"""The verbs of plain logs; for a queue, what its journal has removed is not there."""

import asyncio
from collections.abc import Sequence

from sssnbus.errors import StoreFull
from sssnbus.stored import Stored
from sssnbus.stores.base import ByID, Kind, LogStore, Page
from sssnbus.stores.nats.append import Appends
from sssnbus.stores.nats.change import GONE, TRIM
from sssnbus.stores.nats.failure import Absent, Missing
from sssnbus.stores.nats.fetch import PAGE, Got, newest, several, stretch
from sssnbus.stores.nats.logbook import Log
from sssnbus.stores.nats.message import decode, stored_at
from sssnbus.stores.nats.sift import Sift
from sssnbus.topics import Pattern


class Logs(Appends, LogStore, ByID):
    """A log is a stream: sequences are the stream's own."""

    async def read(
        self, log: str, *, after: int, limit: int, upto: int | None = None, topics: Sequence[Pattern] = ()
    ) -> Page:
        return await self._do(self._read, log, after, limit, upto, topics)

    async def last(self, logs: Sequence[str]) -> dict[str, int]:
        return await self._do(self._lasts, logs)

    async def locate(self, log: str, time: float) -> int:
        return await self._do(self._locate, log, time)

    async def trim(
        self,
        log: str,
        *,
        upto: int | None = None,
        older_than: float | None = None,
        max_count: int | None = None,
        max_bytes: int | None = None,
    ) -> int:
        """Remove from the old end whatever any given bound rules out; return how many went.

        By ``max_bytes`` what stays is read, to know its sizes, which takes a request for 256 messages.
        """
        return await self._do(self._trim, log, upto, older_than, max_count, max_bytes)

    async def remove(self, log: str, ids: Sequence[str]) -> int:
        return await self._do(self._remove_ids, log, ids)

    async def find(self, log: str, id: str) -> Stored | None:
        return await self._do(self._find, log, id)

    async def _end(self, log: Log, deadline: float) -> tuple[int, int] | None:
        """Return the newest sequence of a log and the first one that is still there."""
        try:
            info = await self._link.api(f"STREAM.INFO.{log.stream}", deadline=deadline)
        except Missing:
            self._forget(log)
            return None
        if self._remember(log.name, info) is not log:
            # It was dropped and declared anew.
            return None
        return int(info["state"]["last_seq"]), int(info["state"]["first_seq"])

    async def _floor(self, log: Log, deadline: float) -> int:
        subject = self._names.floor(log.hash, log.incarnation)
        got = await newest(self._link, self._names.records, subject, self._direct, deadline)
        return 0 if got is None else int(got.data)

    async def _read(
        self, name: str, after: int, limit: int, upto: int | None, topics: Sequence[Pattern] = ()
    ) -> Page:
        deadline = self._deadline()
        log = await self._log(name, deadline)
        if log is None:
            return Page([], 0, 0, max(after, 0))
        if log.kind is Kind.QUEUE:
            return (await self._read_queue(log, after, limit, upto, deadline)).only(topics)
        end, floor = await asyncio.gather(self._end(log, deadline), self._floor(log, deadline))
        if end is None:
            return await self._read(name, after, limit, upto, topics)
        last, first = end
        stop = last if upto is None else min(upto, last)
        start = max(after, floor, first - 1)
        if topics:
            sift = Sift(self._link, self._names, log, topics, deadline)
            found, stop = await sift.read(start, limit, stop)
        else:
            found = await stretch(self._link, log.stream, start, limit, stop, log.direct, deadline)
        messages = [self._stored(log, got) for got in found[: max(limit, 0)]]
        return Page.of(messages, floor, last, after=after, limit=limit, end=stop).only(topics)

    async def _read_queue(self, log: Log, after: int, limit: int, upto: int | None, deadline: float) -> Page:
        found = await self._queue(log.name, deadline)
        if found is None:
            return Page([], 0, 0, max(after, 0))
        mirror = found[1]
        last = await mirror.sync(deadline)
        stop = last if upto is None else min(upto, last)
        rows = mirror.table.between(after, stop, limit)
        got = await self._bodies(log, rows, deadline)
        messages = [got[sequence] for sequence in rows if sequence in got]
        end = stop if len(rows) < limit else rows[-1] if rows else after
        return Page.of(messages, mirror.table.floor, last, after=after, limit=limit, end=end)

    def _stored(self, log: Log, got: Got) -> Stored:
        return decode(self._names, log.hash, got.subject, got.sequence, got.headers, got.data)

    async def _bodies(self, log: Log, sequences: Sequence[int], deadline: float) -> dict[int, Stored]:
        """Return messages of a queue, as far as they are there."""
        found = await several(self._link, log.stream, sequences, log.direct, deadline)
        return {sequence: self._stored(log, got) for sequence, got in found.items()}

    async def _lasts(self, names: Sequence[str]) -> dict[str, int]:
        deadline = self._deadline()

        async def last(name: str) -> int:
            log = await self._log(name, deadline)
            end = None if log is None else await self._end(log, deadline)
            return 0 if end is None else end[0]

        return dict(zip(names, await asyncio.gather(*map(last, names)), strict=True))

    async def _locate(self, name: str, time: float) -> int:
        deadline = self._deadline()
        log = await self._log(name, deadline)
        end = None if log is None else await self._end(log, deadline)
        return 0 if log is None or end is None else await self._before(log, time, *end, deadline)

    async def _before(self, log: Log, time: float, last: int, first: int, deadline: float) -> int:
        """Return the sequence after which everything was stored at or after a time, by halving."""
        low, high = first - 1, last
        while low < high:
            middle = (low + high) // 2
            found = await stretch(self._link, log.stream, middle, 1, last, log.direct, deadline)
            if not found or self._time_of(log, found[0]) >= time:
                high = middle
            else:
                low = found[0].sequence
        return low

    def _time_of(self, log: Log, got: Got) -> float:
        return stored_at(log.hash, got.sequence, got.headers, got.stamp)

    async def _trim(
        self,
        name: str,
        upto: int | None,
        older_than: float | None,
        max_count: int | None,
        max_bytes: int | None,
    ) -> int:
        deadline = self._deadline()
        log = await self._log(name, deadline)
        end = None if log is None else await self._end(log, deadline)
        if log is None or end is None:
            return 0
        last, first = end
        bounds = [0]
        if upto is not None:
            bounds.append(min(upto, last))
        if older_than is not None:
            bounds.append(await self._last_before(log, older_than, last, first, deadline))
        if log.kind is Kind.QUEUE:
            return await self._trim_queue(log, bounds, max_count, max_bytes, deadline)
        if max_count is not None or max_bytes is not None:
            bounds.append(await self._surplus(log, max_count, max_bytes, last, first, deadline))
        bound = max(bounds)
        if not bound:
            return 0
        full = False
        try:
            # The floor first: what lies below it is not read, even if the rest never happens.
            await self._raise_floor(log, bound, deadline)
        except StoreFull:
            full = True
        answer = await self._link.api(
            f"STREAM.PURGE.{log.stream}", {"seq": bound + 1}, deadline=deadline, write="a trim"
        )
        if full:
            # Now there is room.
            await self._raise_floor(log, bound, deadline)
        return int(answer.get("purged", 0))

    async def _last_before(self, log: Log, time: float, last: int, first: int, deadline: float) -> int:
        """Return the last sequence of a message that was stored before a time, 0 if there is none."""
        bound = await self._before(log, time, last, first, deadline)
        if bound < first:
            return 0
        return bound

    async def _surplus(
        self, log: Log, max_count: int | None, max_bytes: int | None, last: int, first: int, deadline: float
    ) -> int:
        """Return up to where messages have to go so that those that stay keep within the bounds."""
        info = await self._link.api(f"STREAM.INFO.{log.stream}", deadline=deadline)
        count, size = int(info["state"]["messages"]), int(info["state"]["bytes"])
        over = 0 if max_count is None else count - max_count
        going = await stretch(self._link, log.stream, first - 1, over, last, log.direct, deadline)
        bound = going[-1].sequence if going else 0
        if max_bytes is not None and size > max_bytes:
            # The server counts more than we do, so otherwise nothing has to go by bytes.
            bound = max(bound, await self._too_much(log, max_bytes, last, max(first, bound + 1), deadline))
        return bound

    async def _too_much(self, log: Log, max_bytes: int, last: int, first: int, deadline: float) -> int:
        """Return the newest sequence that does not fit into a size with all behind it, 0 if all do."""
        end, width = last, PAGE
        while end >= first:
            after = max(first - 1, end - width)
            page = await stretch(self._link, log.stream, after, width, end, log.direct, deadline)
            for got in reversed(page):
                stored = self._stored(log, got)
                max_bytes -= len(stored.headers) + len(stored.body)
                if max_bytes < 0:
                    return got.sequence
            end = after
            # Where much was removed, sequences say little about how many messages there are.
            width = PAGE if len(page) > PAGE // 4 else 2 * width
        return 0

    async def _trim_queue(
        self, log: Log, bounds: list[int], max_count: int | None, max_bytes: int | None, deadline: float
    ) -> int:
        found = await self._fresh(log.name, deadline)
        if found is None:
            return 0
        table = found[1].table
        sizes = [(n, row.facts.size) for n, row in sorted(table.rows.items()) if row.facts is not None]
        bound = max(*bounds, surplus(sizes, max_count, max_bytes))
        if not bound:
            return 0
        await self._raise_floor(log, bound, deadline)
        (count,) = await found[1].commit([[TRIM, bound]])
        await self._link.api(f"STREAM.PURGE.{log.stream}", {"seq": bound + 1}, deadline=deadline)
        return count

    async def _raise_floor(self, log: Log, floor: int, deadline: float) -> None:
        subject = self._names.floor(log.hash, log.incarnation)
        while True:
            got = await newest(self._link, self._names.records, subject, self._direct, deadline)
            if got is not None and int(got.data) >= floor:
                return
            version = None if got is None else got.sequence
            if await self._put(subject, b"%d" % floor, version) is not None:
                return

    async def _remove_ids(self, name: str, ids: Sequence[str]) -> int:
        deadline = self._deadline()
        log = await self._log(name, deadline)
        if log is None:
            return 0
        if log.kind is Kind.QUEUE:
            found = await self._fresh(name, deadline)
            table = found[1].table if found is not None else None
            if found is None or table is None:
                return 0
            sequences = {table.ids[id] for id in ids if id in table.ids}
            return sum(await found[1].commit([[GONE, sequence, None] for sequence in sequences]))
        removed = await asyncio.gather(*(self._remove_id(log, id, deadline) for id in dict.fromkeys(ids)))
        return sum(removed)

    async def _remove_id(self, log: Log, id: str, deadline: float) -> bool:
        subjects = self._names.any_topic(log.hash, id)
        got = await newest(self._link, log.stream, subjects, log.direct, deadline)
        if got is None:
            return False
        body = {"seq": got.sequence, "no_erase": True}
        try:
            await self._link.api(
                f"STREAM.MSG.DELETE.{log.stream}", body, deadline=deadline, write="a removal"
            )
        except Absent:
            return False
        return True

    async def _find(self, name: str, id: str) -> Stored | None:
        deadline = self._deadline()
        log = await self._log(name, deadline)
        if log is None:
            return None
        try:
            return await self._by_id(log, id, deadline)
        except Missing:
            self._forget(log)
            return None


def surplus(sizes: Sequence[tuple[int, int]], max_count: int | None, max_bytes: int | None) -> int:
    """Return up to which sequence messages have to go, oldest first; 0 if all can stay."""
    bound, count, total = 0, len(sizes), sum(size for _, size in sizes)
    for sequence, size in sizes:
        over = max_count is not None and count > max_count
        if not over and (max_bytes is None or total <= max_bytes):
            break
        bound, count, total = sequence, count - 1, total - size
    return bound
