"""The store, put together from its abilities."""

import asyncio
from itertools import count

from sssnbus.clock import Clock
from sssnbus.stores.base import Delay, Fencing, OrderingKey, Priority, SelectiveClaim
from sssnbus.stores.nats.access import Access
from sssnbus.stores.nats.append import MAX_FLYING
from sssnbus.stores.nats.portable import Restoring
from sssnbus.stores.nats.settings import Settings
from sssnbus.stores.nats.transfer import Transfers
from sssnbus.stores.watchers import Watchers


class NATSStore(Transfers, Restoring, SelectiveClaim, Priority, Delay, OrderingKey, Fencing):
    """A server or cluster of NATS with JetStream, shared by any number of processes of any machine.

    A log is a stream, a topic is the end of a message's subject, a sequence is the stream's own. What
    happens to the messages of a queue stands in a second stream, its journal; every process that works on
    the queue follows it. Several logs cannot be written to as one, and a move to another log is several
    steps, so ``AtomicBatch`` and ``AtomicMove`` are missing.
    """

    promise = "a crash of the server; a power cut where it runs with `sync_interval: always`"

    def __init__(
        self, access: Access, settings: Settings | None = None, *, clock: Clock | None = None
    ) -> None:
        """Name a store; it is used after ``open``. ``store_from_url`` makes one from a URL.

        Args:
            access: How its server is reached.
            settings: What it is told.
            clock: Takes the place of the server's clock if it is not the machine's: for tests.
        """
        super().__init__(access, settings or Settings(), clock=clock)
        self._logs = {}
        self._dead = set()
        self._seen = {}
        self._watchers = Watchers()
        self._tokens = count(1)
        self._turns = asyncio.Semaphore(MAX_FLYING)
