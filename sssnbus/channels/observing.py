"""Looking on while a queue is at work: each message once, and nothing claimed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sssnbus.channels.place import Place
from sssnbus.clock import Clock, Timer
from sssnbus.delivery.feed import Start, position_of
from sssnbus.delivery.policy import PAGE
from sssnbus.errors import ClosedError, StoreReset
from sssnbus.stored import Stored
from sssnbus.stores.base import QueueStore, Selection, Standing, State

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage

_LEASED_NOW: Final = float("-inf")
"""Stands for no time at all: a leased message may be given back at any moment."""

_PAUSE: Final = 0.02
"""Seconds to wait by the machine's clock when by ours it is time, and by the store's not yet."""


@dataclass(frozen=True, slots=True)
class View:
    """What an observer wants to see."""

    start: Start
    ready: bool
    follow: bool
    bounds: Selection


class Observation:
    """One look at a queue, from a place in it onwards."""

    def __init__(
        self,
        queue: str,
        place: Place,
        store: QueueStore,
        clock: Clock,
        decode: Callable[[Stored], ChannelMessage | None],
    ) -> None:
        self._queue, self._place, self._store, self._clock = queue, place, store, clock
        self._decode = decode
        self._news = asyncio.Event()
        self._closed = False
        self._position = 0
        self._passed: dict[int, float] = {}
        """What was not ready when its turn came, and when, on the wall clock, to look at it again."""
        self._wake_at: float | None = None
        """When to look again although nobody rings, on ``Clock.elapsed``."""
        self._end_listening = place.tail.listen(queue, lambda _: self._news.set())

    def close(self) -> None:
        """Let it end. Idempotent."""
        if not self._closed:
            self._closed = True
            self._end_listening()
            self._news.set()

    async def messages(self, view: View) -> AsyncGenerator[ChannelMessage, None]:
        """Yield messages until this is closed, or the end is reached and nobody wants to follow."""
        try:
            self._position = await position_of(self._store, self._queue, view.start)
            while not self._closed:
                self._news.clear()
                found = await self._found(view)
                for stored in found:
                    message = self._decode(stored) if _within(stored.id, view.bounds) else None
                    if message is not None:
                        yield message
                if found is _END:
                    if not view.follow:
                        return
                    await self._wait()
        except ClosedError:
            if not self._closed:
                raise

    async def _found(self, view: View) -> Sequence[Stored]:
        """Return the next messages to show, ``_END`` if there is nothing more now."""
        self._wake_at = None
        if self._passed and (again := await self._ready_since()):
            return again
        page = await self._store.read(self._queue, after=self._position, limit=PAGE)
        if page.last < self._position:
            raise StoreReset(self._queue, self._position, page.last)
        if not page.messages:
            return _END
        self._position = page.messages[-1].sequence
        if not view.ready:
            return page.messages
        standings = await self._store.standing(self._queue, [stored.sequence for stored in page.messages])
        return [stored for stored in page.messages if self._is_ready(stored.sequence, standings)]

    def _is_ready(self, sequence: int, standings: dict[int, Standing]) -> bool:
        """Return whether a message is to be shown now; remember it if it may be later."""
        standing = standings.get(sequence)
        self._passed.pop(sequence, None)
        if standing is None or standing.state is State.DONE:
            return False
        if standing.state is State.READY:
            return True
        self._passed[sequence] = _LEASED_NOW
        if standing.state is State.DELAYED and standing.due is not None:
            self._passed[sequence] = standing.due
            self._wake_after(standing.due - self._clock.time())
        elif standing.deadline is not None:
            self._wake_after(standing.deadline - self._clock.elapsed())
        return False

    async def _ready_since(self) -> list[Stored]:
        """Return messages that were passed over and are ready by now."""
        now, found = self._clock.time(), []
        look = sorted(sequence for sequence, due in self._passed.items() if due <= now)
        for due in self._passed.values():
            if due > now:
                self._wake_after(due - now)
        for start in range(0, len(look), PAGE):
            some = look[start : start + PAGE]
            standings = await self._store.standing(self._queue, some)
            for sequence in some:
                if self._is_ready(sequence, standings):
                    found += (
                        await self._store.read(self._queue, after=sequence - 1, limit=1, upto=sequence)
                    ).messages
        return found

    def _wake_after(self, seconds: float) -> None:
        at = self._clock.elapsed() + seconds
        self._wake_at = at if self._wake_at is None else min(at, self._wake_at)

    async def _wait(self) -> None:
        """Wait for news, or until time alone may have made something ready: no bell rings for that."""
        self._place.fanout.check()
        timer: Timer | None = None
        if self._wake_at is not None:
            left = self._wake_at - self._clock.elapsed()
            if left > 0:
                timer = self._clock.call_later(left, self._news.set)
            else:
                timer = asyncio.get_running_loop().call_later(_PAUSE, self._news.set)
        try:
            await self._news.wait()
        finally:
            if timer is not None:
                timer.cancel()


_END: Final[tuple[Stored, ...]] = ()


def _within(id: str, bounds: Selection) -> bool:
    return (bounds.after is None or id > bounds.after) and (bounds.before is None or id < bounds.before)
