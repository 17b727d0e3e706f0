"""The store, put together from its abilities."""

from sssnbus.stores.base import (
    AtomicBatch,
    AtomicMove,
    Delay,
    Fencing,
    OrderedIDs,
    OrderingKey,
    Priority,
    SelectiveClaim,
)
from sssnbus.stores.redis.catalogue import Logbook
from sssnbus.stores.redis.queue import Queues
from sssnbus.stores.redis.record import Hints, Shelf
from sssnbus.stores.redis.restore import Restoring


class RedisStore(
    Queues, Logbook, Shelf, Restoring, Hints,
    OrderedIDs, AtomicBatch, AtomicMove, SelectiveClaim, Priority, Delay, OrderingKey, Fencing,
):  # fmt: skip
    """A Redis or Valkey server, shared by any number of processes on any number of hosts.

    Writes of all tasks queue up while a request is under way and go together in the next one, which the
    server applies as a whole. A request whose answer is lost is sent again and applied once. What a write
    survives is what the server's settings give, and ``durability`` says it once the store is open; that it
    survives a failover, no server says. Leases and due times go by the server's clock.

    A server does nothing else while it works on a request: claims and transfers of many thousands of messages
    at once keep everybody waiting.
    """

    promise = "with `appendfsync always` a power cut, with `no` a crash of the server; otherwise nothing"
