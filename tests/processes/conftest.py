"""What the tests across processes share: one file, and children that end with the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.crew import Crew, crew_at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database of the test is, or will be."""
    return tmp_path / "bus.db"


@pytest.fixture
def crew(path: Path) -> Iterator[Crew]:
    """Start processes on the database; those that still run when the test ends are killed."""
    with crew_at(f"sqlite:///{path}") as crew:
        yield crew
