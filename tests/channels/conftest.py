"""The stores that channels are tested over."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sssnbus import Bus
from sssnbus.stores import MemoryStore, SQLiteStore
from sssnbus.testing import ManualClock


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """Return the URL of a file that does not exist yet."""
    # "process" spares the disk; what a power cut leaves is a matter of the store's own tests.
    return f"sqlite:///{tmp_path}/x.db?durability=process"


@pytest.fixture(params=["memory", "sqlite"])
def store_url(request: pytest.FixtureRequest, file_url: str) -> str:
    """Return the URL of an empty store."""
    return "memory://" if request.param == "memory" else file_url


@pytest.fixture
async def bus(store_url: str) -> AsyncIterator[Bus]:
    """Give a started bus."""
    async with Bus(store_url) as bus:
        yield bus


@pytest.fixture
def clock() -> ManualClock:
    """Return the time that a test moves."""
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def timed(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bus]:
    """Give a started bus whose time the test moves."""
    store: MemoryStore | SQLiteStore
    if request.param == "memory":
        store = MemoryStore(clock=clock)
    else:
        store = SQLiteStore(tmp_path / "x.db", durability="process", clock=clock)
    async with Bus(store, clock=clock) as bus:
        yield bus
    await store.aclose()
