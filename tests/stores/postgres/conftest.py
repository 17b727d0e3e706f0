"""Fixtures of the PostgreSQL store: one private server for all tests, a namespace for each."""

import asyncio
import gc
import os
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from sssnbus.stores import PostgresStore
from tests.servers.postgres import PostgresServer, programs
from tests.stores.postgres.tools import Site, opened

_numbers = count(1)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Return the URL of a server's database, without options."""
    given = os.environ.get("SSSNBUS_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    if programs() is None:
        pytest.skip("no PostgreSQL server for this platform; name one in SSSNBUS_TEST_POSTGRES_URL")
    # A short path: addresses of sockets have to be. Open to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="sssnbus-pg-") as folder:
        os.chmod(folder, 0o755)
        # What a power cut leaves is the server's matter, so most tests spare the disk.
        server = PostgresServer(Path(folder), "fsync=off")
        server.start()
        yield server.url
        server.kill()


@pytest.fixture
def site(address: str) -> Iterator[Site]:
    """Return a namespace of its own."""
    site = Site(address, f"test_{os.getpid()}_{next(_numbers)}")
    yield site
    # A private server ends with the tests, and everything on it.
    if os.environ.get("SSSNBUS_TEST_POSTGRES_URL"):
        asyncio.run(site.remove())


@pytest.fixture
async def store(site: Site) -> AsyncIterator[PostgresStore]:
    """An open store with a queue ``jobs`` and a log ``events``."""
    async with opened(site) as store:
        yield store


@pytest.fixture(scope="session")
def victim() -> Iterator[PostgresServer]:
    """Give a server that tests may kill."""
    if programs() is None:
        pytest.skip("no PostgreSQL server for this platform")
    with tempfile.TemporaryDirectory(prefix="sssnbus-pg-") as folder:
        os.chmod(folder, 0o755)
        server = PostgresServer(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def own_server(victim: PostgresServer) -> Iterator[PostgresServer]:
    """Give a server that a test may kill; it runs when the test begins."""
    yield victim
    victim.stop()
    victim.start()
    # Of a server that dies while it is being connected to, the driver may leave a socket to the garbage
    # collector; what that says must not fall into another test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
