"""The verbs of queues."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from sssnbus.stored import Stored
from sssnbus.stores.base import (
    Ack,
    Lease,
    Leases,
    QueueStore,
    Release,
    Selection,
    Settlement,
    Standing,
    State,
)
from sssnbus.stores.redis.codec import Bytes, meta_of, plain
from sssnbus.stores.redis.log import Logs, messages
from sssnbus.stores.redis.operation import Operation

_ACK, _KEEP, _RELEASE, _BURY = range(4)


class Queues(Logs, QueueStore):
    """Queues as streams, with sorted sets that say what is ready, and when the rest will be."""

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

        A cancelled claim that was applied already gives its messages back before it ends, without
        counting an attempt.

        Raises:
            OutcomeUnknown: no answer came within the time; what was handed out is free when the lease ends.
        """
        self._check()
        self._renew()
        body = ("claim", log, worker, lease, max(limit, 0), select, int(renew), next(self._tokens))
        # Before it is sent: the lease ends no earlier than this says.
        deadline = self._clock.elapsed() + lease
        operation = Operation("A claim", body, partial(_leases, deadline))
        try:
            found: Leases = await self._writer.perform(operation)
        except asyncio.CancelledError:
            if operation.result is not None and operation.result.leases:
                await self._undo_claim(log, operation.result.leases)
            raise
        if renew and found.leases:
            self._holds.add((((log, each.stored.sequence), each) for each in found.leases), lease)
            self._keeper.nudge(lease)
        return found

    async def settle(self, log: str, settlements: Sequence[Settlement]) -> list[bool]:
        self._check()
        self._renew()
        rows, parts = _settlements(settlements)
        settled = await self._write("A settlement", ("settle", log, rows), _flags, parts)
        self._holds.drop([settlement.token for settlement in settlements])
        return settled

    async def extend(self, log: str, holds: Sequence[tuple[int, str]], lease: float) -> list[bool]:
        self._check()
        self._renew()
        # Before the server is told: a renewal in between would move the end again.
        self._holds.fix([token for _, token in holds])
        return await self._write("An extension", ("extend", log, list(holds), lease), _flags)

    async def peek(self, log: str, *, limit: int, select: Selection | None = None) -> list[Stored]:
        return await self._read("A peek", ("peek", log, max(limit, 0), select), messages)

    async def standing(self, log: str, sequences: Sequence[int]) -> dict[int, Standing]:
        parse = partial(_standings, None if self._manual else self._clock.elapsed())
        return await self._read("A look", ("standing", log, list(sequences)), parse)

    async def transfer(
        self, source: str, target: str, *, limit: int, select: Selection | None = None
    ) -> list[Stored]:
        self._check()
        self._renew()
        body = ("transfer", source, target, max(limit, 0), select)
        return await self._write("A transfer", body, messages)

    async def _undo_claim(self, log: str, leases: Sequence[Lease]) -> None:
        rows, _ = _settlements([Release(each.stored.sequence, each.token, counted=False) for each in leases])
        operation = Operation("Undoing a cancelled claim", ("settle", log, rows), _flags)
        await self._writer.insist(operation, self._place.timeout)


def _settlements(settlements: Sequence[Settlement]) -> tuple[list[object], list[bytes]]:
    rows: list[object] = []
    parts: list[bytes] = []
    for each in settlements:
        if isinstance(each, Ack):
            rows.append((_KEEP if each.keep else _ACK, each.sequence, each.token))
        elif isinstance(each, Release):
            error = each.error and plain(each.error)
            rows.append((_RELEASE, each.sequence, each.token, each.delay, int(each.counted), error))
        else:
            draft = each.draft
            three = (meta_of(draft), draft.headers, draft.body)
            rows.append((_BURY, each.sequence, each.token, draft.id, *map(len, three)))
            parts += three
    return rows, parts


def _standings(now: float | None, answer: list[Any], parts: Bytes) -> dict[int, Standing]:
    """Read standings; ``now`` is our time if the ends of leases are told by the server's."""
    offset = 0.0 if now is None else now - float(answer[1])
    return {sequence: _standing(offset, *row) for sequence, row in answer[2:]}


def _standing(
    offset: float,
    state: str,
    attempt: int,
    error: str | None,
    due: str | None = None,
    token: str | None = None,
    ends: str | None = None,
) -> Standing:
    deadline = None if ends is None else float(ends) + offset
    return Standing(State(state), attempt, None if due is None else float(due), error, token, deadline)


def _flags(answer: list[Any], parts: Bytes) -> list[bool]:
    return [flag == 1 for flag in answer[1:]]


def _leases(deadline: float, answer: list[Any], parts: Bytes) -> Leases:
    _, wait, leases, rows = answer
    found = [
        Lease(stored, token, attempt, deadline, error)
        for stored, (_, token, attempt, error) in zip(parts.messages(rows), leases, strict=True)
    ]
    return Leases(found, None if wait < 0 else wait)
