"""The command line as a whole: what is asked of every command."""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import pytest

import sssnbus
import sssnbus.stores
from sssnbus.cli import COMMANDS, main
from sssnbus.cli import commands as frame
from tests.cli.tools import COMMAND, Run, done, environment

PACKAGE = Path(sssnbus.__file__).parent / "cli"


def test_version(cli: Run, tmp_path: Path) -> None:
    """``--version`` prints one line and runs nothing (SB-041)."""
    code, out, err = cli("--version", "write", "q", "x")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"sssnbus \d+\.\d+\S*\n", out)
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_commands(cli: Run) -> None:
    """Without a command the help is printed, with a line for each command (SB-042, SB-045)."""
    code, out, err = cli()
    assert (code, err) == (0, "")
    assert cli("--help") == cli("-h") == cli("-q") == cli("--help", "write", "q") == (0, out, "")
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name: str, cli: Run, tmp_path: Path) -> None:
    """Every command has a help with an example and its exit codes, and makes nothing for it (SB-042)."""
    code, out, err = cli(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: sssnbus {name}")
    assert f"sssnbus {name}" in out[out.index("examples:") :]
    assert "exit codes: 0" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"], ["--nonsense"], ["--vers"], ["-x"], ["--quiet=yes"], ["demo", "--nonsense"],
        ["demo", "--files", "x"], ["demo", "--files=0"], ["read", "q", "--dir", "x"], ["read", "q", "r"],
        ["read"], ["read", "q", "--quiet"], ["list", "--cleanup", "-q"], ["--cleanup", "nonsense"],
        ["--cleanup", "read"], ["--json"], ["--json", "list"],
    ],
)  # fmt: skip
def test_wrong_words(words: list[str], cli: Run) -> None:
    """A mistake in the words is one line on stderr, exit code 1, and no deed (SB-043, SB-044, SB-111)."""
    cli("write", "q", "x")
    code, out, err = cli(*words)
    assert (code, out) == (1, "")
    assert err.startswith("sssnbus: error: ")
    assert err.count("\n") == 1
    assert cli("peek", "q") == done("x\n")


@pytest.mark.parametrize("option", ["-d", "--dir", "-f", "--file", "--url"])
def test_missing_value(option: str, cli: Run, tmp_path: Path) -> None:
    """An option without its value is named as it was spelled (SB-030, SB-031)."""
    given = [[option], [option, "-q"], [option, "--status"], [option, "", "list"]]
    if option.startswith("--"):
        given.append([f"{option}=", "list"])
    for words in given:
        assert cli(*words) == (1, "", f"sssnbus: error: option {option} requires an argument\n")
    assert list(tmp_path.iterdir()) == []


def test_value_that_is_a_command(cli: Run, tmp_path: Path) -> None:
    """The value of an option may be called like a command (SB-031)."""
    assert cli("-f", "write", "write", "q", "x") == done()
    assert (tmp_path / "write").is_file()
    assert cli("--file=write", "read", "q") == done("x\n")


@pytest.mark.parametrize("quiet", ["-q", "--quiet"])
def test_quiet(quiet: str, cli: Run) -> None:
    """Quiet keeps payload, errors and exit codes as they are (SB-035)."""
    assert cli(quiet, "write", "q", "x") == done()
    assert cli(quiet, "read", "q") == done("x\n")
    assert cli(quiet, "read", "q").code == 2
    assert cli(quiet, "read", "a b").err.startswith("sssnbus: error: Invalid queue name")
    assert cli(quiet, "init") == cli(quiet, "--vacuum") == done()


def test_combinations_of_actions(cli: Run) -> None:
    """Actions and commands that exclude each other are told so (SB-037, SB-038, SB-039)."""
    cli("write", "q", "x")
    for words, text in (
        (["--status", "read", "q"], "--status cannot be used with commands"),
        (["--vacuum", "read", "q"], "--vacuum cannot be used with commands"),
        (["--compact"], "--compact can only be used with --vacuum"),
        (["--compact", "list"], "--compact can only be used with --vacuum"),
    ):
        assert cli(*words) == (1, "", f"sssnbus: error: {text}\n")
    code, out, err = cli("--status", "--json", "read", "q")
    assert (code, out) == (1, "")
    assert json.loads(err) == {
        "error": "INVALID_ARGUMENT", "message": "--status cannot be used with commands", "retryable": False,
    }  # fmt: skip
    assert cli("peek", "q") == done("x\n")


