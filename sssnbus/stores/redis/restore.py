"""The verbs of dumps: what records there are, and putting the messages of a queue back as they stood."""

from collections.abc import Sequence
from typing import Any

from sssnbus.stored import Draft
from sssnbus.stores.base import Placed, Portable, Standing
from sssnbus.stores.redis.codec import Bytes, plain
from sssnbus.stores.redis.log import Logs, as_placed, as_rows


class Restoring(Logs, Portable):
    """Appends that are followed by what is to be known of the messages."""

    async def spaces(self) -> list[str]:
        return await self._read("A look", ("spaces",), _names)

    async def restore(self, log: str, items: Sequence[tuple[Draft, Standing]]) -> list[Placed]:
        drafts = [draft for draft, _ in items]
        rows, parts = as_rows(drafts)
        standings = [(each.state, each.attempt, each.error and plain(each.error)) for _, each in items]
        body = ("restore", log, rows, standings)
        placed = await self._write("A restoration", body, as_placed, parts)
        self._mark_all(drafts, placed)
        return placed


def _names(answer: list[Any], parts: Bytes) -> list[str]:
    # An empty list of Lua is an empty object in JSON.
    return list(answer[1])
