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
from sssnbus.stores.postgres.catalogue import Logbook
from sssnbus.stores.postgres.queue import Queues
from sssnbus.stores.postgres.record import Bells, Shelf


class PostgresStore(
    Queues, Logbook, Shelf, Bells,
    OrderedIDs, AtomicBatch, AtomicMove, SelectiveClaim, Priority, Delay, OrderingKey, Fencing,
):  # fmt: skip
    """A schema of a PostgreSQL database (13 and newer), shared by any number of processes of any number of
    hosts.

    Every change is one call of a function at the server, so it is one transaction, and no client can leave
    one open. Changes of all tasks queue up while one is under way and go together in the next. A verb that
    has begun is finished, and its commit known, before a ``CancelledError`` leaves it; one that has not is
    never applied. When a connection is lost before the answer came, the change is sent again under its
    number until the server has answered, and is applied once. Reads never wait for writes. Leases and due
    times go by the server's clock.

    Notifications carry the messages of short appends along. Any role that may connect to a database can
    listen and notify there, so they go by a random name, which is kept in a table of the namespace: only who
    may read its messages anyway, or may see the statements of others, can hear them or feign one.
    """

    promise = "what `fsync` and `synchronous_commit` give: by default a power cut"
