"""Fixtures of the NATS store: one private server for all tests, a place of its own for each."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sssnbus.stores.nats import NATSStore
from sssnbus.testing import StoreFactory
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.stores.nats.places import binary, given, nats_at, server_in


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the server is that most tests share: host and port."""
    there = given()
    if there is not None:
        yield there
        return
    if binary() is None:
        pytest.skip("there is no nats-server for this platform: install one, or name one by the environment")
    with server_in(tmp_path_factory.mktemp("nats")) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
async def proxy(address: str) -> AsyncIterator[Proxy]:
    """Give a proxy before the shared server."""
    host, _, port = address.partition(":")
    async with Proxy(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Give a server that the test may kill."""
    if binary() is None:
        pytest.skip("there is no nats-server for this platform")
    with server_in(tmp_path) as server:
        yield server


@pytest.fixture
def place(address: str) -> StoreFactory:
    """Make stores that share one place, which was empty at first."""
    return nats_at(address)


@pytest.fixture
async def store(place: StoreFactory) -> AsyncIterator[NATSStore]:
    """Give an open store."""
    store = place()
    assert isinstance(store, NATSStore)
    await store.open()
    yield store
    await store.aclose()
