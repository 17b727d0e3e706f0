"""A queue as this process sees it: a table that follows the messages and the journal."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from sssnbus.errors import BusError, ClosedError, MessageCorrupt
from sssnbus.stores.backoff import Backoff
from sssnbus.stores.nats.bodies import Reader
from sssnbus.stores.nats.change import RELEASE, Change
from sssnbus.stores.nats.failure import Absent, Missing
from sssnbus.stores.nats.journal import Journal
from sssnbus.stores.nats.link import Link
from sssnbus.stores.nats.message import facts
from sssnbus.stores.nats.names import Names
from sssnbus.stores.nats.table import Table
from sssnbus.stores.nats.tail import Tail
from sssnbus.stores.nats.wire import Incoming
from sssnbus.stores.nats.writer import parts

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 256
"""Removals that are on their way together."""

_GATHERING: Final = 0.05
"""Seconds during which removals gather."""

_PAUSES: Final = (0.1, 2.0)
"""The first and the longest wait, in seconds, before something is given back that could not be."""

_FEW: Final = 8
"""Removals that are as cheap one by one as by an order that takes the server a millisecond."""

_MANY: Final = 20_000
"""Messages of a queue among which the oldest is not searched for."""


class Mirror:
    """Follows one queue, and changes it."""

    def __init__(
        self,
        link: Link,
        names: Names,
        log: str,
        incarnation: str,
        direct: bool,
        on_news: Callable[[], None],
        on_missing: Callable[[], None],
        on_set_back: Callable[[], None],
        is_dead: Callable[[str], bool],
        heard_of: Callable[[Iterable[str]], None],
    ) -> None:
        """Make a mirror; ``load`` begins it.

        Args:
            link: The connection.
            names: The names of the store.
            log: The hash of the queue.
            incarnation: Which queue of that name.
            direct: Whether the server answers for single messages at once.
            on_news: Called when somebody else may have made something ready.
            on_missing: Called when the queue is not there any more.
            on_set_back: Called when the server has lost some of what was there.
            is_dead: Says whether an owner of leases is known to be gone.
            heard_of: Called with owners that are not gone.
        """
        self.table = Table(is_dead)
        self.journal = Journal(
            link,
            names.journal(log, incarnation),
            names.entry(log, incarnation),
            self.table,
            self,
        )
        self._link, self._names, self._log = link, names, log
        self._stream = names.stream(log)
        self.news, self.missing, self.set_back, self.heard_of = on_news, on_missing, on_set_back, heard_of
        self.messages = Tail(
            link,
            self._stream,
            0,
            self._take,
            headers_only=True,
            on_gap=on_news,
            on_missing=on_missing,
            on_set_back=on_set_back,
            incarnation=incarnation,
        )
        self.bodies = Reader(link, self._stream, direct, self.table.next_to)
        self.own: set[str] = set()
        """Ids that were appended through this store, whose news is none."""
        self._mutex = asyncio.Lock()
        self._loaded = False
        self._removing: list[int] = []
        self._remover: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._orderly = True
        """Whether the stream holds nothing but what the table knows."""

    async def load(self, deadline: float) -> None:
        """Read the queue, if that was not done yet; its cost grows with what it holds."""
        if self._loaded:
            return
        async with self._mutex:
            if not self._loaded:
                await asyncio.gather(self.messages.start(deadline), self.journal.load(deadline))
                await self.messages.sync(deadline)
                self._loaded = True

    def holds(self, sequence: int) -> bool:
        """Return whether the table holds the messages up to this one."""
        return self._loaded and self.messages.position >= sequence

    async def sync(self, deadline: float) -> int:
        """Return when the table holds everything that was done before this was called, by anybody.

        What is returned is the newest sequence of the queue at that time.
        """
        await self.load(deadline)
        last, _ = await asyncio.gather(self.messages.sync(deadline), self.journal.sync(deadline))
        return last

    async def commit(self, changes: Sequence[Change]) -> list[int]:
        """Change the queue and return what each change came to."""
        results: list[int] = []
        for part in parts(changes, self._link.max_payload):
            # A promise would hold on to who is to end, as by the time that a farewell has.
            results += await asyncio.shield(self.journal.commit(part))
        return results

    def remove_soon(self, sequences: Iterable[int]) -> None:
        """Remove messages from the stream that the journal has already removed."""
        self._removing.extend(sequences)
        if self._removing and (self._remover is None or self._remover.done()):
            self._remover = asyncio.get_running_loop().create_task(
                self._remove(), name="sssnbus-nats-remover"
            )

    async def compact(self) -> None:
        """Let go now of what would be removed in time."""
        if self._remover is not None:
            self._hurry.set()
            await asyncio.wait([self._remover], timeout=self._link.timeout)
            self._hurry.clear()
        await self.journal.compact()

    async def stop(self, deadline: float) -> None:
        """End, when everything is removed or the time is over."""
        if self._remover is not None:
            self._hurry.set()
            loop = asyncio.get_running_loop()
            await asyncio.wait([self._remover], timeout=max(0.0, deadline - loop.time()))
        self.abandon()

    def _take(self, message: Incoming, sequence: int, stamp: float) -> None:
        try:
            found = facts(self._names, self._log, message.subject, sequence, message.headers, stamp)
        except MessageCorrupt as error:
            _log.error("%s It stays where it is.", error)
            self._orderly = False
            return
        self.table.add(found)
        if found.id in self.own:
            self.own.discard(found.id)
        else:
            self.news()

    def give_back(self, holds: Iterable[tuple[int, str]]) -> None:
        """Release, sooner or later, what is held by tokens that nobody has, as if it had never been taken.

        Who is alive renews what it holds, so that without this they would be held for ever.
        """
        changes: list[Change] = [[RELEASE, sequence, token, None, False, None] for sequence, token in holds]
        if changes:
            self._link.spawn(self._commit_at_last(changes), "give-back")

    async def _commit_at_last(self, changes: list[Change]) -> None:
        backoff = Backoff(*_PAUSES)
        while True:
            try:
                await self.commit(changes)
            except (ClosedError, Missing):
                # Who is closed renews nothing, and what is dropped is held by nobody.
                return
            except BusError as error:
                _log.warning("Claims that nobody waits for are not given back yet: %s", error)
                await backoff.wait()
            else:
                return

    def abandon(self) -> None:
        """End at once, with nothing removed or given back any more."""
        self.messages.stop()
        self.journal.stop()
        if self._remover is not None:
            self._remover.cancel()

    async def _remove(self) -> None:
        while self._removing:
            # Nothing waits for this, and many can go with one request.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), _GATHERING)
            removing, self._removing = self._removing, []
            try:
                removing = await self._remove_end(removing)
                for start in range(0, len(removing), _AT_ONCE):
                    await self.remove_now(removing[start : start + _AT_ONCE])
            except (BusError, Missing) as error:
                # The next snapshot sees to it, whoever makes it.
                _log.debug("Messages of %s could not be removed: %s", self._stream, error)

    async def _remove_end(self, sequences: list[int]) -> list[int]:
        """Remove all those before the oldest that stays; return the others."""
        if not self._orderly or len(sequences) <= _FEW or len(self.table.rows) > _MANY:
            return sequences
        # What the tail has not brought yet is no row either.
        end = min(self.table.rows, default=self.messages.position + 1)
        end = min(end, self.messages.position + 1)
        rest = [sequence for sequence in sequences if sequence >= end]
        if len(sequences) - len(rest) > _FEW:
            await self._link.api(f"STREAM.PURGE.{self._stream}", {"seq": end}, deadline=self._link.deadline())
            return rest
        return sequences

    async def remove_now(self, sequences: Sequence[int]) -> None:
        """Remove messages from the stream, whether or not they are still there."""
        deadline = self._link.deadline()
        results = await asyncio.gather(
            *(self._remove_one(sequence, deadline) for sequence in sequences), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _remove_one(self, sequence: int, deadline: float) -> None:
        body = {"seq": sequence, "no_erase": True}
        try:
            await self._link.api(f"STREAM.MSG.DELETE.{self._stream}", body, deadline=deadline)
        except Absent:
            # Somebody else was faster.
            return

    async def tidy(self, revision: int) -> None:
        old = [sequence for sequence, entry in self.table.gone.items() if entry <= revision]
        info = await self._link.api(f"STREAM.INFO.{self._stream}", deadline=self._link.deadline())
        first = int(info["state"]["first_seq"])
        left = [sequence for sequence in old if sequence >= first]
        for start in range(0, len(left), _AT_ONCE):
            await self.remove_now(left[start : start + _AT_ONCE])
        self.table.forget_gone(revision)
