"""The command line over a store on Redis does what it does over a file."""

import json
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.cli.tools import COMMAND, NOTHING, Run, done, environment, inside
from tests.servers.process import Server


@pytest.fixture(autouse=True)
def nothing_blocks() -> None:
    """Take the guard of the event loop away: a command writes to stdout and waits for it, by design."""


@pytest.fixture
def cli(url: str, tmp_path: Path) -> Run:
    """Return what runs a command on a place of this test's own."""
    return partial(inside, "--url", url, cwd=tmp_path)


def test_queues(cli: Run) -> None:
    """Messages are written, read, and claimed by one command and acknowledged by another."""
    for text in ("one", "two", "three"):
        assert cli("write", "jobs", text) == done()
    assert cli("peek", "jobs") == done("one\n")
    assert cli("read", "jobs") == done("one\n")
    claim = json.loads(cli("claim", "jobs", "--for", "60", "--json").out)
    assert claim["message"] == "two"
    assert cli("exists", "jobs").code == 0
    assert cli("ack", "jobs", claim["id"], claim["token"]).code == 0
    assert cli("ack", "jobs", claim["id"], claim["token"]).code != 0
    assert cli("move", "jobs", "other").out == "three\n"
    assert cli("read", "jobs") == NOTHING
    assert cli("list").lines == ["other: 1"]
    assert cli("--vacuum").code == 0
    assert cli("read", "other", "--all") == done("three\n")


def test_channels(cli: Run) -> None:
    """What is published is in the history, and a durable subscription goes on where it stopped."""
    for number in range(3):
        assert cli("publish", "events", str(number)).code == 0
    first = cli("subscribe", "events", "--name", "s", "--start", "earliest", "--count", "2")
    assert first.lines == ["0", "1"]
    assert cli("subscribe", "events", "--name", "s", "--count", "1").lines == ["2"]
    assert cli("history", "events").lines == ["0", "1", "2"]
    assert cli("channels").code == 0
    assert cli("subscriptions").lines == ["events s: 0 behind (nobody is listening)"]


def test_the_whole(cli: Run) -> None:
    """Figures are told, for people and for programs."""
    cli("write", "jobs", "one")
    cli("publish", "events", "two")
    look = json.loads(cli("top", "--once", "--json").out)
    assert {row["name"]: row["ready"] for row in look["channels"]} == {"events": 1, "jobs": 1}
    status = json.loads(cli("--status", "--json").out)
    assert status["total_messages"] == 2
    refused = cli("--cleanup")
    assert (refused.code, refused.out) == (1, "")


def test_doctor(cli: Run, server: Server) -> None:
    """The doctor says what the store survives, by the settings of its server."""
    said = cli("doctor")
    assert said.code == 0
    assert "survives nothing" in said.out
    found = inside("--url", f"redis://127.0.0.1:{server.port}", "doctor", "--json")
    levels = {each["subject"]: each["level"] for each in map(json.loads, found.lines)}
    assert "survives a power cut" in found.out
    assert levels["durability"] == "ok"


def test_a_pipe_to_a_file_and_back(cli: Run, url: str, tmp_path: Path) -> None:
    """Two commands in a pipe copy a store into a file, and the file back into another place."""
    cli("write", "jobs", "one")
    cli("publish", "events", "two")
    pipes = [
        f"{COMMAND} --url '{url}' dump | {COMMAND} -f copy.db load",
        f"{COMMAND} -f copy.db dump | {COMMAND} --url '{url}-copy' load",
    ]
    for pipe in pipes:
        copied = subprocess.run(
            pipe, shell=True, cwd=tmp_path, capture_output=True, env=environment(None), check=True
        )
        assert copied.stderr == b"Loaded 2 messages into 2 channels\n"
    assert inside("--url", f"{url}-copy", "read", "jobs") == done("one\n")


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """It is told in one sentence, without the password."""
    refused = inside(
        "--url", "redis://me:hunter2@127.0.0.1:1?connect_timeout=1", "read", "jobs", cwd=tmp_path
    )
    assert (refused.code, refused.out) == (1, "")
    assert "cannot be reached" in refused.err
    assert "hunter2" not in refused.err
    assert "Traceback" not in refused.err