def test_errors_of_words_stay_plain(cli: Run) -> None:
    """With ``--json``, what the words are wrong about is told in plain words (SB-113)."""
    for words in (["read", "q", "--json", "--nonsense"], ["read", "--json"]):
        code, out, err = cli(*words)
        assert (code, out) == (1, "")
        assert err.startswith("sssnbus: error: ")
    assert json.loads(cli("read", "a b", "--json").err)["error"] == "INVALID_ARGUMENT"


def test_unexpected_error(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody thought of is one line, too; the traceback is there for who asks for it."""

    def broken(work: Coroutine[Any, Any, Any]) -> NoReturn:
        work.close()
        raise RuntimeError("all wrong")

    monkeypatch.setattr("sssnbus.cli.queues.counts.running", broken)
    text = "unexpected RuntimeError: all wrong. Set SSSNBUS_DEBUG=1 to see where it comes from."
    assert cli("list") == (1, "", f"sssnbus: error: {text}\n")
    assert json.loads(cli("list", "--json").err)["message"] == text
    assert "Traceback" in cli("list", env={"SSSNBUS_DEBUG": "1"}).err


def test_closed_streams(tmp_path: Path) -> None:
    """Without stdout nothing is consumed; without stderr or stdin a command works all the same."""

    def shell(line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", line.replace("sssnbus", COMMAND)],
            capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=30,
        )  # fmt: skip

    assert shell("sssnbus write q x <&- 2>&-").returncode == 0
    closed = shell("sssnbus read q >&-")
    assert (closed.returncode, closed.stderr) == (1, "sssnbus: error: standard output is closed\n")
    if os.path.exists("/dev/full"):
        full = shell("sssnbus read q >/dev/full")
        assert full.returncode == 1
        assert full.stderr.startswith("sssnbus: error: ")
        assert "Traceback" not in full.stderr
    assert shell("sssnbus read q 2>&- <&-").stdout == "x\n"


def test_module(tmp_path: Path) -> None:
    """``python -m sssnbus`` is the same program (SB-002)."""
    ended = subprocess.run(
        [sys.executable, "-m", "sssnbus", "read", "q"], capture_output=True, cwd=tmp_path, env=environment()
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, b"", b"")


def imported(code: str) -> list[str]:
    """Return the modules that a program has loaded in the end."""
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True, env=environment(),
    )  # fmt: skip
    return ended.stdout.split()


def test_commands_are_imported_when_called(tmp_path: Path) -> None:
    """A command costs nothing unless it is called, and writing costs no more than it must (SB-211)."""
    loaded = imported("from sssnbus.cli import main; main(['--version'])")
    assert [name for name in loaded if name.startswith("sssnbus.cli.queues") or name == "rich"] == []
    loaded = imported(f"from sssnbus.cli import main; main(['-d', {str(tmp_path)!r}, 'write', 'q', 'x'])")
    heavy = {"rich", "pydantic", "argparse", "tomllib", "importlib.metadata", "sssnbus.cli.queues.read"}
    assert heavy.isdisjoint(loaded)
    assert "sssnbus.cli.queues.write" in loaded


def test_every_command_has_a_module() -> None:
    """The table names what is there, and each module what it needs."""
    for name in COMMANDS:
        module = frame.module_of(name)
        assert callable(module.run)
        assert frame.parser_of(name).prog == f"sssnbus {name}"


def test_main_takes_the_words_of_the_process(monkeypatch: pytest.MonkeyPatch, cli: Run) -> None:
    """Without an argument, ``main`` reads the words of its process."""
    monkeypatch.setattr(sys, "argv", ["sssnbus", "--nonsense"])
    assert main() == 1


def test_interrupted_while_it_is_loaded() -> None:
    """A Ctrl-C that comes before the command line is there ends it as any other: no traceback."""
    program = """
    import sys

    class Impatient:
        def find_spec(self, name, path=None, target=None):
            if name == "sssnbus.cli":
                raise KeyboardInterrupt

    sys.meta_path.insert(0, Impatient())
    from sssnbus.__main__ import main

    sys.exit(main())
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "\nsssnbus: interrupted\n")
