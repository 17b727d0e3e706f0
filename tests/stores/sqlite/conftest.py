"""Fixtures of the SQLite store."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sssnbus.stores.sqlite import SQLiteStore
from tests.stores.sqlite.tools import opened


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the doorbells of a test hang. Its name is short, as addresses of sockets have to be."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


@pytest.fixture
def path(tmp_path: Path, runtime: Path) -> Path:
    """Where the database of a test lies."""
    return tmp_path / "messages.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store with a queue ``jobs`` and a log ``events``."""
    async with opened(path) as store:
        yield store
