"""What a subscription is made of: where it reads from, how it wants its messages, what it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sssnbus.clock import Clock
from sssnbus.delivery.fanout import FanOut
from sssnbus.delivery.head import Decode, Head
from sssnbus.errors import InvalidOption, MissingAbility, UnknownMessage
from sssnbus.settings import OnFull, Retry
from sssnbus.stored import Stored, is_id
from sssnbus.stores.base import ByID, LogStore, Store
from sssnbus.topics import Pattern

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage

Handler = Callable[["ChannelMessage"], Awaitable[object]]
"""What a subscriber hands in: an ``async def`` function of one message."""

Start = str | int | datetime
"""Where a subscription begins: "new", "earliest", or a message given by id, sequence or time."""


@dataclass(frozen=True, slots=True)
class Lagged:
    """Notice: the buffer was full, and ``count`` messages were dropped here by the chosen policy."""

    count: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Notice: the messages from sequence ``first`` to ``last`` were removed before they were read."""

    first: int
    last: int


Notice = Lagged | Gap


@dataclass(frozen=True, slots=True)
class Terms:
    """How one subscription wants its messages."""

    patterns: tuple[Pattern, ...]
    """Which topics are wanted; all messages if there are none."""
    buffer: int
    on_full: OnFull
    concurrency: int
    timeout: float | None
    on_notice: Callable[[Notice], Awaitable[object]] | None
    retry: Retry
    max_deliveries: int | None


@dataclass(frozen=True, slots=True)
class Feed:
    """Where the subscriptions of one started channel get their messages from."""

    channel: str
    store: LogStore
    head: Head
    fanout: FanOut
    clock: Clock
    decode: Decode

    async def last(self) -> int:
        """Return the sequence of the newest message."""
        return (await self.store.last([self.channel]))[self.channel]

    async def position(self, start: Start) -> int:
        """Return the sequence after which ``start`` begins.

        Raises:
            UnknownMessage: it is an id that the channel does not hold.
            InvalidOption: it is a sequence beyond the end, or a time without a zone.
        """
        return await position_of(self.store, self.channel, start)

    async def sequence_of(self, id: str) -> int:
        """Return the sequence of the message with this id; raise ``UnknownMessage`` if there is none."""
        return (await find(self.store, self.channel, id)).sequence


async def position_of(store: LogStore, channel: str, start: Start) -> int:
    """Return the sequence after which ``start`` begins; see ``Feed.position``."""
    if start == "earliest":
        return (await store.read(channel, after=0, limit=1)).floor
    if isinstance(start, str) and start != "new":
        return (await find(store, channel, start)).sequence - 1
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise InvalidOption("start", start, "a time needs a zone, as datetime.now(UTC) has")
        return await store.locate(channel, start.timestamp())
    if start != "new" and (type(start) is not int or start < 1):
        raise InvalidOption(
            "start", start, 'it must be "new", "earliest", a message id, a sequence from 1 or a datetime'
        )
    last = (await store.last([channel]))[channel]
    if isinstance(start, str):
        return last
    if start > last + 1:
        raise InvalidOption("start", start, "the channel has not come that far")
    return start - 1


async def find(store: Store, channel: str, id: str) -> Stored:
    """Return the message with this id; raise ``UnknownMessage`` if there is none."""
    if not isinstance(store, ByID):
        raise MissingAbility(channel, store.url, ["ByID"])
    stored = await store.find(channel, id) if is_id(id) else None
    if stored is None:
        raise UnknownMessage(channel, id)
    return stored
