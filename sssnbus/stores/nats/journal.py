"""The journal of a queue: what happened to its messages, one entry after the other, the same for everybody.

Entries of all tasks gather while one is on its way, and go together in the next. The server decides their
order and nothing else; whether a change of an entry counts is for the table to say, and every process says
the same. From time to time the whole state goes into the journal as a snapshot, so that what lies before it
can be removed.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from secrets import token_hex
from typing import Any, Final

from nats.aio.msg import Msg
from pydantic_core import from_json, to_json

from sssnbus.errors import BusError, ClosedError, OutcomeUnknown, StoreError
from sssnbus.stores.nats.failure import Missing, Nobody, check
from sssnbus.stores.nats.link import Link
from sssnbus.stores.nats.message import MESSAGE_ID
from sssnbus.stores.nats.table import CLAIM, Change, Table
from sssnbus.stores.nats.tail import Tail
from sssnbus.stores.nats.waiting import until_ready

_log = logging.getLogger(__name__)

MAX_CHANGES: Final = 2000
"""Changes in one entry, at most, unless a single call brings more."""

SNAPSHOT_EVERY: Final = 1000
"""Entries between two snapshots."""

_CHUNK: Final = 256 * 1024
"""Bytes of a snapshot in one message; every server takes four times as much."""


class _Batch:
    """Changes of one call that are waiting, or on their way."""

    __slots__ = ("changes", "future")

    def __init__(self, changes: Sequence[Change], future: "asyncio.Future[list[int]]") -> None:
        self.changes, self.future = changes, future


class Journal:
    """Writes the entries of a queue, and applies everybody's to its table."""

    def __init__(
        self,
        link: Link,
        stream: str,
        subject: str,
        table: Table,
        on_news: Callable[[], None],
        on_stray: Callable[[list[Change]], None],
        on_missing: Callable[[], None],
        tidy: Callable[[int], Coroutine[Any, Any, None]],
    ) -> None:
        """Make a journal; ``load`` begins it.

        Args:
            link: The connection.
            stream: Where it is kept.
            subject: Where entries go.
            table: What they change.
            on_news: Called when somebody else has changed something.
            on_stray: Called with claims of ours that went through when nobody waited for them any more.
            on_missing: Called when the journal is not there any more.
            tidy: Makes sure that what entries up to a given one removed has left the stream of messages;
                without them, nobody knows any more that it was removed.
        """
        self.applied = 0
        """The newest entry that the table holds."""
        self._link, self._stream, self._subject, self._table = link, stream, subject, table
        self._on_news, self._on_stray, self._on_missing = on_news, on_stray, on_missing
        self._tidy = tidy
        self._tail: Tail | None = None
        self._history: list[tuple[int, dict[str, Any], str]] | None = None
        self._waiting: list[_Batch] = []
        self._writing = False
        self._awaited: dict[str, asyncio.Future[list[int]]] = {}
        self._strays: set[str] = set()
        self._snapshot_at = 0
        self._snapshotting = False
        self._ended = False

    async def load(self, deadline: float) -> None:
        """Read everything there is, and follow the rest. Raises ``Missing``."""
        if self._tail is not None:
            self._tail.stop()
        self._history, self.applied = [], 0
        tail = self._tail = Tail(
            self._link, self._stream, 0, self._take, on_gap=self._on_news, on_missing=self._on_missing
        )
        await tail.start(deadline)
        await tail.sync(deadline)
        history, self._history = self._history or [], None
        self._replay(history)

    async def sync(self, deadline: float) -> None:
        """Return when the table holds everything that was committed before this was called."""
        if self._tail is None:
            await self.load(deadline)
        else:
            await self._tail.sync(deadline)
            while self._history is not None:
                # It is being read anew.
                await self._link.pause(deadline)

    def stop(self) -> None:
        """End. Who waits for a commit is told that there will be none."""
        self._ended = True
        if self._tail is not None:
            self._tail.stop()
        for batch in self._waiting:
            if not batch.future.done():
                batch.future.set_exception(ClosedError(f"Store {self._link.url}"))
        self._waiting.clear()

    async def commit(self, changes: Sequence[Change]) -> list[int]:
        """Return what each change came to, 0 for a void one, once the entry is stored."""
        loop = asyncio.get_running_loop()
        batch = _Batch(changes, loop.create_future())
        self._waiting.append(batch)
        if not self._writing:
            self._writing = True
            # It begins in the next round of the loop: what other tasks bring in this one goes along.
            self._link.spawn(self._write(), "journal")
        return await batch.future

    async def _write(self) -> None:
        try:
            while self._waiting and not self._ended:
                batches: list[_Batch] = []
                count = 0
                while self._waiting and (not batches or count + len(self._waiting[0].changes) <= MAX_CHANGES):
                    batches.append(self._waiting.pop(0))
                    count += len(batches[-1].changes)
                await self._commit(batches)
        finally:
            self._writing = False
            if self._ended:
                self.stop()
        self._consider_snapshot()

    async def _commit(self, batches: list[_Batch]) -> None:
        changes = [change for batch in batches for change in batch.changes]
        name = token_hex(10)
        applied = self._awaited[name] = asyncio.get_running_loop().create_future()
        try:
            try:
                sequence = await self._publish(to_json({"c": changes}), name, "a change of a queue")
            except BusError:
                # The entry itself may have come back although the answer did not.
                if not applied.done():
                    raise
                sequence = 0
            if self.applied == sequence - 1 and not applied.done():
                self._apply(sequence, changes, name)
            if not applied.done():
                # Somebody else's entries come first; they and ours are on their way.
                async with asyncio.timeout(self._link.timeout):
                    await applied
            results = applied.result()
        except BaseException as error:
            self._strays.add(name)
            told = error
            if isinstance(error, TimeoutError | asyncio.CancelledError):
                # Cancelled is this task, by the closing of the store; those who wait are not.
                told = OutcomeUnknown(self._link.url, "a change of a queue")
            for batch in batches:
                if not batch.future.done():
                    batch.future.set_exception(told)
            if not isinstance(error, Exception):
                raise
            return
        finally:
            del self._awaited[name]
        start = 0
        for batch in batches:
            end = start + len(batch.changes)
            if not batch.future.done():
                batch.future.set_result(results[start:end])
            start = end

    async def _publish(self, payload: bytes, name: str, what: str) -> int:
        deadline = self._link.deadline()
        headers = {MESSAGE_ID: name}
        unsure = False
        while True:
            try:
                answer = await self._link.request(
                    self._subject, payload, headers, deadline=deadline, write=what
                )
                return int(check(from_json(answer.message.data), self._link.url)["seq"])
            except Nobody as nobody:
                unsure |= nobody.repeated
                await until_ready(self._link, self._stream, deadline, what if unsure else None)

    def _take(self, message: Msg, sequence: int, stamp: float) -> None:
        entry: dict[str, Any] = from_json(message.data)
        name = (message.headers or {}).get(MESSAGE_ID, "")
        if self._history is not None:
            self._history.append((sequence, entry, name))
            return
        if sequence <= self.applied:
            return
        if sequence != self.applied + 1:
            # What lies between was removed behind a snapshot before we saw it.
            self._history = []
            self._link.spawn(self._reload(), "journal-reload")
            return
        if "s" in entry:
            self.applied = sequence
            self._heard_of_snapshot(entry["s"])
            return
        self._apply(sequence, entry["c"], name)

    def _apply(self, sequence: int, changes: Sequence[Change], name: str) -> None:
        self.applied = sequence
        results = [self._table.apply(change, sequence) for change in changes]
        waiter = self._awaited.get(name)
        if waiter is not None:
            if not waiter.done():
                waiter.set_result(results)
            return
        if name in self._strays:
            self._strays.discard(name)
            claims = zip(changes, results, strict=True)
            self._on_stray([change for change, done in claims if done and change[0] == CLAIM])
        self._on_news()

    async def _reload(self) -> None:
        while not self._ended:
            try:
                await self.load(self._link.deadline())
            except Missing:
                self._on_missing()
                return
            except BusError as error:
                _log.debug("A journal of %s cannot be read: %s", self._link.url, error)
                await asyncio.sleep(0.5)
                continue
            self._on_news()
            return

    def _replay(self, history: list[tuple[int, dict[str, Any], str]]) -> None:
        """Bring the table from the newest whole snapshot to the end."""
        parts: dict[str, list[str]] = {}
        start = 0
        state: list[Any] | None = None
        for _, entry, _ in history:
            if "s" in entry:
                name, at, number, text, _ = entry["s"]
                pieces = parts.setdefault(name, [])
                pieces.append(text)
                # Of two that were written at once, the one that ends later may be the older one.
                if len(pieces) == number and at >= start:
                    start, state = at, from_json("".join(pieces))
        if state is not None:
            rows, done, gone, floor = state
            self._table.restore(rows, done, gone, floor, start)
            self._snapshot_at = start
        self.applied = start
        for sequence, entry, name in history:
            if sequence <= start:
                continue
            if sequence != self.applied + 1 and self.applied:
                raise StoreError(
                    f"A queue of store {self._link.url} cannot be read: entries {self.applied + 1} to "
                    f"{sequence - 1} of its journal {self._stream} are missing. Somebody removed them."
                )
            self.applied = sequence
            if "c" in entry:
                self._apply(sequence, entry["c"], name)

    async def compact(self) -> None:
        """Remove what can be done without: the second snapshot lets go of all that the first one tells."""
        for _ in range(2):
            if not self._snapshotting and not self._ended:
                self._snapshotting = True
                await self._snapshot()

    def _consider_snapshot(self) -> None:
        if self.applied - self._snapshot_at >= SNAPSHOT_EVERY and not self._snapshotting and not self._ended:
            self._snapshotting = True
            self._link.spawn(self._snapshot(), "snapshot")

    async def _snapshot(self) -> None:
        """Write down the state, and remove what lies before the snapshot before this one."""
        try:
            before = self._snapshot_at
            await self._tidy(before)
            # From here to the text nothing is awaited: the state is that of one moment.
            at = self.applied
            text = to_json(self._table.snapshot()).decode()
            name = token_hex(8)
            pieces = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
            self._snapshot_at = at
            for number, piece in enumerate(pieces):
                payload = to_json({"s": [name, at, len(pieces), piece, before]})
                await self._publish(payload, f"{name}-{number}", "a snapshot of a queue")
            await self._link.api(
                f"STREAM.PURGE.{self._stream}", {"seq": before + 1}, deadline=self._link.deadline()
            )
        except (BusError, Missing) as error:
            _log.debug("A snapshot of %s failed: %s", self._stream, error)
        finally:
            self._snapshotting = False

    def _heard_of_snapshot(self, part: list[Any]) -> None:
        _, at, _, _, before = part
        self._snapshot_at = max(self._snapshot_at, at)
        self._table.forget_gone(before)
