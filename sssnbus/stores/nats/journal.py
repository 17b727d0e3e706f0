"""The journal of a queue: what happened to its messages, one entry after the other, the same for everybody.

The server decides the order of entries and nothing else; whether a change of an entry counts is for the table
to say, and every process says the same. From time to time the whole state goes into the journal as a
snapshot, so that what lies before it can be removed.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from secrets import token_hex
from typing import Any, Final, Protocol

from pydantic_core import from_json, to_json

from sssnbus.errors import BusError, StoreError
from sssnbus.stores.nats.change import ACK, CLAIM, GONE, Change
from sssnbus.stores.nats.failure import Missing
from sssnbus.stores.nats.link import Link
from sssnbus.stores.nats.message import MESSAGE_ID
from sssnbus.stores.nats.table import Table
from sssnbus.stores.nats.tail import Tail
from sssnbus.stores.nats.waiters import Promise
from sssnbus.stores.nats.wire import Incoming
from sssnbus.stores.nats.writer import Entry, Writer

_log = logging.getLogger(__name__)

SNAPSHOT_EVERY: Final = 1000
"""Entries between two snapshots."""

_RELOAD_EVERY: Final = 0.5
"""Seconds between two tries to read a journal anew."""

_CHUNK: Final = 256 * 1024
"""Characters of a snapshot in one message, at most."""


class Audience(Protocol):
    """Whoever keeps a queue, and hears of what comes up in its journal."""

    def news(self) -> None:
        """Hear that somebody else has changed something."""

    def missing(self) -> None:
        """Hear that the journal is not there any more."""

    def set_back(self) -> None:
        """Hear that the server has lost entries that were there."""

    def heard_of(self, owners: Iterable[str]) -> None:
        """Hear who claims here, and is alive therefore."""

    def remove_soon(self, sequences: Iterable[int]) -> None:
        """Hear which messages an entry from here has removed."""

    def give_back(self, holds: Iterable[tuple[int, str]]) -> None:
        """Hear of claims from here that went through when nobody waited for them any more."""

    async def tidy(self, revision: int) -> None:
        """Make sure that what entries up to this one removed has left the stream of messages.

        Without them, nobody knows any more that it was removed.
        """


class Journal:
    """Reads the journal of a queue, and applies everybody's entries to its table."""

    def __init__(self, link: Link, stream: str, subject: str, table: Table, audience: Audience) -> None:
        """Make a journal; ``load`` begins it.

        Args:
            link: The connection.
            stream: Where it is kept.
            subject: Where entries go.
            table: What they change.
            audience: Who hears of what comes up.
        """
        self.applied = 0
        """The newest entry that the table holds."""
        self._link, self._stream, self._table, self._audience = link, stream, table, audience
        self._tail: Tail | None = None
        self._history: list[tuple[int, dict[str, Any], str]] | None = None
        self._writer = Writer(link, stream, subject, self._stored, self.sync)
        self._snapshot_at = 0
        self._snapshotting = False
        self._ended = False

    async def load(self, deadline: float) -> None:
        """Read everything there is, and follow the rest. Raises ``Missing``."""
        if self._tail is not None:
            self._tail.stop()
        self._history, self.applied = [], 0
        tail = self._tail = Tail(
            self._link,
            self._stream,
            0,
            self._take,
            on_gap=self._audience.news,
            on_missing=self._audience.missing,
            on_set_back=self._audience.set_back,
        )
        await tail.start(deadline)
        await tail.sync(deadline)
        history, self._history = self._history or [], None
        self._replay(history)
        self._writer.passed(self.applied)
        self._look_for_strays()

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
        self._writer.stop()

    def commit(self, changes: Sequence[Change]) -> Promise[list[int]]:
        """Return what will tell what each change came to, 0 for a void one, once the entry is stored."""
        return self._writer.commit(changes)

    def _stored(self, entry: Entry) -> None:
        """Take over an entry of our own, if all before it is known."""
        if entry.sequence == self.applied + 1 and self._history is None:
            self._apply(entry.sequence, entry.changes, entry.name)
        elif self._writer.passed(self.applied):
            self._look_for_strays()

    def _take(self, message: Incoming, sequence: int, stamp: float) -> None:
        if self._history is None and sequence <= self.applied:
            # An entry of our own, as a rule.
            return
        entry: dict[str, Any] = from_json(message.data)
        name = message.headers.get(MESSAGE_ID, "")
        if self._history is not None:
            self._history.append((sequence, entry, name))
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
        # First: what one who was taken for dead claims now is not free.
        self._audience.heard_of(change[5] for change in changes if change[0] == CLAIM and change[5])
        results = [self._table.apply(change, sequence) for change in changes]
        done = [change for change, came in zip(changes, results, strict=True) if came]
        if self._writer.applied(name, results):
            self._audience.remove_soon(change[1] for change in done if change[0] in (ACK, GONE))
            self._consider_snapshot()
            return
        if self._writer.strays.pop(name, None) is not None:
            self._audience.give_back((change[1], change[3]) for change in done if change[0] == CLAIM)
        self._audience.news()

    def _look_for_strays(self) -> None:
        """Find claims of ours that nobody waits for in what was not read entry by entry."""
        for name, claims in tuple(self._writer.strays.items()):
            rows = self._table.rows
            held = [change for change in claims if change[1] in rows and rows[change[1]].token == change[3]]
            if held:
                del self._writer.strays[name]
                self._audience.give_back((change[1], change[3]) for change in held)

    async def _reload(self) -> None:
        while not self._ended:
            try:
                await self.load(self._link.deadline())
            except Missing:
                self._audience.missing()
                return
            except BusError as error:
                _log.debug("A journal of %s cannot be read: %s", self._link.url, error)
                await asyncio.sleep(_RELOAD_EVERY)
                continue
            self._audience.news()
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
            await self._audience.tidy(before)
            # From here to the text nothing is awaited: the state is that of one moment.
            at = self.applied
            text = to_json(self._table.snapshot()).decode()
            name = token_hex(8)
            chunk = min(_CHUNK, self._link.max_payload // 4)
            pieces = [text[start : start + chunk] for start in range(0, len(text), chunk)]
            self._snapshot_at = at
            for number, piece in enumerate(pieces):
                payload = to_json({"s": [name, at, len(pieces), piece, before]})
                await self._writer.publish(payload, f"{name}-{number}", "a snapshot", self._link.deadline())
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
