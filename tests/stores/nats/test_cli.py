"""The command line on a store of NATS."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.cli.tools import Result, inside
from tests.stores.nats.places import prefix

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def nothing_blocks() -> None:
    """Take the guard of the event loop away: a command writes to stdout and waits for it, by design."""


@pytest.fixture
def cli(address: str, tmp_path: Path) -> Run:
    """Return what runs a command on an empty place."""
    return partial(inside, "--url", f"nats://{address}?prefix={prefix()}", cwd=tmp_path)


def test_queues(cli: Run) -> None:
    """Messages are written, claimed, acked, read, moved, counted and listed."""
    for text in ("one", "two", "three"):
        assert cli("write", "jobs", text).code == 0
    claimed = json.loads(cli("claim", "jobs", "--for", "30", "--json").out)
    assert claimed["message"] == "one"
    assert cli("ack", "jobs", claimed["id"], claimed["token"]).code == 0
    assert cli("ack", "jobs", claimed["id"], claimed["token"]).code != 0
    assert cli("read", "jobs").lines == ["two"]
    assert cli("move", "jobs", "other", "--all").lines == ["three"]
    assert cli("list").lines == ["other: 1"]
    assert cli("read", "jobs").code == 2


def test_channels(cli: Run) -> None:
    """Messages are published, printed and remembered, and named subscribers go on where they were."""
    for text in ("one", "two", "three"):
        assert cli("publish", "events", text).code == 0
    assert cli("history", "events").lines == ["one", "two", "three"]
    first = cli("subscribe", "events", "--name", "n", "--start", "earliest", "--count", "2")
    assert first.lines == ["one", "two"]
    assert cli("subscribe", "events", "--name", "n", "--count", "1").lines == ["three"]


def test_the_whole_store(cli: Run, tmp_path: Path) -> None:
    """The live table, the doctor and a dump into a file and back work."""
    cli("write", "jobs", "one")
    cli("publish", "events", "x")
    table = json.loads(cli("top", "--once", "--json").out)
    assert [channel["name"] for channel in table["channels"]] == ["events", "jobs"]
    doctor = cli("doctor")
    assert doctor.code == 0
    assert "Fencing" in doctor.out
    dump = cli("dump").out
    assert inside("-f", "copy.db", "load", cwd=tmp_path, stdin=dump).code == 0
    back = inside("-f", "copy.db", "dump", cwd=tmp_path).out
    assert cli("delete", "--all").code == 0
    assert cli("load", stdin=back).code == 0
    assert cli("read", "jobs").lines == ["one"]


def test_what_the_store_cannot_do(cli: Run) -> None:
    """A message for every queue at once is refused with what is missing, and nothing is written."""
    cli("write", "a", "1")
    cli("write", "b", "1")
    refused = cli("broadcast", "2")
    assert refused.code == 1
    assert "AtomicBatch" in refused.err
    assert cli("list").lines == ["a: 1", "b: 1"]
