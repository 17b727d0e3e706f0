"""``sssnbus tail`` and ``sssnbus top``: everything at a glance."""

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sssnbus import Bus
from sssnbus.cli.whole.tail import _Followers
from tests.cli.tools import COMMAND, PATIENCE, Run, done, environment, start

TAIL = "Following all channels\n"


def test_tail(cli: Run, tmp_path: Path) -> None:
    """Everything that is written to any channel is printed, those made later included (DB-109).

    Nothing is claimed, and SIGTERM ends it with 0.
    """
    cli("write", "jobs", "old")
    cli("publish", "events", "old")
    with start("tail", cwd=tmp_path) as tail, start("tail", "--json", cwd=tmp_path) as as_json:
        for process in (tail, as_json):
            assert process.stderr is not None
            assert process.stderr.readline() == TAIL
        for words in (
            ["write", "jobs", "j"],
            ["publish", "events", "e", "--topic", "a.b"],
            ["write", "new-queue", "nj"],
            ["publish", "new-channel", "ne"],
        ):
            assert cli(*words) == done()
        assert tail.stdout is not None
        assert as_json.stdout is not None
        found = {tail.stdout.readline() for _ in range(4)}
        assert found == {"jobs\tj\n", "events a.b\te\n", "new-queue\tnj\n", "new-channel\tne\n"}
        objects = [json.loads(as_json.stdout.readline()) for _ in range(4)]
        assert {(o["channel"], o["message"]) for o in objects} == {
            ("jobs", "j"), ("events", "e"), ("new-queue", "nj"), ("new-channel", "ne"),
        }  # fmt: skip
        for process, number in ((tail, signal.SIGTERM), (as_json, signal.SIGINT)):
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
            assert (process.returncode, out, err) == (0, "", "")
    assert cli("read", "jobs", "--all") == done("old\nj\n")


def test_tail_from_the_beginning(cli: Run, tmp_path: Path) -> None:
    """``--start earliest`` begins with what is there, a time with what is newer, in every state."""
    for text in ("1", "2"):
        cli("write", "jobs", text)
    assert cli("read", "jobs") == done("1\n")
    newest = json.loads(cli("peek", "jobs", "--json").out)["id"]
    for words, expected in ((["earliest"], ["1", "2"]), (["2020-01-01"], ["1", "2"]), ([newest], ["2"])):
        with start("-q", "tail", "--start", *words, cwd=tmp_path) as tail:
            assert tail.stdout is not None
            assert [tail.stdout.readline() for _ in expected] == [f"jobs\t{text}\n" for text in expected]
    bad = cli("tail", "--start", "yesterday", "--json")
    assert (bad.code, bad.out) == (1, "")
    assert json.loads(bad.err)["error"] == "INVALID_TIMESTAMP"


def test_tail_through_a_deletion(cli: Run, tmp_path: Path) -> None:
    """A queue that is deleted and made anew is followed again."""
    cli("write", "jobs", "1")
    with start("tail", cwd=tmp_path) as tail:
        assert tail.stderr is not None
        assert tail.stdout is not None
        assert tail.stderr.readline() == TAIL
        cli("write", "jobs", "2")
        assert tail.stdout.readline() == "jobs\t2\n"
        assert cli("delete", "jobs") == done()
        cli("write", "jobs", "3")
        assert tail.stdout.readline() == "jobs\t3\n"


def test_tail_with_a_closed_pipe(cli: Run, tmp_path: Path) -> None:
    """It ends with 0 when nobody reads any more."""
    reading, writing = os.pipe()
    with start("tail", "--start", "earliest", cwd=tmp_path, stdout=writing) as tail:
        os.close(writing)
        assert tail.stderr is not None
        assert tail.stderr.readline() == TAIL
        os.close(reading)
        cli("write", "jobs", "1")
        assert tail.wait(PATIENCE) == 0


async def test_followers(tmp_path: Path) -> None:
    """Inside one program, too: every channel is followed, and its trouble is told but ends nothing."""
    async with Bus(tmp_path / "x.db") as bus:
        await bus.work_queue("jobs").write("s", "old")
        await bus.broadcast("events").write("s", "old")
        followers = _Followers(bus, json=False)
        try:
            await followers.begin("new")
            await bus.broadcast("events").write("s", "e", topic="a.b")
            await bus.work_queue("jobs").write("s", "j")
            await bus.work_queue("later").write("s", "l")
            async with asyncio.timeout(PATIENCE):
                found = {
                    name: message.content.data for name, message in [await followers.next() for _ in range(3)]
                }
            assert found == {"events": "e", "jobs": "j", "later": "l"}
        finally:
            await followers.stop()


