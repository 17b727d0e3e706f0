"""Handing out messages and taking them back: what many workers ask for at once goes in one statement."""

import json
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, Final

from sssnbus.clock import Clock
from sssnbus.errors import BusError, ChannelKindMismatch, StoreUnavailable
from sssnbus.stored import Stored
from sssnbus.stores.base import Ack, Bury, Kind, Lease, Leases, Release, Selection, Settlement
from sssnbus.stores.holds import Holds
from sssnbus.stores.postgres import sql
from sssnbus.stores.postgres.disowned import Disowned
from sssnbus.stores.postgres.failure import storable
from sssnbus.stores.postgres.operation import Batch, Moment, Operation

_EXTEND = 4

MOST: Final = 10_000
"""Messages that one claim gets, at most: more would keep the server and everybody here from all else."""

At = tuple[str, int]
"""A message of a queue: its log and its sequence."""


class Hand:
    """What all work of one store object has at hand."""

    def __init__(self, holds: Holds[At], disowned: Disowned, clock: Clock) -> None:
        self.holds, self.disowned, self.clock = holds, disowned, clock
        self.token = token_hex(6)
        """What its tokens begin with; the number of the batch and the place in it follow."""


class Work(Operation):
    """An operation that goes along with others like it."""

    __slots__ = ("hand", "log")

    def __init__(self, what: str, hand: Hand, log: str, size: int = 0) -> None:
        super().__init__(what, Round, size)
        self.hand, self.log = hand, log

    def unknown(self, url: str) -> BusError:
        """Say that another attempt may be made: a token settles once, and nobody has what was claimed."""
        return StoreUnavailable(
            f"Store {url} gave no answer, so the outcome of {self.what.lower()} is unknown. "
            "Trying again is safe."
        )


class Settle(Work):
    """The operation of ``settle``."""

    __slots__ = ("settlements",)

    def __init__(self, hand: Hand, log: str, settlements: Sequence[Settlement]) -> None:
        size = sum(len(each.draft.body) for each in settlements if isinstance(each, Bury))
        super().__init__("A settlement", hand, log, size)
        self.settlements = settlements


class Extend(Work):
    """The operation of ``extend``."""

    __slots__ = ("holds", "lease")

    def __init__(self, hand: Hand, log: str, holds: Sequence[tuple[int, str]], lease: float) -> None:
        super().__init__("An extension", hand, log)
        self.holds, self.lease = holds, lease


class Claim(Work):
    """The operation of ``claim``."""

    __slots__ = ("lease", "limit", "renew", "select", "worker")

    def __init__(
        self,
        hand: Hand,
        log: str,
        worker: str,
        lease: float,
        limit: int,
        select: Selection | None,
        renew: bool,
    ) -> None:
        super().__init__("A claim", hand, log)
        self.worker, self.lease, self.limit = worker, lease, min(max(limit, 0), MOST)
        self.select, self.renew = select, renew


