"""``sssnbus watch``."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.test_read import fill, write_by_library
from tests.cli.tools import COMMAND, PATIENCE, Run, done, environment, start, wait_until


class Watcher:
    """A running watch, whose lines are read with patience."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process, self.out, self.err = process, process.stdout, process.stderr

    def lines(self, count: int) -> list[str]:
        """Return the next lines; a test that waits too long is ended by its own limit."""
        return [self.out.readline().rstrip("\n") for _ in range(count)]

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """Send a signal; return what was said on stderr, and check that the end was clean."""
        self.process.send_signal(number)
        assert self.process.wait(10) == 0
        assert self.out.read() == ""
        return self.err.read()


def test_consume(cli: Run, tmp_path: Path) -> None:
    """It takes what is there, then what comes from anywhere, soon (SB-063, SB-160, SB-164, SB-171).

    Nobody polls for it, in bursts or ever slower (SB-165, SB-166). The banner goes to stderr (SB-170).
    SIGINT ends it with 0 (SB-168). What was read counts as consumed.
    """
    fill(cli, "a", "b")
    with start("watch", "q", cwd=tmp_path) as process:
        watcher = Watcher(process)
        assert watcher.err.readline() == "Watching queue 'q' (consume mode)...\n"
        assert watcher.lines(2) == ["a", "b"]
        waits = []
        for text in "cdefg":
            written = time.monotonic()
            cli("write", "q", text)
            assert watcher.lines(1) == [text]
            waits.append(time.monotonic() - written)
        assert min(waits) < 1, "a doorbell tells, nobody waits for the next look"
        wait_until(lambda: cli("stats", "q") == done("q: 0 (7 total, 7 claimed)\n"))
        assert watcher.end() == ""


def test_forms(cli: Run, tmp_path: Path) -> None:
    """JSON has the time in it, ``-t`` the id; options may stand before the queue (SB-102, SB-163)."""
    ids = fill(cli, "a", "b")
    for words, line in (
        (["--json", "--peek", "q"], f'{{"message": "a", "timestamp": {ids[0]}, "id": "{ids[0]}"}}'),
        (["q", "-t", "--peek"], f"{ids[0]}\ta"),
    ):
        with start("-q", "watch", *words, cwd=tmp_path) as process:
            watcher = Watcher(process)
            assert watcher.lines(2)[0] == line
            assert watcher.end() == "", "quiet takes the banner away (SB-170)"


def test_peek(cli: Run, tmp_path: Path) -> None:
    """``--peek`` shows each message once and takes none; SIGTERM ends it like SIGINT (SB-161, SB-168)."""
    ids = fill(cli, "a", "b\nc")
    with start("watch", "q", "--peek", "--after", ids[0], cwd=tmp_path) as process:
        watcher = Watcher(process)
        assert watcher.err.readline() == "Watching queue 'q' (peek mode)...\n"
        assert watcher.lines(2) == ["b", "c"]
        assert "newline characters" in watcher.err.readline()
        cli("write", "q", "d")
        assert watcher.lines(1) == ["d"]
        assert watcher.end(signal.SIGTERM) == ""
    assert cli("read", "q", "--all").out == "a\nb\nc\nd\n"


def test_peek_outlives_its_queue(cli: Run, tmp_path: Path) -> None:
    """A queue that is deleted while somebody looks on begins anew."""
    fill(cli, *"abc")
    with start("watch", "q", "--peek", cwd=tmp_path) as process:
        watcher = Watcher(process)
        assert watcher.lines(3) == [*"abc"]
        cli("delete", "q")
        cli("write", "q", "d")
        assert watcher.lines(1) == ["d"]
        watcher.end()


def test_consume_outlives_its_queue(cli: Run, tmp_path: Path) -> None:
    """So it is for who consumes, and for what was claimed and given back, and what was delayed."""
    with start("watch", "q", cwd=tmp_path) as process:
        watcher = Watcher(process)
        watcher.err.readline()
        cli("write", "q", "a")
        assert watcher.lines(1) == ["a"]
        cli("delete", "q")
        cli("write", "q", "b")
        assert watcher.lines(1) == ["b"]
        write_by_library(tmp_path, "late", delay=0.5)
        assert watcher.lines(1) == ["late"]
        watcher.end(signal.SIGTERM)


def test_after(cli: Run, tmp_path: Path) -> None:
    """``--after`` leaves older messages where they are (SB-102)."""
    ids = fill(cli, "a", "b")
    with start("watch", "q", "--after", ids[0], cwd=tmp_path) as process:
        watcher = Watcher(process)
        assert watcher.lines(1) == ["b"]
        cli("write", "q", "c")
        assert watcher.lines(1) == ["c"]
        watcher.end()
    assert cli("read", "q", "--all") == done("a\n")


