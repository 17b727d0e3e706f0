"""The verbs of queues."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

from sssnbus.errors import ChannelKindMismatch
from sssnbus.stored import Stored
from sssnbus.stores.base import (
    Kind,
    Lease,
    Leases,
    QueueStore,
    Release,
    Selection,
    Settlement,
    Standing,
    State,
)
from sssnbus.stores.postgres import sql
from sssnbus.stores.postgres.log import END, Logs
from sssnbus.stores.postgres.operation import Call
from sssnbus.stores.postgres.work import Claim, Extend, Settle, due_columns

_DELAYED: Final = 1
_LEASED: Final = 2
_DONE: Final = 3


class Queues(Logs, QueueStore):
    """Queues as logs with a narrow row of state for each message."""

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
        """Hand out up to ``limit`` ready messages, 10,000 at most: highest priority first, then oldest first.

        A cancelled claim that was committed already gives its messages back before it ends, without
        counting an attempt.
        """
        self._check()
        claim = Claim(self._hand, log, worker, lease, limit, select, renew)
        try:
            leases: Leases = await self._work_lane.perform(claim)
        except asyncio.CancelledError:
            if claim.result is not None and claim.result.leases:
                await self._undo_claim(log, claim.result.leases)
            raise
        if renew and leases.leases:
            self._holds.add((((log, each.stored.sequence), each) for each in leases.leases), lease)
            self._keeper.nudge(lease)
        return leases

    async def settle(self, log: str, settlements: Sequence[Settlement]) -> list[bool]:
        self._check()
        tokens = [settlement.token for settlement in settlements]
        settled: list[bool] = await self._work_lane.perform(Settle(self._hand, log, settlements))
        self._holds.drop(tokens)
        return settled

    async def extend(self, log: str, holds: Sequence[tuple[int, str]], lease: float) -> list[bool]:
        self._check()
        # Before the row says so: a renewal in between would move the end again.
        renewed = self._holds.drop([token for _, token in holds])
        extend = Extend(self._hand, log, holds, lease)
        try:
            extended: list[bool] = await self._work_lane.perform(extend)
        except BaseException:
            if extend.result is None:
                self._holds.put_back(renewed)
            raise
        return extended

    async def peek(self, log: str, *, limit: int, select: Selection | None = None) -> list[Stored]:
        chosen = select or Selection()
        moment = self._moment()
        ids = None if chosen.ids is None else list(chosen.ids)
        rows = await self._read(
            "A look", sql.PEEK, log, *moment, max(limit, 0), ids, chosen.after, chosen.before
        )
        if rows and rows[0][0] != Kind.QUEUE:
            raise ChannelKindMismatch(log, Kind(rows[0][0]), Kind.QUEUE)
        return [Stored._make(tuple(row)[1:]) for row in rows if row[1] is not None]

    async def standing(self, log: str, sequences: Sequence[int]) -> dict[int, Standing]:
        moment = self._moment()
        # Before it is asked: a lease never ends later at the server than it is told to.
        elapsed = self._clock.elapsed()
        within = [sequence for sequence in sequences if 0 < sequence <= END]
        rows = await self._read("A look", sql.STANDING, log, within, *moment)
        if rows and rows[0]["kind"] != Kind.QUEUE:
            raise ChannelKindMismatch(log, Kind(rows[0]["kind"]), Kind.QUEUE)
        # By a clock of a test the row says the end itself; by the server's, how long from now.
        ahead = elapsed if moment.elapsed is None else None
        return {row["sequence"]: _standing(row, ahead) for row in rows if row["sequence"] is not None}

    async def transfer(
        self, source: str, target: str, *, limit: int, select: Selection | None = None
    ) -> list[Stored]:
        chosen = select or Selection()
        ids = None if chosen.ids is None else json.dumps(chosen.ids)
        await self._renew_due()
        moved: list[Stored] = await self._write(
            Call(
                "A transfer",
                sql.TRANSFER,
                lambda moment: [
                    *moment,
                    self._identity.floor,
                    source,
                    target,
                    max(limit, 0),
                    ids,
                    chosen.after,
                    chosen.before,
                ],
                lambda rows: [Stored._make(tuple(row)[1:]) for row in rows[1:]],
            )
        )
        return moved

    async def _renew_due(self) -> None:
        """Renew what this store still works on before what ran out of time is taken for ready."""
        now = self._clock.elapsed()
        columns = due_columns(self._holds, now)
        if columns[0]:
            rows = await self._read("A renewal", sql.RENEW, *columns, self._moment().elapsed)
            self._holds.renewed(rows[0][0], now)

    async def _undo_claim(self, log: str, leases: Sequence[Lease]) -> None:
        releases = [Release(lease.stored.sequence, lease.token, counted=False) for lease in leases]
        await self._run_write_now(self._work_lane, Settle(self._hand, log, releases))


def _standing(row: Any, ahead: float | None) -> Standing:
    """Return what the row of a job says; ``ahead`` is our clock at the moment of a server's answer."""
    state, attempt, error, until, due = (row[name] for name in ("state", "attempts", "error", "until", "due"))
    wall, elapsed = row["wall"], row["elapsed"]
    if state == _DONE:
        return Standing(State.DONE, attempt, None, error)
    lasts = until is not None and until > elapsed
    if state == _LEASED and lasts:
        deadline = until if ahead is None else ahead + until - elapsed
        return Standing(State.LEASED, attempt, None, error, row["token"], deadline)
    if state == _DELAYED and lasts:
        return Standing(State.DELAYED, attempt, wall + until - elapsed, error)
    early = due is not None and due > wall
    # One that waits behind its key counts as ready; that it is due later is not lost.
    return Standing(
        State.DELAYED if state == _DELAYED and early else State.READY, attempt, due if early else None, error
    )
