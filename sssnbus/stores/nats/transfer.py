"""Moving messages to another log, in steps that can be repeated."""

import asyncio
from collections.abc import Sequence

from sssnbus.errors import NotStarted
from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import Kind, Selection
from sssnbus.stores.nats.append import MAX_BATCH
from sssnbus.stores.nats.change import ACK, CLAIM, GONE, RELEASE, Change
from sssnbus.stores.nats.logbook import Log
from sssnbus.stores.nats.queue import MOVING, Queues


class Transfers(Queues):
    """The verb ``transfer``."""

    async def transfer(
        self, source: str, target: str, *, limit: int, select: Selection | None = None
    ) -> list[Stored]:
        """Move messages to the end of another declared log, oldest first, with their ids.

        They are held, stored in the target, then removed: a crash in between leaves them in both, and
        moving them again makes them one. At most 1000 go together; those of an earlier step stay moved if a
        later one fails.
        """
        moved: list[Stored] = []
        while True:
            count = min(limit - len(moved), MAX_BATCH)
            step = await self._do(self._transfer, source, target, count, select)
            moved += step
            if len(step) < MAX_BATCH:
                return moved

    async def _transfer(self, source: str, target: str, limit: int, select: Selection | None) -> list[Stored]:
        deadline = self._deadline()
        there, origin = await self._log(target, deadline), await self._log(source, deadline)
        if there is None:
            raise NotStarted(f"Log {target!r}")
        if origin is None or limit <= 0:
            return []
        if origin.kind is Kind.QUEUE:
            return await self._move_ready(origin, there, limit, select, deadline)
        return await self._move_all(origin, there, limit, select, deadline)

    async def _move_ready(
        self, origin: Log, there: Log, limit: int, select: Selection | None, deadline: float
    ) -> list[Stored]:
        found = await self._fresh(origin.name, deadline)
        if found is None:
            return []
        mirror = found[1]
        rows = self._ready(mirror, select, limit, done=select is not None and select.ids is not None)
        done = {row.sequence: row.revision for row in rows if row.done}
        ends = self._elapsed() + MOVING
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
