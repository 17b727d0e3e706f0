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
from sssnbus.stores.sqlite.catalogue import Logbook
from sssnbus.stores.sqlite.queue import Queues
from sssnbus.stores.sqlite.record import Doorbells, Shelf
from sssnbus.stores.sqlite.restore import Restoring


class SQLiteStore(
    Queues, Logbook, Shelf, Restoring, Doorbells,
    OrderedIDs, AtomicBatch, AtomicMove, SelectiveClaim, Priority, Delay, OrderingKey, Fencing,
):  # fmt: skip
    """One SQLite file, shared by any number of processes of one machine, with no server.

    Writes of all tasks queue up while a commit is under way and go together in the next one. A verb that
    has begun is finished, and its commit known, before a ``CancelledError`` leaves it; one that has not
    is never applied. Reads never wait for writes. The file must not lie on a network file system.
    """

    promise = "a power cut; with `durability=process` a crash"