def test_top_once(cli: Run) -> None:
    """``--once`` prints plain lines, ``--json`` one object for programs."""
    assert cli("top", "--once").lines[0].split()[:3] == ["channel", "kind", "ready"]
    for text in ("a", "b", "c"):
        cli("write", "jobs", text)
    cli("publish", "events", "x")
    cli("publish", "events", "y")
    cli("subscribe", "events", "--name", "slow", "--start", "earliest", "--count", "1")
    cli("subscribe", "events", "--name", "fast", "--start", "earliest", "--count", "2")
    cli("read", "jobs")
    _, events, jobs, end = cli("top", "--once").lines
    assert re.split(r"  +", events.strip())[:8] == ["events", "broadcast", "2", "0", "0", "0", "0", "0 s"]
    assert events.split()[-3:] == ["-", "-", "1"]
    assert re.split(r"  +", jobs.strip())[:7] == ["jobs", "work queue", "2", "0", "0", "1", "0"]
    assert end == ""
    sample = json.loads(cli("top", "--once", "--json").out)
    assert sample.keys() == {"time", "url", "size", "messages", "channels"}
    by_name = {row["name"]: row for row in sample["channels"]}
    assert by_name["jobs"]["ready"] == 2
    assert by_name["jobs"]["done"] == 1
    assert 0 <= by_name["jobs"]["oldest"] < 60
    assert by_name["jobs"]["rate_in"] is None
    assert by_name["events"]["lag"] == 1


def test_top_again_and_again(cli: Run, tmp_path: Path) -> None:
    """Without a terminal it prints on, with rates, until a signal ends it."""
    cli("write", "jobs", "1")
    with start("top", "--json", "--interval", "0.2", cwd=tmp_path) as top:
        assert top.stdout is not None
        first = json.loads(top.stdout.readline())
        assert first["channels"][0]["rate_in"] is None
        cli("write", "jobs", "2")
        cli("read", "jobs")
        rates_in, rates_out = 0.0, 0.0
        while not (rates_in and rates_out):
            row = json.loads(top.stdout.readline())["channels"][0]
            rates_in, rates_out = rates_in + row["rate_in"], rates_out + row["rate_out"]
        top.send_signal(signal.SIGTERM)
        assert top.wait(PATIENCE) == 0
    assert cli("top", "--interval", "0").code == 1


@contextmanager
def terminal(folder: Path, *words: str) -> Iterator[tuple["subprocess.Popen[bytes]", int, int]]:
    """Run a command on a terminal of its own; give the process, our end of the terminal and the other."""
    ours, theirs = pty.openpty()
    env = environment({"TERM": "xterm", "COLUMNS": "120", "LINES": "30"})
    process = subprocess.Popen(
        [COMMAND, *words],
        cwd=folder,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    try:
        yield process, ours, theirs
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def shown(ours: int, text: str) -> str:
    """Read from a terminal until a text was shown; return everything read."""
    found, deadline = "", time.monotonic() + PATIENCE
    while text not in found:
        assert time.monotonic() < deadline, found
        if select.select([ours], [], [], 0.1)[0]:
            found += os.read(ours, 65536).decode(errors="replace")
    return found


def test_top_on_a_terminal(cli: Run, tmp_path: Path) -> None:
    """On a terminal the table is drawn anew; q ends it, and the terminal is as it was before."""
    assert cli("write", "jobs", "1") == done()
    with terminal(tmp_path, "top", "--interval", "0.2") as (process, ours, theirs):
        shown(ours, "jobs")
        assert not termios.tcgetattr(theirs)[3] & termios.ICANON
        cli("write", "later", "1")
        shown(ours, "later")
        os.write(ours, b"q")
        # The last thing it does is to show the screen that was there before.
        shown(ours, "\x1b[?1049l")
        assert process.wait(PATIENCE) == 0
        assert termios.tcgetattr(theirs)[3] & termios.ICANON
