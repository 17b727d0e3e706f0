"""What reaches a reader, and what becomes of the rest: pipes, signals and sudden death."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.test_read import write_by_library
from tests.cli.tools import COMMAND, Run, done, environment, start, wait_until

LARGE = "x" * 200_000
"""More than any pipe holds."""


def pending(cli: Run, queue: str = "q") -> int:
    """Return how many messages can be read."""
    return len(cli("peek", queue, "--all", "-t").lines)


def closed_after(process: "subprocess.Popen[str]", characters: int) -> str:
    """Read a little of a process's output and close the pipe."""
    assert process.stdout is not None
    text = process.stdout.read(characters)
    process.stdout.close()
    return text


@pytest.mark.parametrize("interval", ["1", "3", "100"])
def test_closed_pipe(cli: Run, tmp_path: Path, interval: str) -> None:
    """When the reader has gone, what was not written out is given back, as if never taken."""
    write_by_library(tmp_path, *[f"{number}{LARGE}" for number in range(6)])
    env = {"SSSNBUS_READ_COMMIT_INTERVAL": interval}
    with start("read", "q", "--all", cwd=tmp_path, env=env, bufsize=0) as process:
        # The first message was written out as a whole, the second stuck in the pipe.
        assert closed_after(process, len(LARGE) + 2) == f"0{LARGE}\n"
        assert process.wait(30) == 1
        assert process.stderr is not None
        said = process.stderr.read()
    assert (
        said == "sssnbus: error: nobody reads the output any more; what was not written stays in the queue\n"
    )
    left = [line[:1] for line in cli("peek", "q", "--all").lines]
    assert left in ([*"12345"], [*"2345"]), "at most one more was in the pipe"
    assert cli("claim", "q", "--for", "9", "--json").out.rstrip().endswith('"attempt": 1}')


