"""Adding messages: drafts of many operations as columns of one statement."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sssnbus.stored import Draft
from sssnbus.stores.base import Placed, Standing, State
from sssnbus.stores.postgres import letter, sql
from sssnbus.stores.postgres.failure import refusal, storable
from sssnbus.stores.postgres.lane import Identity
from sssnbus.stores.postgres.operation import Batch, Moment, Operation


class Append(Operation):
    """The operation of ``append``."""

    __slots__ = ("drafts", "identity", "max_depth")

    def __init__(
        self, drafts: Sequence[Draft], max_depth: Mapping[str, int] | None, identity: Identity
    ) -> None:
        plain = not max_depth and all(
            draft.id is None and draft.dedupe is None and draft.key is None for draft in drafts
        )
        size = sum([len(draft.body) + len(draft.headers) for draft in drafts])
        super().__init__("An append", Plain if plain else Apart, size)
        self.drafts, self.max_depth, self.identity = drafts, max_depth or {}, identity


class Plain(Batch):
    """New messages that nothing can be wrong with, as most are: a few statements for all of them."""

    most = 2048

    def call(self, owner: int, number: int, moment: Moment) -> tuple[str, list[Any]]:
        drafts = [draft for append in self.operations for draft in append.drafts]
        floor = self.operations[0].identity.floor
        rows = letter.written(drafts)
        if len(drafts) == 1:
            name, _, timestamp, sender, topic, type, headers, body, crc, priority, _, due, _ = drafts[0]
            self._places = zip([1], [0], strict=True)
            return sql.APPEND_ONE, [
                owner, number, moment.wall, floor, name, timestamp, sender, topic, type, headers, body, crc,
                priority, due, rows and rows[0],
            ]  # fmt: skip
        (name, _, timestamp, sender, topic, type, headers, body, crc, priority, _, due, _) = zip(
            *drafts, strict=True
        )
        # The place of each log in the parameters, and what it gets.
        numbers: dict[str, int] = {}
        counts: list[int] = []
        sizes: list[int] = []
        logs, places = [], []
        for each, head, text in zip(name, headers, body, strict=True):
            log = numbers.get(each)
            if log is None:
                log = numbers[each] = len(counts)
                counts.append(0)
                sizes.append(0)
            logs.append(log + 1)
            places.append(counts[log])
            counts[log] += 1
            sizes[log] += len(head) + len(text)
        self._places = zip(logs, places, strict=True)
        return sql.APPEND, [
            owner, number, moment.wall, floor, list(numbers), counts, sizes, logs, places, timestamp,
            sender, topic, type, headers, body, crc, priority, due, rows,
        ]  # fmt: skip

    def finish(self, rows: Sequence[Any]) -> None:
        firsts, stamps = json.loads(rows[0][0])
        identity = self.operations[0].identity
        for append in self.operations:
            append.result = placed = []
            for _, (log, place) in zip(append.drafts, self._places, strict=False):
                stamp = stamps[log - 1] + place
                placed.append(Placed(str(stamp), firsts[log - 1] + place))
                identity.floor = max(identity.floor, stamp)

    def apart(self) -> list[Batch]:
        """Go the careful way: somebody's log is not declared, or a made id meets a given one."""
        step = Apart.most
        operations = self.operations
        return [Apart(operations[start : start + step]) for start in range(0, len(operations), step)]


class Apart(Batch):
    """Messages with ids, keys or limits: each operation in a savepoint of its own."""

    # More savepoints than this in one transaction make every other session slower.
    most = 60

    def call(self, owner: int, number: int, moment: Moment) -> tuple[str, list[Any]]:
        rows = [(place, draft) for place, append in enumerate(self.operations) for draft in append.drafts]
        (name, id, timestamp, sender, topic, type, headers, body, crc, priority, key, due, dedupe) = zip(
            *(draft for _, draft in rows), strict=True
        )
        limits = [
            (place, log, most)
            for place, append in enumerate(self.operations)
            for log, most in append.max_depth.items()
        ]
        floor = self.operations[0].identity.floor
        return sql.APPEND_APART, [
            owner, number, moment.wall, floor, [place for place, _ in rows], name, id, timestamp, sender,
            topic, type, headers, body, crc, priority, key, due, [each and each.key for each in dedupe],
            [each and each.digest for each in dedupe], [each and each.seconds for each in dedupe],
            [place for place, _, _ in limits], [log for _, log, _ in limits], [most for _, _, most in limits],
        ]  # fmt: skip

    def finish(self, rows: Sequence[Any]) -> None:
        identity = self.operations[0].identity
        for append, (verdict, *rest) in zip(self.operations, json.loads(rows[0][0]), strict=True):
            if verdict == "refused":
                append.error = refusal(rest[0], rest[1])
                continue
            append.result = [Placed(id, sequence, duplicate) for id, sequence, duplicate in rest[0]]
            for draft, placed in zip(append.drafts, append.result, strict=True):
                if draft.id is None and not placed.duplicate:
                    identity.floor = max(identity.floor, int(placed.id))


class Restore(Append):
    """The operation of ``restore``."""

    __slots__ = ("log", "standings")

    def __init__(self, log: str, items: Sequence[tuple[Draft, Standing]], identity: Identity) -> None:
        super().__init__([draft for draft, _ in items], None, identity)
        self.what, self.group = "A restoration", Restoring
        self.log, self.standings = log, [standing for _, standing in items]


class Restoring(Apart):
    """Messages of a queue as they stood elsewhere."""

    most = 1

    def call(self, owner: int, number: int, moment: Moment) -> tuple[str, list[Any]]:
        (restore,) = self.operations
        _, parameters = super().call(owner, number, moment)
        standings = restore.standings
        return sql.RESTORE, [
            *parameters, restore.log, [each.state is State.DONE for each in standings],
            [each.attempt for each in standings],
            [None if each.error is None else storable(each.error) for each in standings],
        ]  # fmt: skip
