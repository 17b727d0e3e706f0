"""Fixtures of the Redis store: one private server for all tests that leave it alone."""

import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

# Loaded here, not by the first write of a test: what blocks the loop is looked for, and loading reads files.
import sssnbus.message  # noqa: F401
from sssnbus.stores.redis import RedisStore
from tests.servers.process import Server
from tests.servers.redis import private_server, redis_server
from tests.stores.redis.tools import opened

_numbers = count(1)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of a server: the one that SSSNBUS_TEST_REDIS_URL names, else a private one."""
    given = os.environ.get("SSSNBUS_TEST_REDIS_URL")
    if given:
        yield given
        return
    if redis_server() is None:
        pytest.skip("there is no redis-server for this platform; name one in SSSNBUS_TEST_REDIS_URL")
    with private_server(tmp_path_factory.mktemp("redis")) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def url(server_url: str) -> str:
    """Give the URL of a place on the server that is this test's own."""
    joint = "&" if urlsplit(server_url).query else "?"
    return f"{server_url}{joint}prefix=test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder for a private server, and skip where there is none."""
    if redis_server() is None:
        pytest.skip("there is no redis-server for this platform")
    return tmp_path / "redis"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    """Give a private server that a test may kill; it keeps what it has acknowledged."""
    with private_server(folder, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    """An open store with a queue ``jobs`` and a log ``events``."""
    async with opened(url) as store:
        yield store
