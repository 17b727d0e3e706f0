"""Reading a broadcast channel at one's own pace: each reader has a place of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sssnbus.delivery.feed import Feed, Gap
from sssnbus.delivery.record import understood
from sssnbus.delivery.shield import Turns
from sssnbus.errors import InvalidOption, MissingAbility, StoreReset
from sssnbus.stores.base import Record, Records
from sssnbus.topics import Pattern

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage


class History(list["ChannelMessage"]):
    """What ``read`` returns: the messages, oldest first, and whether some were gone already."""

    gap: Gap | None

    def __init__(self, messages: Iterable[ChannelMessage], gap: Gap | None) -> None:
        super().__init__(messages)
        self.gap = gap
        """The sequences between the reader's place and the first message that were removed unread."""


def reader_space(channel: str) -> str:
    """Return the name space that keeps the places of a channel's durable readers."""
    return f"reader:{channel}"


@dataclass
class _Reader:
    position: int | None = None
    record: Record | None = None
    durable: bool = False
    turns: Turns = field(default_factory=lambda: Turns("Reader"))


class Readers:
    """The places of a channel object's readers."""

    def __init__(self) -> None:
        self._readers: dict[str, _Reader] = {}

    def position(self, consumer: str) -> int | None:
        """Return where a reader stands, or None if it has not read through this object."""
        reader = self._readers.get(consumer)
        return None if reader is None else reader.position

    async def read(
        self,
        feed: Feed,
        consumer: str,
        limit: int,
        after: str | int | None,
        topics: Sequence[Pattern],
        durable: bool,
    ) -> History:
        """Return what comes next for a reader, and move its place behind it."""
        reader = self._readers.setdefault(consumer, _Reader())
        # Two tasks that read as one consumer share its place: each message goes to one of them.
        async with reader.turns.next():
            if durable:
                await self._keep(feed, consumer, reader)
            start = reader.position
            if after is not None:
                start = await _place(feed, after)
            history, reader.position = await _page(feed, start, limit, topics)
            return history

    async def _keep(self, feed: Feed, consumer: str, reader: _Reader) -> None:
        """Save the place as it was before this read; take it over from the store the first time."""
        store = feed.store
        if not isinstance(store, Records):
            raise MissingAbility(feed.channel, store.url, ["Records"])
        space = reader_space(feed.channel)
        if not reader.durable:
            reader.record = await store.get(space, consumer)
            if reader.record is not None and reader.position is None:
                what = f"The place of the durable reader {consumer!r} of channel {feed.channel!r}"
                remedy = "Read by another name, with after= where it is to go on."
                reader.position = understood(reader.record.value, int, what, remedy)
            reader.durable = True
        while reader.position is not None:
            value = str(reader.position).encode()
            if reader.record is not None and reader.record.value == value:
                return
            version = None if reader.record is None else reader.record.version
            version = await store.put(space, consumer, value, version=version)
            if version is not None:
                reader.record = Record(value, version)
                return
            reader.record = await store.get(space, consumer)


async def _place(feed: Feed, after: str | int) -> int:
    if isinstance(after, str):
        return await feed.sequence_of(after)
    if type(after) is not int or not 0 <= after <= await feed.last():
        rule = "it must be a message id, or a sequence that the channel has reached"
        raise InvalidOption("after", after, rule)
    return after


async def _page(feed: Feed, start: int | None, limit: int, topics: Sequence[Pattern]) -> tuple[History, int]:
    messages: list[ChannelMessage] = []
    gap = None
    position = start or 0
    while len(messages) < limit:
        wanted = limit - len(messages)
        page = await feed.store.read(feed.channel, after=position, limit=wanted, topics=topics)
        if position > page.last:
            raise StoreReset(feed.channel, position, page.last)
        if page.floor > position and start is not None and gap is None:
            gap = Gap(position + 1, page.floor)
        decoded = map(feed.decode, page.messages)
        messages += [message for message in decoded if message is not None]
        position = page.reach
        if position >= page.last:
            break
        if not page.messages:
            # A store in memory does not wait for anything, and a long history may hold nothing that matches.
            await asyncio.sleep(0)
    return History(messages, gap), position
