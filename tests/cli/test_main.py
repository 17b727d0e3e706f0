"""The command line as a whole: what is asked of every command."""

import subprocess
import sys

import pytest

from sssnbus.cli import COMMANDS, main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` prints one line and runs nothing (SB-041)."""
    assert main(["--version", "demo"]) == 0
    assert capsys.readouterr().out.startswith("sssnbus ")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help is printed, with a line for each command (SB-042, SB-045)."""
    assert main([]) == 0
    without = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == without
    for name, command in COMMANDS.items():
        assert f"{name}  {command.summary}" in without


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command has a help of its own."""
    assert main([name, "--help"]) == 0
    assert f"sssnbus {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["--nonsense"], ["demo", "--nonsense"], ["demo", "--files", "x"], ["demo", "--files=0"]],
)
def test_wrong_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in the words is one line on stderr and exit code 1 (SB-043, SB-044)."""
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sssnbus: error: ")
    assert err.count("\n") == 1


def test_commands_are_imported_when_called() -> None:
    """A command costs nothing unless it is called: neither it nor rich is imported for the version."""
    code = (
        "import sys; from sssnbus.cli import main; main(['--version']);"
        " print([name for name in sys.modules if name.startswith('sssnbus.cli.') or name == 'rich'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"


def test_module() -> None:
    """``python -m sssnbus`` is the same program (SB-002)."""
    done = subprocess.run(
        [sys.executable, "-m", "sssnbus", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("sssnbus ")
