"""The verbs of logs."""

from collections.abc import Mapping, Sequence
from typing import Final

from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import ByID, LogStore, Page, Placed
from sssnbus.stores.postgres import sql
from sssnbus.stores.postgres.append import Append
from sssnbus.stores.postgres.core import Core
from sssnbus.stores.postgres.operation import Call
from sssnbus.topics import Pattern

STEP: Final = 1000
"""Rows that one call removes at most, as the functions have it."""

LOOK: Final = 10_000
"""Messages that a read by topics looks at, at most."""

END: Final = 2**40 - 1
"""The highest sequence there can be."""


class Logs(Core, LogStore, ByID):
    """Logs as stretches of one table."""

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        max_depth: Mapping[str, int] | None = None,
        timeout: float | None = None,
    ) -> list[Placed]:
        """Add messages to declared logs, all or none, and return where each one went, in their order.

        Made ids are 19 digits by the server's clock; they rise in each log, and in all that one store
        object adds.

        Raises:
            OutcomeUnknown: the server went away before it answered, and did not come back in time to tell.
        """
        self._check()
        if not drafts:
            return []
        placed: list[Placed] = await self._log_lane.perform(
            Append(drafts, max_depth, self._identity), timeout
        )
        newest = {
            draft.channel: place for draft, place in zip(drafts, placed, strict=True) if not place.duplicate
        }
        for log, place in newest.items():
            self._marks.see(log, place.sequence, place.id)
        return placed

    async def read(
        self, log: str, *, after: int, limit: int, upto: int | None = None, topics: Sequence[Pattern] = ()
    ) -> Page:
        bounds = min(max(after, 0), END), END if upto is None else min(max(upto, 0), END), max(limit, 0)
        if topics:
            rows = await self._read("A read", sql.PAGE_ON_TOPICS, log, *bounds, LOOK - 1, expression(topics))
        else:
            rows = await self._read("A read", sql.PAGE, log, *bounds)
        if not rows:
            return Page([], 0, 0, max(after, 0))
        number, floor, last, end = tuple(rows[0])[:4]
        messages = [Stored._make(tuple(row)[4:]) for row in rows if row[4] is not None]
        self._marks.know(log, number)
        if messages:
            self._marks.see(log, messages[-1].sequence, messages[-1].id)
        return Page.of(messages, floor, last, after=after, limit=limit, end=end).only(topics)

    async def last(self, logs: Sequence[str]) -> dict[str, int]:
        rows = await self._read("A read", sql.LAST, list(logs))
        for name, _, number in rows:
            self._marks.know(name, number)
        return dict.fromkeys(logs, 0) | {row[0]: row[1] for row in rows}

    async def locate(self, log: str, time: float) -> int:
        rows = await self._read("A search", sql.LOCATE, log, _within(time))
        sequence: int = rows[0][0]
        return sequence

    async def find(self, log: str, id: str) -> Stored | None:
        rows = await self._read("A search", sql.FIND, log, id)
        return Stored._make(rows[0]) if rows else None

    async def trim(
        self,
        log: str,
        *,
        upto: int | None = None,
        older_than: float | None = None,
        max_count: int | None = None,
        max_bytes: int | None = None,
    ) -> int:
        """Remove from the old end whatever any given bound rules out; return how many went.

        It goes in steps, each a whole transaction, so that others can write in between. Cancelling it
        leaves the steps that were made.
        """
        removed = 0
        older = None if older_than is None else _within(older_than)
        while True:
            step: int = await self._write(
                Call(
                    "A trim",
                    sql.TRIM,
                    lambda _: [log, upto, older, max_count, max_bytes],
                    lambda rows: int(rows[0][0]),
                )
            )
            removed += step
            if step < STEP:
                return removed

    async def remove(self, log: str, ids: Sequence[str]) -> int:
        gone: int = await self._write(
            Call("A removal", sql.REMOVE, lambda _: [log, list(ids)], lambda rows: int(rows[0][0]))
        )
        return gone


def _within(time: float) -> float:
    """Return a time whose nanoseconds the server can count; nothing was stored outside of these."""
    return min(max(time, 0.0), 9e9)


def expression(topics: Sequence[Pattern]) -> str:
    """Return a regular expression for what matches at least one of some patterns, and maybe a little more.

    The words of a pattern hold nothing that means something else to the server, and those of a topic no dots.
    """
    wildcards = {"*": "[^.]+", ">": ".+"}
    leads = sorted({pattern.lead.words for pattern in topics})
    either = "|".join(r"\.".join(wildcards.get(word, word) for word in lead) for lead in leads)
    return f"^({either})$"
