"""One message into many queues, in one step."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sssnbus.channels import models
from sssnbus.channels.work_queue import WorkQueueChannel
from sssnbus.delivery.fanout import FanOut
from sssnbus.errors import MissingAbility
from sssnbus.stored import Envelope, Receipt
from sssnbus.stores.base import AtomicBatch, LogStore


async def spread(
    store: LogStore,
    fanout: FanOut,
    queues: Sequence[WorkQueueChannel],
    sender_id: str,
    data: object,
    envelope: Envelope,
    timeout: float | None,
) -> list[Receipt]:
    """Store one copy for each queue, all or none, making queues if need be; wake their workers here."""
    await models.load()
    drafts = [queue._drafter.draft(sender_id, data, envelope) for queue in queues]
    if len(queues) > 1 and not isinstance(store, AtomicBatch):
        raise MissingAbility(queues[0].id, store.url, ["AtomicBatch"])
    if not drafts:
        return []
    limits = {name: limit for queue in queues for name, limit in (queue._max_depth or {}).items()}
    for queue in queues:
        await queue._declare(store)
    tail = fanout.tail(store)
    try:
        places = await store.append(drafts, max_depth=limits or None, timeout=timeout)
    except asyncio.CancelledError:
        # It may have been stored all the same.
        tail.check()
        raise
    finally:
        fanout.forget(tail)
    for queue in queues:
        tail.notify(queue.id)
    return [Receipt(id, sequence, duplicate, store.durability) for id, sequence, duplicate in places]
