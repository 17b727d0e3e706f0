"""The verbs of queues."""

import asyncio
import logging
from collections.abc import Sequence
from itertools import count

from sssnbus.errors import BusError, MessageConflict, NotStarted
from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import (
    Ack,
    Bury,
    Kind,
    Lease,
    Leases,
    QueueStore,
    Release,
    Selection,
    Settlement,
    Standing,
)
from sssnbus.stores.loop import outlive
from sssnbus.stores.nats.log import Logs
from sssnbus.stores.nats.logbook import Log
from sssnbus.stores.nats.mirror import Mirror
from sssnbus.stores.nats.table import ACK, CLAIM, DONE, EXTEND, GONE, RELEASE, Change, Row

_log = logging.getLogger(__name__)

_MOVING = 60.0
"""Seconds for which a message is held while it moves to another log."""


class Queues(Logs, QueueStore):
    """Queues: messages in one stream, what happens to them in another."""

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
        claiming = self._begin(self._claim, log, worker, lease, limit, select, renew)
        try:
            await outlive(claiming)
        except asyncio.CancelledError:
            if not claiming.cancelled() and claiming.exception() is None:
                await self._do(self._undo, log, claiming.result().leases)
            raise
        return claiming.result()

    async def settle(self, log: str, settlements: Sequence[Settlement]) -> list[bool]:
        """End leases; return for each whether its token was still good. A stale one changes nothing.

        What is buried is held on to, stored among the dead letters, then removed: a crash in between
        leaves it in both places, and the next burial under its id makes that one again.

        Every settlement is an entry of the journal and needs room for it: on a full server it raises
        ``StoreFull`` and the hold goes on. Free room by trimming a log, which needs none.
        """
        return await self._do(self._settle, log, settlements)

    async def extend(self, log: str, holds: Sequence[tuple[int, str]], lease: float) -> list[bool]:
        return await self._do(self._extend, log, holds, lease)

    async def peek(self, log: str, *, limit: int, select: Selection | None = None) -> list[Stored]:
        return await self._do(self._peek, log, limit, select)

    async def standing(self, log: str, sequences: Sequence[int]) -> dict[int, Standing]:
        return await self._do(self._standing, log, sequences)

    async def transfer(
        self, source: str, target: str, *, limit: int, select: Selection | None = None
    ) -> list[Stored]:
        """Move messages to the end of another declared log, oldest first, with their ids.

        They are held, stored in the target, then removed: a crash in between leaves them in both, and
        moving them again makes them one. At most 1000 move at once.
        """
        return await self._do(self._transfer, source, target, limit, select)

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
        if mirror.messages.position < log.appended:
            await mirror.messages.sync(deadline)
        while True:
            rows = table.pick(limit - len(leases), select, self._now(), self._elapsed())
            try:
                if rows:
                    leases += await self._lease(log, mirror, rows, worker, lease, renew)
            finally:
                table.unreserve(rows)
            if len(leases) >= limit or fresh:
                break
            # What others did meanwhile may have made more ready.
            fresh = True
            if await self._fresh(name, deadline) is None:
                break
        return Leases(leases, table.next_due(self._now(), self._elapsed()))

    async def _lease(
        self,
        log: Log,
        mirror: Mirror,
        rows: Sequence[Row],
        worker: str,
        lease: float,
        renew: bool,
    ) -> list[Lease]:
        """Claim messages that were picked; return those that nobody else took first."""
        owner = self.owner if renew else None
        until = self._clock.elapsed() + lease
        ends = None if renew else self._elapsed() + lease
        changes: list[Change] = [
            [CLAIM, row.sequence, row.revision, self._token(), worker, owner, ends] for row in rows
        ]
        sequences = sorted(row.sequence for row in rows)
        asked = mirror.bodies.ask(sequences)
        results = await mirror.commit(changes)
        mine = [(row, change) for row, change, done in zip(rows, changes, results, strict=True) if done]
        try:
            got = await asked
            bodies = {n: self._stored(log, got[n]) for n in sequences if n in got}
        except BaseException:
            mirror.give_back((change[1], change[3]) for _, change in mine)
            raise
        # A message that somebody took out of the stream by hand is not there for anybody.
        lost: list[Change] = [[GONE, row.sequence, None] for row, _ in mine if row.sequence not in bodies]
        if lost:
            await mirror.commit(lost)
        return [
            Lease(bodies[row.sequence], change[3], row.attempts, until, row.last_error)
            for row, change in mine
            if row.sequence in bodies
        ]

    async def _undo(self, name: str, leases: Sequence[Lease]) -> None:
        """Give back what a cancelled claim got."""
        back = [Release(lease.stored.sequence, lease.token, counted=False) for lease in leases]
        try:
            await self._settle(name, back)
        except BusError as error:
            _log.debug("A cancelled claim is given back later: %s", error)
            log = self._logs.get(name)
            if log is not None and log.mirror is not None:
                log.mirror.give_back((lease.stored.sequence, lease.token) for lease in leases)

    def _token(self) -> str:
        return f"{self.owner}-{next(self._tokens)}"

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
                await self._bury(mirror, settlement, deadline)
        return settled

    def _change(self, settlement: Settlement) -> Change:
        sequence, token = settlement.sequence, settlement.token
        if isinstance(settlement, Ack):
            return [DONE if settlement.keep else ACK, sequence, token]
        if isinstance(settlement, Bury):
            # Held for a while, whoever asks: what follows takes more than one step.
            return [EXTEND, sequence, token, self._elapsed() + _MOVING]
        rest = self._elapsed() + settlement.delay if settlement.delay > 0 else None
        return [RELEASE, sequence, token, rest, settlement.counted, settlement.error]

    async def _bury(self, mirror: Mirror, settlement: Bury, deadline: float) -> None:
        """Store a dead letter in place of an older one with its id, then let the message go."""
        draft = settlement.draft
        try:
            await self._store(draft.channel, [draft])
        except MessageConflict:
            await self._replace(draft, deadline)
        else:
            await self._replace_if_older(draft, deadline)
        await mirror.commit([[ACK, settlement.sequence, settlement.token]])

    async def _replace_if_older(self, draft: Draft, deadline: float) -> None:
        """Store a dead letter anew if the one that was there has other headers."""
        there = await self._find(draft.channel, draft.id or "")
        if there is None or there.headers != draft.headers:
            await self._replace(draft, deadline)

    async def _replace(self, draft: Draft, deadline: float) -> None:
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

    async def _transfer(self, source: str, target: str, limit: int, select: Selection | None) -> list[Stored]:
        deadline = self._deadline()
        there, origin = await self._log(target, deadline), await self._log(source, deadline)
        if there is None:
            raise NotStarted(f"Log {target!r}")
        if origin is None or limit <= 0:
            return []
        if origin.kind is Kind.QUEUE:
            return await self._move_ready(origin, there, min(limit, 1000), select, deadline)
        return await self._move_all(origin, there, min(limit, 1000), select, deadline)

    async def _move_ready(
        self, origin: Log, there: Log, limit: int, select: Selection | None, deadline: float
    ) -> list[Stored]:
        found = await self._fresh(origin.name, deadline)
        if found is None:
            return []
        mirror = found[1]
        rows = self._ready(mirror, select, limit, done=select is not None and select.ids is not None)
        done = {row.sequence: row.revision for row in rows if row.done}
        ends = self._elapsed() + _MOVING
        ready = [row for row in rows if not row.done]
        claims: list[Change] = [
            [CLAIM, row.sequence, row.revision, self._token(), "transfer", None, ends] for row in ready
        ]
        results = await mirror.commit(claims) if claims else []
        tokens = {claim[1]: claim[3] for claim, held in zip(claims, results, strict=True) if held}
        sequences = sorted(tokens.keys() | done.keys())
        try:
            bodies = await self._bodies(origin, sequences, deadline)
            moved = await self._copy(there, [bodies[n] for n in sequences if n in bodies], deadline)
        except BaseException:
            back: list[Change] = [[RELEASE, n, token, None, False, None] for n, token in tokens.items()]
            if back:
                await mirror.commit(back)
            raise
        away: list[Change] = [[ACK, n, token] for n, token in tokens.items()]
        away += [[GONE, n, revision] for n, revision in done.items()]
        if away:
            await mirror.commit(away)
        return moved

    async def _move_all(
        self, origin: Log, there: Log, limit: int, select: Selection | None, deadline: float
    ) -> list[Stored]:
        moving: list[Stored] = []
        if select is not None and select.ids is not None:
            found = await asyncio.gather(*(self._find(origin.name, id) for id in dict.fromkeys(select.ids)))
            moving = sorted((stored for stored in found if stored is not None), key=lambda one: one.sequence)
            moving = [stored for stored in moving if _within(stored, select)][:limit]
        else:
            page = await self._read(origin.name, 0, limit, None)
            while page.messages and len(moving) < limit:
                moving += [stored for stored in page.messages if select is None or _within(stored, select)]
                page = await self._read(origin.name, page.messages[-1].sequence, limit, None)
            del moving[limit:]
        moved = await self._copy(there, moving, deadline)
        await self._remove_ids(origin.name, [stored.id for stored in moving])
        return moved

    async def _copy(self, there: Log, messages: Sequence[Stored], deadline: float) -> list[Stored]:
        """Store messages in another log, all or none; return them as they stand there."""
        if not messages:
            return []
        placed = await self._store(there.name, [_as_draft(there.name, stored) for stored in messages])
        found = await self._bodies(there, sorted(place.sequence for place in placed), deadline)
        return [found[place.sequence] for place in placed if place.sequence in found]

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


def _within(stored: Stored, select: Selection) -> bool:
    _, after, before = select
    return (after is None or after < stored.id) and (before is None or stored.id < before)


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
