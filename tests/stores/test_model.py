"""Random work on every store ends as it does on a plain model."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from sssnbus.errors import MessageConflict
from sssnbus.stored import Draft
from sssnbus.stores import Leases, MemoryStore, Placed, Selection
from sssnbus.testing import StoreFactory
from sssnbus.testing.machine import store_machine
from tests.stores.places import sqlite_at
from tests.stores.tools import runs


def memory() -> AbstractContextManager[StoreFactory]:
    """Return a place for memory stores, of which each is on its own."""
    return nullcontext(MemoryStore)


@contextmanager
def sqlite() -> Iterator[StoreFactory]:
    """Give a folder for one run."""
    with tempfile.TemporaryDirectory() as folder:
        yield sqlite_at(Path(folder))


def test_memory() -> None:
    """The memory store does what the model does."""
    run_state_machine_as_test(store_machine(memory), settings=runs(60, 40))


def test_sqlite() -> None:
    """The SQLite store does what the model does, closed and reopened in between."""
    run_state_machine_as_test(store_machine(sqlite, shared=True, renewed=False), settings=runs(25, 30))


class Endless(MemoryStore):
    """A store whose leases never end."""

    async def claim(
        self,
        log: str,
        *,
        worker: str,
        lease: float,
        limit: int = 1,
        select: Selection | None = None,
        renew: bool = True,
    ) -> Leases:
        """Renew what should end."""
        return await super().claim(log, worker=worker, lease=lease, limit=limit, select=select)


class Merging(MemoryStore):
    """A store that takes another message under a known id for the same one."""

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        max_depth: Mapping[str, int] | None = None,
        timeout: float | None = None,
    ) -> list[Placed]:
        """Forget what should be refused."""
        try:
            return await super().append(drafts, max_depth=max_depth)
        except MessageConflict:
            return []


@pytest.mark.parametrize("broken", [Endless, Merging])
def test_broken_stores_are_found(broken: type[MemoryStore]) -> None:
    """The random work is hard enough to tell a wrong store from a right one."""
    hunt = settings(runs(200, 40), phases=[Phase.generate], derandomize=True, database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(store_machine(lambda: nullcontext(broken)), settings=hunt)


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_memory_for_long() -> None:
    """The memory store does what the model does, over and over."""
    run_state_machine_as_test(store_machine(memory), settings=runs(2000, 60))


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_sqlite_for_long() -> None:
    """The SQLite store does what the model does, over and over."""
    run_state_machine_as_test(store_machine(sqlite, shared=True, renewed=False), settings=runs(200, 40))
