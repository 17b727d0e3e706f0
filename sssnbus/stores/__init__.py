"""The storage floor: what a store promises, the stores there are, and how a URL names one.

Importing this costs no driver: each store but the one in memory is loaded when it is first asked for.
"""

import typing

from sssnbus.stores.base import DEAD as DEAD
from sssnbus.stores.base import Ack as Ack
from sssnbus.stores.base import AtomicBatch as AtomicBatch
from sssnbus.stores.base import AtomicMove as AtomicMove
from sssnbus.stores.base import Bury as Bury
from sssnbus.stores.base import ByID as ByID
from sssnbus.stores.base import Catalogue as Catalogue
from sssnbus.stores.base import Counts as Counts
from sssnbus.stores.base import Delay as Delay
from sssnbus.stores.base import Fencing as Fencing
from sssnbus.stores.base import Kind as Kind
from sssnbus.stores.base import Lease as Lease
from sssnbus.stores.base import Leases as Leases
from sssnbus.stores.base import LogInfo as LogInfo
from sssnbus.stores.base import LogStore as LogStore
from sssnbus.stores.base import News as News
from sssnbus.stores.base import OrderedIDs as OrderedIDs
from sssnbus.stores.base import OrderingKey as OrderingKey
from sssnbus.stores.base import Page as Page
from sssnbus.stores.base import Placed as Placed
from sssnbus.stores.base import Portable as Portable
from sssnbus.stores.base import Priority as Priority
from sssnbus.stores.base import QueueStore as QueueStore
from sssnbus.stores.base import Record as Record
from sssnbus.stores.base import Records as Records
from sssnbus.stores.base import Release as Release
from sssnbus.stores.base import Selection as Selection
from sssnbus.stores.base import SelectiveClaim as SelectiveClaim
from sssnbus.stores.base import Settlement as Settlement
from sssnbus.stores.base import Standing as Standing
from sssnbus.stores.base import State as State
from sssnbus.stores.base import Store as Store
from sssnbus.stores.base import Usage as Usage
from sssnbus.stores.base import Wakeups as Wakeups
from sssnbus.stores.base import abilities as abilities
from sssnbus.stores.memory import MemoryStore as MemoryStore
from sssnbus.stores.registry import import_room as _import_room
from sssnbus.stores.registry import register as register
from sssnbus.stores.registry import store_from_url as store_from_url

if typing.TYPE_CHECKING:
    from sssnbus.stores.nats import NATSStore as NATSStore
    from sssnbus.stores.postgres import PostgresStore as PostgresStore
    from sssnbus.stores.redis import RedisStore as RedisStore
    from sssnbus.stores.sqlite import SQLiteStore as SQLiteStore
    from sssnbus.stores.sqlite.doctor import examine as examine
    from sssnbus.stores.sqlite.finding import Finding as Finding
    from sssnbus.stores.sqlite.finding import Level as Level

__all__ = [  # noqa: RUF022  # sorted as sorted() does, constants too
    "Ack",
    "AtomicBatch",
    "AtomicMove",
    "Bury",
    "ByID",
    "Catalogue",
    "Counts",
    "DEAD",
    "Delay",
    "Fencing",
    "Finding",
    "Kind",
    "Lease",
    "Leases",
    "Level",
    "LogInfo",
    "LogStore",
    "MemoryStore",
    "NATSStore",
    "News",
    "OrderedIDs",
    "OrderingKey",
    "Page",
    "Placed",
    "Portable",
    "PostgresStore",
    "Priority",
    "QueueStore",
    "Record",
    "Records",
    "RedisStore",
    "Release",
    "SQLiteStore",
    "Selection",
    "SelectiveClaim",
    "Settlement",
    "Standing",
    "State",
    "Store",
    "Usage",
    "Wakeups",
    "abilities",
    "examine",
    "register",
    "store_from_url",
]


_HOMES = {
    "Finding": ("sssnbus.stores.sqlite.finding", None),
    "Level": ("sssnbus.stores.sqlite.finding", None),
    "NATSStore": ("sssnbus.stores.nats", "nats"),
    "PostgresStore": ("sssnbus.stores.postgres", "postgres"),
    "RedisStore": ("sssnbus.stores.redis", "redis"),
    "SQLiteStore": ("sssnbus.stores.sqlite", None),
    "examine": ("sssnbus.stores.sqlite.doctor", None),
}
"""Where the names live that are loaded late, and the extra that they need."""

if not typing.TYPE_CHECKING:  # or else type checkers would believe in any name

    def __getattr__(name):
        if (home := _HOMES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, extra = home
        return getattr(_import_room(module, name, extra), name)
