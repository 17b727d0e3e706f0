"""The verbs of logs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import ByID, LogStore, Page, Placed
from sssnbus.stores.redis.codec import Bytes, meta_of
from sssnbus.stores.redis.core import Core
from sssnbus.stores.redis.operation import Operation
from sssnbus.topics import Pattern

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Bytes of messages after which an answer ends: more would keep the server from everybody else."""

LOOK: Final = 1000
"""Messages that a read by topics looks at, at most, for the same reason."""

_SEVERAL: Final = 8
"""How many patterns the server looks for; if there are more, all is read and sifted here."""


class Logs(Core, LogStore, ByID):
    """Logs as streams whose entries are named by their sequence."""

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        max_depth: Mapping[str, int] | None = None,
        timeout: float | None = None,
    ) -> list[Placed]:
        """Add messages to declared logs, all or none, and return where each one went, in their order.

        If the connection is lost the append is sent again, and applied once.

        Raises:
            OutcomeUnknown: no answer came within the time; it may have been applied, and if not may
                still be until the next write of this store is done.
        """
        self._check()
        if not drafts:
            return []
        rows, parts = as_rows(drafts)
        alone = None
        if len(drafts) == 1 and not max_depth and _is_plain(drafts[0]):
            alone = (drafts[0].channel.encode(), *parts)
        operation = Operation("An append", ("append", max_depth or None, rows), as_placed, parts, alone)
        placed: list[Placed] = await self._writer.perform(operation, timeout)
        self._mark_all(drafts, placed)
        return placed

    def _mark_all(self, drafts: Sequence[Draft], placed: Sequence[Placed]) -> None:
        for draft, place in zip(drafts, placed, strict=True):
            if not place.duplicate:
                self._mark(draft.channel, place)

    async def read(
        self, log: str, *, after: int, limit: int, upto: int | None = None, topics: Sequence[Pattern] = ()
    ) -> Page:
        if topics:
            page, _ = await self._stretch(log, after, limit, upto, topics)
            return page.only(topics)
        page, more = await self._stretch(log, after, limit, upto)
        end = page.last
        while more:
            # Too much for one answer. What comes later than the first one was asked for is no part of it.
            place = page.messages[-1].sequence
            rest, more = await self._stretch(log, place, limit - len(page.messages), min(upto or end, end))
            if rest.last < end:
                # It was dropped meanwhile, and maybe made anew.
                return rest
            there = [stored for stored in page.messages if stored.sequence > rest.floor]
            page = Page(there + rest.messages, rest.floor, end, rest.reach)
        return page

    async def _stretch(
        self, log: str, after: int, limit: int, upto: int | None, topics: Sequence[Pattern] = ()
    ) -> tuple[Page, bool]:
        """Return what one answer brings of a stretch, and whether there may be more of it."""
        look = LOOK if topics else None
        body = ("read", log, after, limit, upto, MAX_ANSWER_BYTES, look, lua_patterns(topics))
        page, more = await self._read("A read", body, _page)
        if page.messages:
            self._mark(log, page.messages[-1])
        return page, more

    async def last(self, logs: Sequence[str]) -> dict[str, int]:
        names = list(logs)
        ends: list[int] = await self._read("A look", ("last", names), values)
        return dict(zip(names, ends, strict=True))

    async def locate(self, log: str, time: float) -> int:
        return await self._read("A search", ("locate", log, _within(time)), value)

    async def find(self, log: str, id: str) -> Stored | None:
        found = await self._read("A search", ("find", log, id), messages)
        return found[0] if found else None

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

        It goes in steps, each whole, so that others can write in between. Cancelling it leaves the steps
        that were made.
        """
        removed, more = 0, True
        older = None if older_than is None else _within(older_than)
        while more:
            step = ("trim", log, upto, older, max_count, max_bytes)
            count, more = await self._write("A trim", step, values)
            removed += count
        return removed

    async def remove(self, log: str, ids: Sequence[str]) -> int:
        return await self._write("A removal", ("remove", log, list(ids)), value)


def _within(time: float) -> float:
    """Return a time whose seconds have 10 digits, as in an id; nothing was stored outside of these."""
    return min(max(time, 0.0), 9_999_999_999.0)


def lua_patterns(topics: Sequence[Pattern]) -> list[str]:
    """Return what Lua has to find in the text of ``meta_of`` if a topic fits one of some patterns.

    It may find it in another field. To look for the topic itself the script would have to decode every text.
    Nothing is to be found if there are so many that it would take too long.
    """
    wildcards = {"*": '[^."]+', ">": '[^"]+'}
    leads = sorted({pattern.lead.words for pattern in topics})
    if len(leads) > _SEVERAL:
        return []
    words = ([wildcards.get(word, word.replace("-", "%-")) for word in lead] for lead in leads)
    return [f',"{"%.".join(each)}",' for each in words]


def _is_plain(draft: Draft) -> bool:
    """Return whether there is nothing to a message but what it says."""
    special = (draft.id, draft.dedupe, draft.key, draft.due)
    return special == (None, None, None, None) and not draft.priority


def value(answer: list[Any], parts: Bytes) -> Any:
    """Return the one value of an answer."""
    return answer[1]


def messages(answer: list[Any], parts: Bytes) -> list[Stored]:
    """Return the messages of an answer."""
    return parts.messages(answer[1])


def values(answer: list[Any], parts: Bytes) -> list[Any]:
    """Return the values of an answer."""
    return answer[1:]


def _page(answer: list[Any], parts: Bytes) -> tuple[Page, bool]:
    return Page(parts.messages(answer[3]), answer[1], answer[2], answer[5]), answer[4] == 1


def as_rows(drafts: Sequence[Draft]) -> tuple[list[object], list[bytes]]:
    """Return drafts as the scripts want them: what is small, and bytes."""
    rows: list[object] = []
    parts: list[bytes] = []
    for draft in drafts:
        meta, headers, body = meta_of(draft), draft.headers, draft.body
        dedupe = draft.dedupe
        parts += (meta, headers, body)
        rows.append(
            (
                draft.channel,
                draft.id,
                len(meta),
                len(headers),
                len(body),
                draft.priority,
                draft.key,
                draft.due,
                dedupe and (dedupe.key, dedupe.digest.hex(), dedupe.seconds),
            )
        )
    return rows, parts


def as_placed(answer: list[Any], parts: Bytes) -> list[Placed]:
    """Return where messages went, of which an answer tells three values each."""
    return [Placed(answer[at], answer[at + 1], answer[at + 2] == 1) for at in range(1, len(answer), 3)]