class Round(Batch):
    """Settlements, extensions and claims of many workers. Those who claim the same way make one claim."""

    most = 512

    def call(self, owner: int, number: int, moment: Moment) -> tuple[str, list[Any]]:
        hand = self.operations[0].hand
        # Before it is sent: a lease never ends later at the server than it is thought to here.
        self._elapsed = hand.clock.elapsed()
        self._claims: list[list[Claim]] = []
        due = due_columns(hand.holds, self._elapsed)
        statement, args = self._alone() if len(self.operations) == 1 and not due[0] else ("", [])
        if not statement:
            statement, args = sql.WORK, [hand.token, *due, *self._together()]
        return statement, [owner, number, moment.wall, moment.elapsed, *args]

    def _alone(self) -> tuple[str, list[Any]]:
        """Return what takes one operation fewer statements at the server; nothing if it is not such a one."""
        (operation,) = self.operations
        if isinstance(operation, Claim) and operation.select is None and operation.limit == 1:
            self._claims = [[operation]]
            asked = operation.log, operation.lease, operation.renew, operation.worker
            return sql.CLAIM_NEXT, [operation.hand.token, *asked]
        if isinstance(operation, Settle) and len(operation.settlements) == 1:
            (settlement,) = operation.settlements
            if isinstance(settlement, Ack) and not settlement.keep:
                return sql.ACK_ONE, [operation.log, settlement.sequence, settlement.token]
        return "", []

    def _together(self) -> list[list[Any]]:
        """Return everything that is asked for, as columns."""
        settled: list[tuple[Any, ...]] = []
        dead: list[tuple[Any, ...]] = []
        claims: dict[object, list[Claim]] = {}
        for operation in self.operations:
            if isinstance(operation, Claim):
                alike = (operation.log, operation.lease, operation.renew)
                key = alike if operation.select is None else operation
                claims.setdefault(key, []).append(operation)
            elif isinstance(operation, Extend):
                settled += [
                    (operation.log, sequence, proof, _EXTEND, operation.lease, True, None)
                    for sequence, proof in operation.holds
                ]
            else:
                for settlement in operation.settlements:
                    settled.append((operation.log, *_row(settlement)))
                    if isinstance(settlement, Bury):
                        dead.append((len(settled), *_letter(settlement)))
        self._claims = list(claims.values())
        return [*_columns(settled, 7), *_columns(dead, 11), *self._asked()]

    def finish(self, rows: Sequence[Any]) -> None:
        good, plain, dues, renewed = json.loads(rows[-1][0])
        self.operations[0].hand.holds.renewed(renewed, self._elapsed)
        place, kept, refused = 0, set(good), set(plain)
        leases: list[list[Any]] = [[] for _ in self._claims]
        for row in rows[:-1]:
            leases[row["claim"] - 1].append(row)
        for operation in self.operations:
            if operation.log in refused:
                operation.error = ChannelKindMismatch(operation.log, Kind.LOG, Kind.QUEUE)
            if not isinstance(operation, Claim):
                count = len(operation.holds if isinstance(operation, Extend) else operation.settlements)
                operation.result = [place + each in kept for each in range(1, count + 1)]
                place += count
        for claims, found, due in zip(self._claims, leases, dues, strict=True):
            wait = None if due is None else max(0.0, due)
            for claim in claims:
                claim.result = Leases([self._lease(row, claim.lease) for row in found[: claim.limit]], wait)
                found = found[claim.limit :]

    def given_up(self, number: int) -> None:
        if self._claims:
            hand = self.operations[0].hand
            hand.disowned.add(number, f"{hand.token}-{number}-")

    def _lease(self, row: Any, seconds: float) -> Lease:
        _, _, _, token, attempt, error, *rest = row
        return Lease(Stored._make(rest), token, attempt, self._elapsed + seconds, error)

    def _asked(self) -> list[list[Any]]:
        """Return what is to be claimed, as columns: one row for all who ask for the same."""
        rows: list[tuple[Any, ...]] = []
        workers: list[str] = []
        for claims in self._claims:
            first = claims[0]
            select = first.select or Selection()
            ids = None if select.ids is None else json.dumps(select.ids)
            limit = sum(claim.limit for claim in claims)
            start = len(workers) + 1
            workers += [claim.worker for claim in claims for _ in range(claim.limit)]
            rows.append((first.log, limit, start, first.lease, first.renew, ids, select.after, select.before))
        return [*_columns(rows, 8), workers]


def due_columns(holds: Holds[At], now: float) -> list[list[Any]]:
    """Return what is to be renewed now, as columns: tokens, logs, sequences, seconds."""
    return _columns([(token, *hold.place, hold.seconds) for token, hold in holds.due(now)], 4)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _row(settlement: Settlement) -> tuple[Any, ...]:
    sequence, token = settlement.sequence, settlement.token
    if isinstance(settlement, Release):
        _, _, delay, counted, error = settlement
        return sequence, token, 2, delay, counted, None if error is None else storable(error)
    kind = (1 if settlement.keep else 0) if isinstance(settlement, Ack) else 3
    return sequence, token, kind, 0.0, True, None


def _letter(settlement: Bury) -> tuple[Any, ...]:
    _, id, timestamp, sender, topic, type, headers, body, crc, priority, key, _, _ = settlement.draft
    return id, timestamp, sender, topic, type, headers, body, crc, priority, key
