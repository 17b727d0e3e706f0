"""The installed command as tests run it: as a process, or inside this one where that makes no difference."""

import atexit
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from sssnbus.cli import main

COMMAND = str(Path(sys.executable).parent / "sssnbus")
"""The console script beside this interpreter."""

PATIENCE = 50.0
"""Seconds after which something that should have happened is taken for lost; a quiet machine needs none."""

CROWD_PATIENCE = 200.0
"""The same for many processes at once, each of which may have to wait for a processor."""


Run = Callable[..., "Result"]
"""Runs a command: its words, then ``stdin=`` and ``env=``."""


class Result(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines on stdout."""
        return self.out.splitlines()


def done(out: str = "") -> Result:
    """Return how a command ends that did what it should, and said nothing else."""
    return Result(0, out, "")


NOTHING = Result(2, "", "")
"""How a command ends that found nothing there."""


_CACHE = tempfile.mkdtemp(prefix="sssnbus-bytecode-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without settings of its own, and with those given.

    Compiled modules are kept for the next process, as where people install them: without that, compiling
    them is most of what a command does.
    """
    plain = {key: value for key, value in os.environ.items() if not key.startswith("SSSNBUS_")}
    plain.pop("PYTHONDONTWRITEBYTECODE", None)
    return plain | {"PYTHONPYCACHEPREFIX": _CACHE} | dict(env or {})


def sssnbus(
    *words: str,
    stdin: str | bytes | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
) -> Result:
    """Run the installed command to its end.

    Args:
        words: Its words.
        stdin: What it reads; nothing at all (the null device) when left out.
        cwd: The directory it runs in.
        env: Settings added to the environment.
        timeout: Seconds it may take.
    """
    data = stdin.encode() if isinstance(stdin, str) else stdin
    source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    done = subprocess.run(
        [COMMAND, *words], capture_output=True, cwd=cwd, env=environment(env), timeout=timeout, **source
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def start(
    *words: str,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    **pipes: Any,
) -> "Iterator[subprocess.Popen[str]]":
    """Run the installed command beside the test; it is killed when the block ends.

    Its stdout and stderr are pipes of text unless ``pipes`` say otherwise; its stdin is empty.
    """
    given = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    } | pipes
    process: subprocess.Popen[str] = subprocess.Popen(
        [COMMAND, *words], cwd=cwd, env=environment(env), **given
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def at_once(
    commands: list[tuple[str, ...]],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> list[Result]:
    """Run several commands at the same time, and return how each ended, in their order."""
    return _all([[COMMAND, *words] for words in commands], cwd, env)


def _all(
    commands: list[list[str]], cwd: str | os.PathLike[str] | None, env: Mapping[str, str] | None
) -> list[Result]:
    running = [
        subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=environment(env),
        )
        for words in commands
    ]
    results = []
    try:
        for process in running:
            out, err = process.communicate(timeout=CROWD_PATIENCE)
            results.append(Result(process.returncode, out, err))
    finally:
        for process in running:
            process.kill()
            process.communicate()
    return results


def shells(
    *scripts: str, cwd: str | os.PathLike[str] | None = None, env: Mapping[str, str] | None = None
) -> list[Result]:
    """Run several shell scripts at the same time, in which ``sssnbus`` is the installed command."""
    path = f"{Path(COMMAND).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return _all([["sh", "-c", script] for script in scripts], cwd, {"PATH": path} | dict(env or {}))


def inside(
    *words: str,
    stdin: str | bytes = b"",
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Result:
    """Run a command in this process: the same words and answers, without the cost of a process."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    home = os.getcwd()
    os.chdir(cwd or home)
    try:
        with (
            patch.dict(os.environ, environment(env), clear=True),
            patch("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8")),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = main(words)
    finally:
        os.chdir(home)
    shown, said = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Result(code, shown, said)


def wait_until(true: Callable[[], object], what: str = "") -> None:
    """Return when a condition holds; fail when it does not for a long time."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what or "It did not happen in time."
        time.sleep(0.01)
