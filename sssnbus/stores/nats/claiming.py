"""Claiming: a choice from what is known here, one change of the journal, and the bodies beside it."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Final, NamedTuple

from sssnbus.errors import BusError, StateError
from sssnbus.stores.base import Lease, Leases, Selection
from sssnbus.stores.loop import outlive
from sssnbus.stores.nats.bodies import Bodies
from sssnbus.stores.nats.change import CLAIM, GONE, RELEASE, Change
from sssnbus.stores.nats.log import Logs
from sssnbus.stores.nats.logbook import Log
from sssnbus.stores.nats.mirror import Mirror
from sssnbus.stores.nats.row import Row
from sssnbus.stores.nats.waiters import Promise

_log = logging.getLogger(__name__)


_AT_ONCE: Final = 250
"""Messages that are claimed with one change of the journal, at most."""


class _Taking(NamedTuple):
    """Messages that were chosen, and what is on its way for them."""

    log: Log
    mirror: Mirror
    rows: Sequence[Row]
    changes: Sequence[Change]
    until: float
    sent: Promise[list[int]]
    """Which of the changes count."""
    asked: Promise[Bodies]
    """The messages themselves; they are handed out only if the change counts."""

    def mine(self) -> list[tuple[Row, str]]:
        """Return what nobody else took first, with its tokens; nothing if that is not known."""
        if self.sent.exception() is not None:
            return []
        each = zip(self.rows, self.changes, self.sent.result(), strict=True)
        return [(row, change[3]) for row, change, done in each if done]


class Claims(Logs):
    """The verb ``claim``."""

    _tokens: "count[int]"

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
        """Hand out up to ``limit`` ready messages: highest priority first, then oldest first.

        The first claim of a store on a queue reads the state of all its messages. A lease that the store
        renews goes on until its owner was not heard of for ``owner_timeout`` seconds, however short it is.
        A cancelled claim that was committed already gives its messages back before it ends, without
        counting an attempt.
        """
        self._check()
        known = self._logs.get(log)
        mirror = known.mirror if known is not None else None
        if known is not None and mirror is not None and limit == 1 and mirror.holds(known.appended):
            rows = mirror.table.pick(1, select, self._now(), self._elapsed())
            if rows:
                leases = await self._claim_one(self._take(known, mirror, rows, worker, lease, renew))
                if leases:
                    return Leases(leases, mirror.table.next_due(self._now(), self._elapsed()))
        claiming = self._begin(self._claim, log, worker, lease, limit, select, renew)
        try:
            await outlive(claiming)
        except asyncio.CancelledError:
            if not claiming.cancelled() and claiming.exception() is None:
                leases = claiming.result().leases
                await self._give_back(log, [(lease.stored.sequence, lease.token) for lease in leases])
            raise
        return claiming.result()

    async def _claim_one(self, taking: _Taking) -> list[Lease]:
        """Finish a claim without a task: this is the way of nearly every one."""
        working: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running.add(working)
        try:
            return await self._translated(self._leases(taking))
        except asyncio.CancelledError:
            await self._give_back(taking.log.name, [(row.sequence, token) for row, token in taking.mine()])
            raise
        finally:
            taking.mirror.table.unreserve(taking.rows)
            self._running.discard(working)
            working.set_result(None)

    async def _claim(
        self, name: str, worker: str, lease: float, limit: int, select: Selection | None, renew: bool
    ) -> Leases:
        deadline = self._deadline()
        found = await self._queue(name, deadline)
        if found is None:
            return Leases([], None)
        log, mirror = found
        table = mirror.table
        leases: list[Lease] = []
        fresh = False
        if not mirror.holds(log.appended):
            await mirror.messages.sync(deadline)
        while len(leases) < limit:
            most = min(limit - len(leases), _AT_ONCE)
            rows = table.pick(most, select, self._now(), self._elapsed())
            try:
                if rows:
                    leases += await self._leases(self._take(log, mirror, rows, worker, lease, renew))
            finally:
                table.unreserve(rows)
            if len(rows) == _AT_ONCE:
                continue
            if fresh or len(leases) >= limit:
                break
            # What others did meanwhile may have made more ready.
            fresh = True
            if await self._fresh(name, deadline) is None:
                break
        return Leases(leases, table.next_due(self._now(), self._elapsed()))

    def _take(
        self, log: Log, mirror: Mirror, rows: Sequence[Row], worker: str, lease: float, renew: bool
    ) -> _Taking:
        """Send the claims of messages that were picked, and ask for their bodies."""
        owner = self.owner if renew else None
        ends = None if renew else self._elapsed() + lease
        changes: list[Change] = [
            [CLAIM, row.sequence, row.revision, self._token(), worker, owner, ends] for row in rows
        ]
        sequences = sorted(row.sequence for row in rows)
        sent, asked = mirror.journal.commit(changes), mirror.bodies.ask(sequences)
        return _Taking(log, mirror, rows, changes, self._clock.elapsed() + lease, sent, asked)

    async def _leases(self, taking: _Taking) -> list[Lease]:
        """Return what became of messages that were picked: those that nobody else took first."""
        await taking.sent
        mirror, mine = taking.mirror, taking.mine()
        try:
            got = await taking.asked
            numbers = [row.sequence for row, _ in mine]
            bodies = {number: self._stored(taking.log, got[number]) for number in numbers if number in got}
        except Exception:
            mirror.give_back((row.sequence, token) for row, token in mine)
            raise
        # A message that somebody took out of the stream by hand is not there for anybody.
        lost: list[Change] = [[GONE, row.sequence, None] for row, _ in mine if row.sequence not in bodies]
        if lost:
            await mirror.commit(lost)
        return [
            Lease(bodies[row.sequence], token, row.attempts, taking.until, row.last_error)
            for row, token in mine
            if row.sequence in bodies
        ]

    async def _give_back(self, name: str, holds: Sequence[tuple[int, str]]) -> None:
        """See to it that a cancelled claim has no effect."""
        if holds:
            # A store that is being closed gives back everything.
            with suppress(StateError):
                await self._do(self._undo, name, holds)

    async def _undo(self, name: str, holds: Sequence[tuple[int, str]]) -> None:
        found = self._logs.get(name)
        if found is None or found.mirror is None:
            return
        try:
            await found.mirror.commit([[RELEASE, *hold, None, False, None] for hold in holds])
        except BusError as error:
            _log.debug("A cancelled claim is given back later: %s", error)
            found.mirror.give_back(holds)

    def _token(self) -> str:
        return f"{self.owner}-{next(self._tokens)}"