@pytest.mark.parametrize("words", [["read", "q", "--all"], ["watch", "q"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_writing(cli: Run, tmp_path: Path, words: list[str], number: signal.Signals) -> None:
    """A signal ends a command that waits for its reader, and what was not written out is given back."""
    write_by_library(tmp_path, *[f"{number}{LARGE}" for number in range(6)])
    with start(*words, cwd=tmp_path) as process:
        wait_until(lambda: pending(cli) == 0)
        process.send_signal(number)
        expected = 0 if words[0] == "watch" or number is signal.SIGINT else 143
        assert process.wait(10) == expected
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert [line[:1] for line in cli("read", "q", "--all").lines] == [*"012345"]


def test_sudden_death(cli: Run, tmp_path: Path) -> None:
    """A command that is killed between writing and acknowledging loses nothing: it comes again (SB-125)."""
    write_by_library(tmp_path, "a", f"b{LARGE}", "c")
    env = {"SSSNBUS_CLAIM_TIMEOUT": "0.5"}
    with start("read", "q", "--all", cwd=tmp_path, env=env) as process:
        assert process.stdout is not None
        # The first message is out, and not acknowledged: the second one blocks the pipe.
        assert process.stdout.readline() == "a\n"
        wait_until(lambda: pending(cli) == 0)
        # Longer than its claims last: they are renewed as long as it lives.
        time.sleep(1)
        assert pending(cli) == 0
        process.kill()
        process.wait()
    wait_until(lambda: pending(cli) == 3)
    assert [line[:1] for line in cli("read", "q", "--all").lines] == ["a", "b", "c"]


def test_sudden_death_seen_by_a_watcher(cli: Run, tmp_path: Path) -> None:
    """A command that goes on running gets what a dead one had held, without waiting for its claim to end."""
    write_by_library(tmp_path, f"a{LARGE}")
    env = {"SSSNBUS_CLAIM_TIMEOUT": "1000"}
    with start("read", "q", "--all", cwd=tmp_path, env=env) as dead:
        wait_until(lambda: pending(cli) == 0)
        with start("watch", "q", cwd=tmp_path) as watcher:
            dead.kill()
            assert watcher.stdout is not None
            assert watcher.stdout.readline()[:2] == "ax"


@pytest.mark.parametrize(
    "words", [["peek", "q", "--all"], ["list", "--stats"], ["--help"], ["read", "--help"]]
)
def test_closed_pipe_of_who_only_looks(cli: Run, tmp_path: Path, words: list[str]) -> None:
    """A command that changes nothing says nothing when its reader has gone."""
    cli("write", "q", "x")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [COMMAND, *words], stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, env=environment()
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_claim_nobody_could_read(cli: Run, tmp_path: Path) -> None:
    """A claim whose token could not be written out is given back at once."""
    cli("write", "q", "x")
    reading, writing = os.pipe()
    os.close(reading)
    with start("claim", "q", "--for", "1000", cwd=tmp_path, stdout=writing) as process:
        os.close(writing)
        assert process.wait(30) == 1
    assert cli("read", "q") == done("x\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_full_disk_behind_the_output(cli: Run, tmp_path: Path) -> None:
    """What could not be written for want of room stays in the queue; the exit code says so."""
    cli("write", "q", "x")
    for words in (["read", "q"], ["read", "q", "--all"], ["watch", "q"], ["claim", "q", "--for", "1000"]):
        with open("/dev/full", "wb") as full:
            ended = subprocess.run(
                [COMMAND, *words], stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, env=environment()
            )
        assert ended.returncode == 1
        assert b"No space left" in ended.stderr
        assert cli("peek", "q") == done("x\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_words_that_find_no_room(cli: Run, tmp_path: Path) -> None:
    """Words that cannot be written to stderr stop no work, and change no exit code."""
    cli("write", "q", "a\nb")
    for words, code, out in (
        (["read", "q", "--all"], 0, b"a\nb\n"), (["--vacuum"], 0, b""), (["read", "q", "-m", "1"], 1, b""),
    ):  # fmt: skip
        with open("/dev/full", "wb") as full:
            ended = subprocess.run(
                [COMMAND, *words], stdout=subprocess.PIPE, stderr=full, cwd=tmp_path, env=environment()
            )
        assert (ended.returncode, ended.stdout) == (code, out)


@pytest.mark.parametrize("words", [["dump"], ["top"], ["list"], ["read", "q"], ["--status"], ["--help"]])
def test_closed_stdout(cli: Run, tmp_path: Path, words: list[str]) -> None:
    """A command that was started without a stdout says so, and takes nothing."""
    cli("write", "q", "x")
    shell = ["sh", "-c", f"exec {COMMAND} {' '.join(words)} >&-"]
    ended = subprocess.run(
        shell, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=tmp_path, env=environment()
    )
    assert (ended.returncode, ended.stderr) == (1, b"sssnbus: error: standard output is closed\n")
    assert pending(cli) == 1


@pytest.mark.parametrize("words", [["write", "q"], ["publish", "c", "--json"]])
def test_closed_stdin(tmp_path: Path, words: list[str]) -> None:
    """A command that wants its message from a stdin that is closed says so."""
    shell = ["sh", "-c", f"exec {COMMAND} {' '.join(words)} <&-"]
    ended = subprocess.run(shell, stderr=subprocess.PIPE, cwd=tmp_path, env=environment())
    assert ended.returncode == 1
    assert b"standard input is closed; pass a message" in ended.stderr


def test_interrupt_while_reading_stdin(tmp_path: Path) -> None:
    """Ctrl-C at a command that waits for its input is one line, and nothing is made."""
    with start("write", "q", cwd=tmp_path, stdin=subprocess.PIPE) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        if not stat.exists():
            pytest.skip("there is no /proc to see what a process waits for")
        wait_until(lambda: "pipe" in Path(f"/proc/{process.pid}/wchan").read_text() or _asleep(stat))
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "\nsssnbus: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_interrupt_before_anything_runs(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the words and the work is one line, without what Python says of work never begun."""

    def interrupted(work: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("asyncio.run", interrupted)
    # A warning would be an error here.
    assert cli("read", "q") == (0, "", "\nsssnbus: interrupted\n")


def _asleep(stat: Path) -> bool:
    # Where the kernel does not tell what a process waits for: long enough asleep is waiting.
    before = stat.read_text().split()
    os.sched_yield()
    return before[2] == "S" and int(before[13]) >= 2
