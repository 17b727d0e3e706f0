"""Reading by topics: the server finds the messages, for their topics stand in their subjects.

It is asked for the next message on a subject, one at a time: asked for many at once it counts, each time, all
that are to come. Where matches stand close together a whole stretch comes faster, and is sifted here.

How far the server looks for the next one cannot be bounded: it takes about a tenth of a second for a million
messages, and meanwhile it writes nothing to that stream.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from sssnbus.stores.nats.fetch import PAGE, Got, following, stretch
from sssnbus.stores.nats.link import Link
from sssnbus.stores.nats.logbook import Log
from sssnbus.stores.nats.names import Names
from sssnbus.topics import Pattern, matcher

LOOK: Final = 1024
"""Messages that one read brings here, at most."""

_SEVERAL: Final = 8
"""How many patterns the server is asked about; if there are more, all is read and sifted."""

_CLOSE: Final = 3
"""Sequences to a match up to which stretches are read."""

_LEAST: Final = 16
"""Messages that a stretch may have, however few are wanted."""


class Sift:
    """One read of the messages of a log whose topics match."""

    def __init__(
        self, link: Link, names: Names, log: Log, topics: Sequence[Pattern], deadline: float
    ) -> None:
        self._link, self._names, self._log, self._deadline = link, names, log, deadline
        leads = {pattern.lead for pattern in topics}
        self._matches = matcher(leads)
        self._asks = len(leads) <= _SEVERAL
        self._ahead: dict[str, Got | None] = {names.on_topic(log.hash, lead.text): None for lead in leads}

    async def read(self, after: int, limit: int, upto: int) -> tuple[list[Got], int]:
        """Return the oldest messages that may match, ``limit`` or a few more, and up to where it looked."""
        found: list[Got] = []
        brought, run = 0, 0 if self._asks else PAGE
        while after < upto and len(found) < limit and brought < LOOK:
            begun = after
            if run:
                page, after = await self._stretch(after, min(run, max(limit - len(found), _LEAST)), upto)
                brought += len(page)
                page = [got for got in page if self._matches(self._names.identified(got.subject)[1])]
            else:
                got = await self._next(after)
                page = [got] if got is not None and got.sequence <= upto else []
                after = page[0].sequence if page else upto
                brought += 1
            found += page
            if self._asks:
                close = after - begun <= _CLOSE * len(page)
                run = min(max(4, 2 * run), PAGE) if close else 0
        return found, after

    async def _stretch(self, after: int, count: int, upto: int) -> tuple[list[Got], int]:
        log = self._log
        page = await stretch(self._link, log.stream, after, count, upto, log.direct, self._deadline)
        return page, page[-1].sequence if len(page) == count else upto

    async def _next(self, after: int) -> Got | None:
        """Return the oldest message behind a sequence on any of the subjects."""
        log, ahead = self._log, self._ahead
        passed = [subject for subject, got in ahead.items() if got is None or got.sequence <= after]
        found = await asyncio.gather(
            *(
                following(self._link, log.stream, subject, after, log.direct, self._deadline)
                for subject in passed
            )
        )
        for subject, got in zip(passed, found, strict=True):
            if got is None:
                del ahead[subject]
            else:
                ahead[subject] = got
        return min(filter(None, ahead.values()), key=lambda got: got.sequence, default=None)
