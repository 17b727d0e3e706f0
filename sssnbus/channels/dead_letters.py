"""The messages of a channel that could not be handled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from sssnbus.channels.options import possible_ids
from sssnbus.delivery.shield import complete
from sssnbus.errors import MissingAbility
from sssnbus.stored import Stored, is_id
from sssnbus.stores.base import DEAD, ByID, LogStore, QueueStore, Selection

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage

_BATCH: Final = 1000


class DeadLetters:
    """A channel's dead letters: to look at, to send back, to throw away.

    Each carries ``metadata["dead"]``: why, after how many attempts, with which error, when.
    """

    def __init__(
        self,
        channel: str,
        store: Callable[[], Awaitable[LogStore]],
        decode: Callable[[Stored], ChannelMessage],
        returned: Callable[[Sequence[Stored]], None],
    ) -> None:
        self._channel, self._log = channel, channel + DEAD
        self._store, self._decode, self._returned = store, decode, returned

    async def list(self, *, limit: int = 100, after: int = 0) -> list[ChannelMessage]:
        """Return up to ``limit`` dead letters, oldest first.

        Args:
            limit: How many at most.
            after: Begin behind the dead letter with this ``sequence`` (they have sequences of their own).
        """
        page = await (await self._store()).read(self._log, after=after, limit=limit)
        return [self._decode(stored) for stored in page.messages]

    async def get(self, id: str) -> ChannelMessage | None:
        """Return the dead letter with this id, or None."""
        store = await self._store()
        if not isinstance(store, ByID):
            raise MissingAbility(self._channel, store.url, ["ByID"])
        stored = await store.find(self._log, id) if is_id(id) else None
        return None if stored is None else self._decode(stored)

    async def redrive(self, ids: Sequence[str] | None = None) -> int:
        """Send dead letters back to the end of their channel, with their ids; return how many.

        All of them, or those in ``ids``. They begin anew: no attempts are counted against them. In a
        broadcast channel every subscriber gets them. Done, for each thousand, in one step.
        """
        store = await self._store()
        if not isinstance(store, QueueStore):
            raise MissingAbility(self._channel, store.url, ["QueueStore"])
        select = None if ids is None else Selection(ids=tuple(possible_ids(ids)))
        total = 0
        while moved := await complete(store.transfer(self._log, self._channel, limit=_BATCH, select=select)):
            self._returned(moved)
            total += len(moved)
            if len(moved) < _BATCH:
                break
        return total

    async def purge(self, ids: Sequence[str] | None = None) -> int:
        """Remove dead letters for good, all of them or those in ``ids``; return how many."""
        store = await self._store()
        if ids is not None:
            return await store.remove(self._log, possible_ids(ids))
        last = (await store.last([self._log]))[self._log]
        return await store.trim(self._log, upto=last)
