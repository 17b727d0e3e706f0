"""The verbs of queues."""

import asyncio
from collections.abc import Sequence
from typing import Final

from sssnbus.errors import MessageConflict
from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import Ack, Bury, QueueStore, Selection, Settlement, Standing
from sssnbus.stores.nats.change import ACK, DONE, EXTEND, RELEASE, Change
from sssnbus.stores.nats.claiming import Claims
from sssnbus.stores.nats.logbook import Log
from sssnbus.stores.nats.mirror import Mirror
from sssnbus.stores.nats.row import Row
from sssnbus.stores.nats.writer import parts

MOVING: Final = 60.0
"""Seconds for which a message is held while it moves to another log."""


class Queues(Claims, QueueStore):
    """Queues: messages in one stream, what happens to them in another."""

    async def settle(self, log: str, settlements: Sequence[Settlement]) -> list[bool]:
        """End leases; return for each whether its token was still good. A stale one changes nothing.

        What is buried is held on to, stored among the dead letters, then removed: a crash in between
        leaves it in both places, and the next burial under its id makes that one again.

        Every settlement is an entry of the journal and needs room for it: on a full server it raises
        ``StoreFull`` and the hold goes on. Free room by trimming a log, which needs none.
        """
        self._check()
        known = self._logs.get(log)
        if known is not None and known.mirror is not None and settlements:
            changes = self._plain(known.mirror, settlements)
            if len(parts(changes, self._link.max_payload)) == 1:
                # Without a task: this is the way of nearly every one.
                return [bool(done) for done in await self._awaited(known.mirror.journal.commit(changes))]
        return await self._do(self._settle, log, settlements)

    async def extend(self, log: str, holds: Sequence[tuple[int, str]], lease: float) -> list[bool]:
        return await self._do(self._extend, log, holds, lease)

    async def peek(self, log: str, *, limit: int, select: Selection | None = None) -> list[Stored]:
        return await self._do(self._peek, log, limit, select)

    async def standing(self, log: str, sequences: Sequence[int]) -> dict[int, Standing]:
        return await self._do(self._standing, log, sequences)

    async def _good(
        self, name: str, holds: Sequence[tuple[int, str]], deadline: float
    ) -> tuple[Mirror, list[bool]] | None:
        """Return which tokens hold their messages now, as far as can be known before it is decided."""
        found = await self._queue(name, deadline)
        if found is None:
            return None
        mirror = found[1]
        good = [mirror.table.good(*hold, self._elapsed()) for hold in holds]
        if not all(good):
            # They may come from another store, whose claims were not heard of here.
            if await self._fresh(name, deadline) is None:
                return None
            good = [mirror.table.good(*hold, self._elapsed()) for hold in holds]
        return mirror, good

    async def _settle(self, name: str, settlements: Sequence[Settlement]) -> list[bool]:
        deadline = self._deadline()
        holds = [(settlement.sequence, settlement.token) for settlement in settlements]
        found = await self._good(name, holds, deadline)
        if found is None:
            return [False] * len(settlements)
        mirror, good = found
        changes = [
            self._change(settlement) for settlement, held in zip(settlements, good, strict=True) if held
        ]
        results = iter(await mirror.commit(changes) if changes else [])
        settled = [held and bool(next(results)) for held in good]
        for settlement, held in zip(settlements, settled, strict=True):
            if held and isinstance(settlement, Bury):
                await self._bury(mirror, settlement)
        return settled

    def _plain(self, mirror: Mirror, settlements: Sequence[Settlement]) -> list[Change]:
        """Return the changes that are all there is to settlements; nothing if more has to be done first."""
        now = self._elapsed()
        if any(
            isinstance(one, Bury) or not mirror.table.good(one.sequence, one.token, now)
            for one in settlements
        ):
            return []
        return [self._change(settlement) for settlement in settlements]

    def _change(self, settlement: Settlement) -> Change:
        sequence, token = settlement.sequence, settlement.token
        if isinstance(settlement, Ack):
            return [DONE if settlement.keep else ACK, sequence, token]
        if isinstance(settlement, Bury):
            # Held for a while, whoever asks: what follows takes more than one step.
            return [EXTEND, sequence, token, self._elapsed() + MOVING]
        rest = self._elapsed() + settlement.delay if settlement.delay > 0 else None
        return [RELEASE, sequence, token, rest, settlement.counted, settlement.error]

    async def _bury(self, mirror: Mirror, settlement: Bury) -> None:
        """Store a dead letter in place of an older one with its id, then let the message go."""
        draft = settlement.draft
        try:
            await self._store(draft.channel, [draft])
        except MessageConflict:
            await self._replace(draft)
        else:
            await self._replace_if_older(draft)
        await mirror.commit([[ACK, settlement.sequence, settlement.token]])

    async def _replace_if_older(self, draft: Draft) -> None:
        """Store a dead letter anew if the one that was there has other headers."""
        there = await self._find(draft.channel, draft.id or "")
        if there is None or there.headers != draft.headers:
            await self._replace(draft)

    async def _replace(self, draft: Draft) -> None:
        await self._remove_ids(draft.channel, [draft.id or ""])
        await self._store(draft.channel, [draft])

    async def _extend(self, name: str, holds: Sequence[tuple[int, str]], lease: float) -> list[bool]:
        found = await self._good(name, holds, self._deadline())
        if found is None:
            return [False] * len(holds)
        mirror, good = found
        ends = self._elapsed() + lease
        changes: list[Change] = [
            [EXTEND, *hold, ends] for hold, held in zip(holds, good, strict=True) if held
        ]
        results = iter(await mirror.commit(changes) if changes else [])
        return [held and bool(next(results)) for held in good]

    async def _peek(self, name: str, limit: int, select: Selection | None) -> list[Stored]:
        deadline = self._deadline()
        found = await self._fresh(name, deadline)
        if found is None or limit <= 0:
            return []
        log, mirror = found
        rows = self._ready(mirror, select, limit)
        bodies = await self._bodies(log, [row.sequence for row in rows], deadline)
        return [bodies[row.sequence] for row in rows if row.sequence in bodies]

    async def _standing(self, name: str, sequences: Sequence[int]) -> dict[int, Standing]:
        found = await self._fresh(name, self._deadline())
        if found is None:
            return {}
        wall, elapsed = self._now(), self._elapsed()
        told = ((n, found[1].table.standing(n, wall, elapsed)) for n in sequences)
        # Leases end by a time that all share; callers know the clock of this store.
        ahead = self._clock.elapsed() - elapsed
        return {
            n: one if one.deadline is None else one._replace(deadline=one.deadline + ahead)
            for n, one in told
            if one is not None
        }

    def _ready(self, mirror: Mirror, select: Selection | None, limit: int, done: bool = False) -> list[Row]:
        rows: list[Row] = []
        wall, elapsed = self._now(), self._elapsed()
        for row in mirror.table.chosen(select):
            if len(rows) >= limit:
                break
            if mirror.table.is_ready(row, wall, elapsed) or (done and row.done):
                rows.append(row)
        return rows

    async def _farewell(self, deadline: float) -> None:
        """Give back every lease that this store renews, then end what it follows."""
        await asyncio.gather(
            *(self._release_all(log) for log in self._logs.values() if log.mirror is not None),
            return_exceptions=True,
        )
        await super()._farewell(deadline)
        for log in tuple(self._logs.values()):
            log.stop()
            if log.mirror is not None:
                await log.mirror.stop(deadline)

    def _abandon(self) -> None:
        super()._abandon()
        for log in tuple(self._logs.values()):
            log.stop()
            if log.mirror is not None:
                log.mirror.abandon()

    async def _release_all(self, log: Log) -> None:
        mirror = log.mirror
        if mirror is None:
            return
        rows = [mirror.table.rows[sequence] for sequence in mirror.table.leased]
        changes: list[Change] = [
            [RELEASE, row.sequence, row.token, None, False, None] for row in rows if row.owner == self.owner
        ]
        if changes:
            await mirror.commit(changes)
