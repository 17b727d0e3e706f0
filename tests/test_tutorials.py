"""The tutorials tell the truth: each runs as it stands, prints what is kept beside it, and is short."""

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.nats.places import binary, server_in

FOLDER = Path(__file__).parent.parent / "tutorials"
TUTORIALS = sorted(FOLDER.glob("[0-9][0-9]_*.*"))
PROGRAMS = [path for path in TUTORIALS if path.suffix == ".py"]

MAX_LINES = 60

NO_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}

PATIENCE = 120
"""Seconds that a tutorial may take on a machine with much else to do."""


def docstrings(tree: ast.Module) -> set[int]:
    """Return the numbers of the lines that docstrings stand on."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def code_lines(source: str) -> int:
    """Return how many lines hold code: neither blank, nor a comment, nor a docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings(ast.parse(source)))


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """Give the URL of a private NATS server, None if there is none for this platform."""
    if binary() is None:
        yield None
        return
    server = server_in(tmp_path_factory.mktemp("nats"))
    server.start()
    try:
        yield f"nats://127.0.0.1:{server.port}"
    finally:
        server.stop()


@pytest.mark.timeout(PATIENCE + 10)
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_output(tutorial: Path, tmp_path: Path, nats: str | None) -> None:
    """A tutorial runs without a warning, ends by itself, and prints what is expected.

    By that the broadcast bus shows SN-01, SN-02, SN-03, SN-05, SN-06, SN-07, SN-12, SN-13, SN-14, SN-15,
    SN-17, SN-19, SN-22, SN-23, SN-24, SN-27, SN-29, SN-31, SN-32, SN-33, SN-35 and SN-36; the work queue
    SN-38, SN-40, SN-41 and SN-46.
    """
    if nats is None and "NATS_URL" in tutorial.read_text(encoding="utf-8"):
        pytest.skip("there is no nats-server for this platform")
    command = [sys.executable, "-W", "error"] if tutorial.suffix == ".py" else ["bash"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        [*command, str(tutorial)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "TMPDIR": str(tmp_path), "NATS_URL": nats or ""},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == (FOLDER / "expected" / f"{tutorial.stem}.txt").read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [], "a tutorial leaves nothing behind"


@pytest.mark.parametrize("tutorial", PROGRAMS, ids=lambda path: path.stem)
def test_shape(tutorial: Path) -> None:
    """A tutorial says what it teaches, has a ``main``, and is short enough to be read in one go."""
    source = tutorial.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert len((ast.get_docstring(tree) or "").splitlines()) > 3
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert "main" in {node.name for node in tree.body if isinstance(node, functions)}
    assert code_lines(source) <= MAX_LINES


def test_every_tutorial_is_listed() -> None:
    """The numbers have no gap, the README names each tutorial once, and no expected output is left over."""
    names = [path.name for path in TUTORIALS]
    assert [name[:2] for name in names] == [f"{number:02}" for number in range(1, len(names) + 1)]
    listed = re.findall(
        r"^- \[.*?\]\((.*?)\)", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert listed == names
    assert sorted(path.stem for path in (FOLDER / "expected").iterdir()) == [path.stem for path in TUTORIALS]


def test_what_counts_as_code() -> None:
    """Blank lines, comments and docstrings do not count; each line of a longer statement does."""
    source = '"""Doc.\n\nMore.\n"""\n\n# Why.\nx = (\n    1,  # one\n\n    # two\n    2,\n)\n'
    assert code_lines(source) == 4
    assert code_lines(source + 'def f():\n    """Doc."""\n    return """\n\n"""\n') == 4 + 4
