"""What the tests of the NATS store share."""

import asyncio
from typing import Any

from sssnbus.errors import OutcomeUnknown, StoreFull, StoreUnavailable
from sssnbus.stores.base import Kind
from sssnbus.stores.nats import Access, NATSStore, Settings
from tests.stores.nats.places import prefix


def store_at(port: int, *, timeout: float = 10.0, **settings: Any) -> NATSStore:
    """Return a store in a place of its own behind a port."""
    server = f"nats://127.0.0.1:{port}"
    access = Access(server, (server,), timeout=timeout, connect_timeout=2)
    return NATSStore(access, Settings(**{"prefix": prefix(), **settings}))


async def opened(store: NATSStore) -> NATSStore:
    """Open a store with a log ``a`` and a queue ``q``."""
    await store.open()
    await store.declare("a", Kind.LOG)
    await store.declare("q", Kind.QUEUE)
    return store


async def retried(work: Any, seconds: float = 20.0) -> Any:
    """Do something again until the store is back; the limit only fails."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await work()
            except (StoreUnavailable, OutcomeUnknown, StoreFull):
                await asyncio.sleep(0.02)
