"""What every test has around it."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

try:
    from blockbuster import BlockBuster
except ImportError:
    BlockBuster = None  # type: ignore[assignment,misc]  # a development dependency that may be missing

# How long an example takes says something of the machine only.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: for a third of the time tests wait for programs and servers."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[None]:
    """Fail a test in which the package blocks the event loop with files, sockets, locks or SQLite."""
    if BlockBuster is None:
        yield
        return
    buster = BlockBuster("sssnbus")
    buster.activate()
    # It asks for the working directory at most, and a store pins its path when it is made.
    buster.functions["os.path.abspath"].deactivate()
    # The driver looks for certificates and a password file when it connects, as the server's own clients do.
    for name in ("os.stat", "io.TextIOWrapper.read", "io.BufferedReader.read"):
        buster.functions[name].can_block_in("asyncpg/connect_utils.py", {"_parse_connect_dsn_and_args"})
    yield
    buster.deactivate()