def test_move(cli: Run, tmp_path: Path) -> None:
    """``--move`` drains a queue into another; each message has moved before it is shown (SB-102, SB-162)."""
    fill(cli, "a", "b", queue="src")
    with start("watch", "--move", "dst", "src", cwd=tmp_path) as process:
        watcher = Watcher(process)
        assert watcher.err.readline() == "Watching queue 'src' (move to dst mode)...\n"
        assert watcher.lines(2) == ["a", "b"]
        assert cli("peek", "dst", "--all") == done("a\nb\n")
        cli("write", "src", "c")
        assert watcher.lines(1) == ["c"]
        assert cli("peek", "dst", "--all") == done("a\nb\nc\n")
        watcher.end()
    assert cli("stats", "src") == done("src: 0\n")


def test_several_movers(cli: Run, tmp_path: Path) -> None:
    """Several watchers move each message once (SB-169)."""
    write_by_library(tmp_path, *[f"m{number}" for number in range(60)])
    with (
        start("watch", "q", "--move", "dst", cwd=tmp_path) as one,
        start("watch", "q", "--move", "dst", cwd=tmp_path) as two,
    ):
        wait_until(lambda: cli("stats", "dst") == done("dst: 60\n"))
        shown = []
        for process in (one, two):
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PATIENCE)
            shown += out.splitlines()
    assert sorted(shown) == sorted(f"m{number}" for number in range(60))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["q", "--move", "q"], ["Cannot move messages to the same queue"]),
        (["q", "--move", "@a"], ["Cannot move messages to the same queue"]),
        (["q", "--move", "r", "--after", "5s"], ["incompatible with --after", "--move drains all messages"]),
        (["q", "--move", "r", "--peek"], ["not allowed with argument --peek"]),
        (["q", "--after", "abc"], ["Invalid timestamp: abc"]),
        (["q", "--before", "5s"], ["unrecognized arguments"]),
        (["q", "--all"], ["unrecognized arguments"]),
        ([], ["required: queue"]),
    ],
)
def test_refusals(cli: Run, words: list[str], parts: list[str]) -> None:
    """What cannot be meant is refused at once, without a banner (SB-102)."""
    cli("alias", "add", "a", "q")
    code, out, err = cli("watch", *words)
    assert (code, out) == (1, "")
    assert err.startswith("sssnbus: error: ")
    for part in parts:
        assert part in err


@pytest.mark.parametrize("mode", [[], ["--peek"], ["--move", "dst"]])
def test_reader_that_goes(cli: Run, tmp_path: Path, mode: list[str]) -> None:
    """``watch | head -1`` ends by itself with 0, though no further message comes (SB-172)."""
    fill(cli, "a")
    script = f"{COMMAND} watch q {' '.join(mode)} 2>err; echo $? >code"
    ended = subprocess.run(
        ["sh", "-c", f"{{ {script}; }} | head -1"],
        capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=PATIENCE,
    )  # fmt: skip
    assert ended.stdout == "a\n"
    wait_until(lambda: (tmp_path / "code").exists() and (tmp_path / "code").read_text() == "0\n")
    assert (tmp_path / "err").read_text().count("\n") == 1, "the banner"


def test_what_the_reader_did_not_get(cli: Run, tmp_path: Path) -> None:
    """What was claimed and could not be written to a closed pipe is given back (SB-172)."""
    fill(cli, "a")
    with start("watch", "q", cwd=tmp_path) as process:
        watcher = Watcher(process)
        assert watcher.lines(1) == ["a"]
        watcher.out.close()
        cli("write", "q", "b")
        cli("write", "q", "c")
        assert process.wait(10) == 0
    assert cli("read", "q", "--all") == done("b\nc\n")


def test_interrupt_from_a_terminal(cli: Run, tmp_path: Path) -> None:
    """Ctrl-C reaches the whole group of processes; the end is clean (SB-168)."""
    fill(cli, "a")
    with start("watch", "q", "--json", cwd=tmp_path, start_new_session=True) as process:
        watcher = Watcher(process)
        assert json.loads(watcher.lines(1)[0])["message"] == "a"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(10) == 0
        assert "Traceback" not in watcher.err.read()


def test_idle(cli: Run, tmp_path: Path) -> None:
    """A watcher that waits does next to nothing (SB-167)."""
    with start("watch", "q", cwd=tmp_path) as process:
        watcher = Watcher(process)
        watcher.err.readline()
        stat = Path(f"/proc/{process.pid}/stat")
        if not stat.exists():
            pytest.skip("there is no /proc to see how long a process has run")
        # In ticks of a hundredth of a second. What it does to begin with may fall into the first span.
        spans: list[int] = []
        while not spans or (spans[-1] >= 10 and len(spans) < 5):
            before = ticks(stat)
            time.sleep(1.5)
            spans.append(ticks(stat) - before)
        assert spans[-1] < 10, spans
        watcher.end()


def ticks(stat: Path) -> int:
    """Return how long a process has run on a processor."""
    return sum(map(int, stat.read_text().rsplit(")", 1)[1].split()[11:13]))
