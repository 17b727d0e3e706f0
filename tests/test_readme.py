"""The README tells the truth: its programs run as they stand there and print what it says."""

import itertools
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from sssnbus.stores import store_from_url
from sssnbus.stores.postgres.url import _PASSED_ON

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
COMMAND = [sys.executable, "-W", "error"]


class Block(NamedTuple):
    language: str
    line: int
    text: str


def blocks() -> list[Block]:
    """Return the code blocks of the README that are programs or their output."""
    found = []

    def collect(example: Example) -> None:
        found.append(Block(example.region.lexemes["arguments"], example.line, str(example.parsed)))

    parsers = [CodeBlockParser(language, collect) for language in ("python", "sh", "text")]
    for example in Sybil(parsers=parsers).parse(README).examples():
        example.evaluate()
    return sorted(found, key=lambda block: block.line)


BLOCKS = blocks()
NAMED = {name[1]: block for block in BLOCKS if (name := re.match(r"# (\w+\.py)\n", block.text))}
PROGRAMS = [
    pytest.param(block, after, id=f"line {block.line}")
    for block, after in itertools.pairwise(BLOCKS)
    if block.language == "python" and block not in NAMED.values() and after.language == "text"
]


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_program(program: Block, output: Block, tmp_path: Path) -> None:
    """A program of the README runs without a warning and prints the block that follows it."""
    (tmp_path / "program.py").write_text(program.text)
    run = subprocess.run(
        [*COMMAND, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == output.text


SCRIPTS = [
    pytest.param(block, after, id=f"line {block.line}")
    for block, after in itertools.pairwise(BLOCKS)
    if block.language == "sh" and after.language == "text"
]


@pytest.mark.parametrize(("script", "output"), SCRIPTS)
def test_script(script: Block, output: Block, tmp_path: Path) -> None:
    """A script of the README runs in a shell and prints the block that follows it."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    run = subprocess.run(
        ["bash", "-eu", "-c", script.text], cwd=tmp_path, env={"PATH": path, "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == output.text


def test_blocks_are_found() -> None:
    """There are programs and scripts to run: nothing is left out by a change of the page's form."""
    assert (len(PROGRAMS), len(SCRIPTS), len(NAMED)) == (2, 1, 2)


@pytest.mark.parametrize("first", ["subscriber.py", "publisher.py"])
def test_two_processes(first: str, tmp_path: Path) -> None:
    """The publisher and the subscriber meet, whichever of them is started first."""
    for name, block in NAMED.items():
        (tmp_path / name).write_text(block.text)
    running = {}
    try:
        for name in (first, *(NAMED.keys() - {first})):
            running[name] = subprocess.Popen(
                [*COMMAND, name], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            if name == "publisher.py":
                running[name].wait(30)
        outcomes = {name: process.communicate(timeout=30) for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
    assert {name: error for name, (_, error) in outcomes.items()} == dict.fromkeys(running, "")
    received = BLOCKS[BLOCKS.index(NAMED["publisher.py"]) + 1].text
    assert outcomes["subscriber.py"][0] == received
    assert outcomes["publisher.py"][0].splitlines() == [f"Published as number {n}" for n in (1, 2, 3)]


def test_every_block_is_tested() -> None:
    """No program of the README is left out: each prints something, or has a name and a partner."""
    programs = [block for block in BLOCKS if block.language == "python"]
    assert len(programs) == len(PROGRAMS) + len(NAMED)
    assert set(NAMED) == {"publisher.py", "subscriber.py"}


def test_links() -> None:
    """Every file that the README links to is there."""
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", README.read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


URLS = re.findall(r"`((?:sqlite|postgresql|rediss?|nats|tls)://[^`]+)`", README.read_text())


@pytest.mark.parametrize("url", sorted(set(URLS)))
def test_urls(url: str) -> None:
    """Every URL on the page is one that is understood, options and all."""
    assert store_from_url(url).url


def test_options() -> None:
    """The table of options names all there are, and no others."""
    rooms = ("sqlite", "postgres", "redis", "nats")
    known = {name for room in rooms for name in import_module(f"sssnbus.stores.{room}.url").OPTIONS}
    text = README.read_text().partition("| option |")[2].partition("\n\n")[0]
    told = {word for row in text.splitlines()[2:] for word in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert told == known - _PASSED_ON


def test_commands_stand_at_the_top() -> None:
    """The two set-up commands are single lines before the first section, each with its own environment."""
    top = README.read_text().partition("\n## ")[0]
    commands = re.findall(r"```sh\n(.*)\n```", top)
    assert [command.split()[3] for command in commands] == [".venv-demo", ".venv-test"]
