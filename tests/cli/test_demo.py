"""The demo, run as people run it."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sssnbus import Bus
from sssnbus.cli import main
from sssnbus.cli.demo.tally import Seen, Tally, complaints

ROOT = Path(__file__).parent.parent.parent
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def command(*words: str) -> list[str]:
    """Return the command line of a demo."""
    return [sys.executable, "-m", "sssnbus", "demo", *words]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment in which temporary files lie in a folder of the test."""
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return plain | {"TMPDIR": str(folder), "TERM": "xterm-256color", "COLUMNS": "120"} | more


def processes(folder: Path) -> list[str]:
    """Return the processes that know the folder by name: children of a demo in it."""
    table = subprocess.run(
        ["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True
    ).stdout
    return [line for line in table.splitlines() if f"sqlite:///{folder}" in line]


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a demo to its end, and check that it leaves nothing behind."""
    done = subprocess.run(
        command(*words), capture_output=True, text=True, cwd=ROOT, env=environment(folder), timeout=50
    )
    assert processes(folder) == []
    return done


@contextmanager
def running(folder: Path, *words: str) -> "Iterator[subprocess.Popen[str]]":
    """Run a demo until the block ends."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command(*words), cwd=ROOT, env=environment(folder), **pipes) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def wait_for_events(demo: "subprocess.Popen[str]") -> None:
    """Return when a demo says that events are being published."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if re.search(r"published [1-9]", line):
            return
    pytest.fail("The demo ended before anything was published.")


def test_it_adds_up(tmp_path: Path) -> None:
    """The demo ends with 0 and figures that agree; stdout has one JSON object, stderr the words."""
    done = run(tmp_path, "--files", "150", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"]
    assert result["published"] == result["events"] == result["hashed"] == 150
    assert [seen["seen"] for seen in result["subscribers"]] == [150, 150]
    assert result["one_order"]
    assert (result["lost"], result["repeated"], result["redelivered"], result["killed"]) == (0, 0, 0, 0)
    assert "It adds up" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_killed_worker(tmp_path: Path) -> None:
    """With ``--kill`` a worker dies with jobs in its hands, and nothing is lost (BV-29)."""
    done = run(tmp_path, "--files", "150", "--kill")
    assert done.returncode == 0, done.stdout
    assert "is killed with SIGKILL" in done.stdout
    assert re.search(r"hashed +150\n", done.stdout)
    assert re.search(r"redelivered +[1-9]", done.stdout)
    assert re.search(r"lost +0\n", done.stdout)
    assert "It adds up" in done.stdout
    assert not COLOUR.search(done.stdout), "colour is for terminals"


def in_terminal(folder: Path, **more: str) -> str:
    """Run a short demo in a terminal, and return what it shows there."""
    parent, child = pty.openpty()
    demo = subprocess.Popen(
        command("--files", "60", "--rate", "0"),
        stdin=child, stdout=child, stderr=child, cwd=ROOT, env=environment(folder, **more),
    )  # fmt: skip
    os.close(child)
    shown = b""
    try:
        while piece := os.read(parent, 65536):
            shown += piece
    except OSError:
        pass  # This is how Linux says that the other side was closed.
    finally:
        os.close(parent)
    assert demo.wait() == 0
    return shown.decode()


def test_terminal(tmp_path: Path) -> None:
    """In a terminal the demo draws a table, in colour, and gives the cursor back."""
    shown = in_terminal(tmp_path)
    assert COLOUR.search(shown)
    assert "subscriber, live" in shown
    assert "│" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_terminal_without_colour(tmp_path: Path) -> None:
    """NO_COLOR is honoured: the table has no colours."""
    shown = in_terminal(tmp_path, NO_COLOR="1")
    assert "│" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """A signal ends the demo in order: no process and no file is left (FX-53)."""
    with running(tmp_path) as demo:
        wait_for_events(demo)
        assert len(processes(tmp_path)) >= 4
        demo.send_signal(number)
        assert demo.wait(15) == code
        assert processes(tmp_path) == []
        assert list(tmp_path.iterdir()) == []


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    """No child outlives a demo that was killed."""
    with running(tmp_path) as demo:
        wait_for_events(demo)
        demo.kill()
        demo.wait()
        deadline = time.monotonic() + 10
        while left := processes(tmp_path):
            assert time.monotonic() < deadline, left


def test_given_file_is_kept(tmp_path: Path) -> None:
    """A file that was asked for stays, can be opened, and is not used a second time."""
    path = tmp_path / "with a space.db"
    words = ("--files", "20", "--rate", "0", "--json", "--file", str(path))
    assert json.loads(run(tmp_path, *words).stdout)["file"] == str(path)
    again = run(tmp_path, *words)
    assert again.returncode == 1
    assert again.stdout == ""
    assert again.stderr.startswith("sssnbus: error: ")

    async def look() -> int:
        async with Bus("sqlite:///" + str(path).replace(" ", "%20")) as bus:
            return (await bus.broadcast("events").statistics()).messages

    assert asyncio.run(look()) == 21


@pytest.mark.parametrize(
    "words", [("--file", "/nowhere/demo.db"), ("--file", "{folder}"), ("--kill", "--files", "49")]
)
def test_refused_before_anything_starts(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot work is refused with one line and exit code 1."""
    assert main(["demo", *(word.format(folder=tmp_path) for word in words)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sssnbus: error: ")
    assert list(tmp_path.iterdir()) == []


def test_closed_pipe(tmp_path: Path) -> None:
    """When nobody reads the output any more the demo ends, without a traceback, and cleans up."""
    with running(tmp_path) as demo:
        wait_for_events(demo)
        assert demo.stdout is not None
        demo.stdout.close()
        assert demo.wait(15) == 1
        assert processes(tmp_path) == []
        assert list(tmp_path.iterdir()) == []


def test_sabotage_is_noticed(tmp_path: Path) -> None:
    """Somebody adds an event and takes away a job: the demo says what is wrong and ends with 1."""

    async def meddle() -> None:
        async with Bus(f"sqlite:///{tmp_path}/demo.db") as bus:
            async with bus.work_queue("jobs").claim("thief"):
                await bus.broadcast("events").write("stranger", "one more", topic="file.found")

    with running(tmp_path, "--file", f"{tmp_path}/demo.db", "--files", "300") as demo:
        wait_for_events(demo)
        asyncio.run(meddle())
        assert demo.stdout is not None
        said = demo.stdout.read()
        assert demo.wait() == 1
    assert "300 files were published, but the channel holds 301 events." in said
    assert "1 of 300 files were never hashed." in said


GOOD = Tally(
    published=100,
    events=100,
    subscribers=(Seen("live", 100, 0, 0, 0, "same"), Seen("late", 100, 0, 0, 60, "same")),
    hashed=100,
    repeated=0,
    redelivered=0,
    left=0,
    dead=0,
    killed=0,
)


def test_good_tallies() -> None:
    """Without or with a kill, what must happen is no reason to complain."""
    assert complaints(GOOD) == []
    assert complaints(replace(GOOD, killed=1, redelivered=8, repeated=5)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"published": 0, "events": 0, "hashed": 0, "subscribers": ()},
        {"events": 99},
        {"events": 101},
        {"subscribers": (GOOD.subscribers[0], Seen("late", 99, 0, 0, 60, "same"))},
        {"subscribers": (GOOD.subscribers[0], Seen("late", 100, 1, 0, 60, "same"))},
        {"subscribers": (GOOD.subscribers[0], Seen("late", 100, 0, 1, 60, "same"))},
        {"subscribers": (GOOD.subscribers[0], Seen("late", 100, 0, 0, 60, "other"))},
        {"hashed": 99},
        {"left": 1},
        {"dead": 1},
        {"redelivered": 1},
        {"killed": 1},
        {"repeated": 1},
        {"killed": 1, "redelivered": 2, "repeated": 3},
    ],
)
def test_wrong_tallies(wrong: dict[str, Any]) -> None:
    """Each figure that does not add up gets one sentence of its own."""
    (sentence,) = complaints(replace(GOOD, **wrong))
    assert sentence.endswith(".")
