"""The stores that the suites of this folder run over, each with a place of its own."""

from pathlib import Path

from sssnbus.clock import Clock
from sssnbus.stores import SQLiteStore, Store
from sssnbus.testing import StoreFactory


def sqlite_at(folder: Path) -> StoreFactory:
    """Return what makes stores on one file."""

    def factory(*, clock: Clock | None = None) -> Store:
        # "process" spares the disk; what a power cut leaves is a matter of the store's own tests.
        return SQLiteStore(folder / "messages.db", durability="process", clock=clock)

    return factory
