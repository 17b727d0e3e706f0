"""What tests of the command line have around them."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cli.tools import Run, inside, sssnbus


@pytest.fixture(autouse=True)
def nothing_blocks() -> None:
    """Take the guard of the event loop away: a command writes to stdout and waits for it, by design."""


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """Let commands be interrupted, though whoever runs the tests may have put them into the background."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cli(tmp_path: Path) -> Run:
    """Return what runs a command in an empty directory, inside this process."""
    return partial(inside, cwd=tmp_path)


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """Return what runs the installed command in an empty directory, as a process."""
    return partial(sssnbus, cwd=tmp_path)
