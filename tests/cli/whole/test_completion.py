"""``sssnbus completion``: what shells offer behind the words that are there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sssnbus.cli import commands
from sssnbus.cli.completion import GLOBAL_FLAGS, GLOBAL_VALUES, flattened, specify
from sssnbus.cli.problem import WrongWords
from tests.cli.tools import COMMAND, Run, done, environment, inside

BASH = """
ask() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _sssnbus
    echo "${COMPREPLY[*]}"
}
"""
ZSH = """
compdef() { : }
compadd() {
    [[ $1 == -- ]] && shift
    for word in "$@"; do [[ $word == "$words[CURRENT]"* ]] && offered+=("$word"); done
}
_files() { offered+=($words[CURRENT]*(N)) }
ask() {
    offered=() words=("$@") CURRENT=$#
    _sssnbus
    print -r -- "$offered"
}
"""
FISH = """
function ask
    set -l line (string join ' ' -- $argv)
    echo (complete -C "$line" | string replace -r '\\t.*' '')
end
"""

# What is on the line, the word at the cursor last, and what is offered for it.
CASES: list[tuple[list[str], str]] = [
    (["sssnbus", "subscr"], "subscribe subscriptions"),
    (["sssnbus", "--vac"], "--vacuum"),
    (["sssnbus", "-f", "x."], "x.db x.db.wlock"),
    (["sssnbus", "-f", "x.db", "read", ""], "jobs mail @j"),
    (["sssnbus", "-f", "x.db", "read", "--js"], "--json"),
    (["sssnbus", "-f", "x.db", "move", "--all", "jobs", "m"], "mail"),
    (["sssnbus", "-f", "x.db", "move", "jobs", "mail", ""], ""),
    (["sssnbus", "--file", "x.db", "publish", ""], "events"),
    (["sssnbus", "-f", "x.db", "publish", "--topic", ""], ""),
    (["sssnbus", "-f", "x.db", "publish", "--topic", "a", "e"], "events"),
    (["sssnbus", "-f", "x.db", "watch", "jobs", "--move", "m"], "mail"),
    (["sssnbus", "-f", "x.db", "dump", "--channel", ""], "events jobs mail"),
    (["sssnbus", "alias", "r"], "remove"),
    (["sssnbus", "-f", "x.db", "alias", "add", "name", "j"], "jobs"),
    (["sssnbus", "alias", "list", "--t"], "--target"),
    (["sssnbus", "completion", "z"], "zsh"),
    (["sssnbus", "load", "x.db.w"], "x.db.wlock"),
    (["sssnbus", "-f", "missing.db", "read", ""], ""),
    (["sssnbus", "nonsense", ""], ""),
]


@pytest.mark.parametrize(
    ("shell", "asking"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)], ids=["bash", "zsh", "fish"]
)
def test_in_a_real_shell(tmp_path: Path, shell: str, asking: str) -> None:
    """Commands, options, choices, files and the names in the store are offered, where they belong."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    for line in ("write jobs 1", "write mail 1", "publish events 1", "alias add j jobs"):
        assert inside("-f", "x.db", *line.split(), cwd=tmp_path) == done()
    script = inside("completion", shell, cwd=tmp_path)
    assert (script.code, script.err) == (0, "")
    (tmp_path / "script").write_text(script.out)
    quoted = ["ask " + " ".join(f"'{word}'" for word in words) for words, _ in CASES]
    source = "\n".join([asking, "source ./script", *quoted])
    home = {"HOME": str(tmp_path / "home"), "PATH": f"{Path(COMMAND).parent}{os.pathsep}{os.environ['PATH']}"}
    (tmp_path / "home").mkdir()
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    ran = subprocess.run(
        [shell, *flags, "-c", source],
        cwd=tmp_path,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stderr == ""
    offered = [sorted(line.split()) for line in ran.stdout.splitlines()]
    for (words, expected), found in zip(CASES, offered, strict=True):
        assert found == sorted(expected.split()), (words, found)
    assert not (tmp_path / "missing.db").exists()


def test_everything_is_in_the_scripts(cli: Run) -> None:
    """Each command and each of its options is known to each script."""
    specs = specify()
    assert specs.keys() == commands.COMMANDS.keys()
    scripts = {shell: cli("completion", shell).out for shell in ("bash", "zsh", "fish")}
    for name, spec in flattened(specs):
        for shell, script in scripts.items():
            assert f"'{name}'" in script, (name, shell)
        for option in spec.options:
            assert (
                f" {option} " in scripts["bash"]
                or f"'{option}" in scripts["bash"]
                or f"{option}'" in scripts["bash"]
            )
            switch = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            assert switch in scripts["fish"]


def test_global_options_are_those_of_the_program() -> None:
    """What the scripts take for an option before the command is one, with or without a value."""
    for option in GLOBAL_VALUES:
        assert commands.split([option, "x", "list"]).command == "list"
    for option in GLOBAL_FLAGS:
        assert commands.split([option, "list"]).command == "list"
    with pytest.raises(WrongWords):
        commands.split(["--other", "list"])


def test_words(cli: Run, tmp_path: Path) -> None:
    """A shell must be named; asking for names makes no store."""
    assert cli("completion").code == 1
    assert "choose from" in cli("completion", "tcsh").err
    assert cli("completion", "--names", "queues") == done()
    assert os.listdir(tmp_path) == []
    assert "--names" not in cli("completion", "--help").out
