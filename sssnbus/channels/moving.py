"""Moving a queue's messages into another one."""

from __future__ import annotations

from sssnbus.channels.place import Place
from sssnbus.errors import ChannelKindMismatch
from sssnbus.stored import Stored
from sssnbus.stores.base import Kind, QueueStore, Selection


async def move(
    place: Place, store: QueueStore, source: str, target: str, limit: int, select: Selection | None
) -> list[Stored]:
    """Move messages, making the target if need be, and wake whoever waits for them in this process."""
    recorded = await place.catalogue.declare(target, Kind.QUEUE)
    if recorded is not Kind.QUEUE:
        raise ChannelKindMismatch(target, recorded.value, Kind.QUEUE.value)
    moved = await store.transfer(source, target, limit=limit, select=select)
    if moved:
        place.tail.notify(target, len(moved))
        # The head of an ordering key may have left, which makes the next one ready.
        place.tail.notify(source)
    return moved
