"""What the tests of the SQLite store share."""

import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any

from sssnbus.stored import Draft
from sssnbus.stores.base import Kind
from sssnbus.stores.sqlite import SQLiteStore

ROOT = Path(__file__).parents[3]

HEADER = """
import asyncio, logging, os, sys
from sssnbus.stored import Draft
from sssnbus.stores.base import *
from sssnbus.stores.sqlite import SQLiteStore

def draft(channel, body=b"1", **more):
    return Draft(channel, more.pop("id", None), 1.0, "me", None, "json", b"", body, 0, **more)

# That a step took long says something of the machine, which may be busy.
logging.getLogger("asyncio").addFilter(lambda record: " took " not in record.getMessage())
path = sys.argv[1]
"""
"""What every program of a test begins with."""


def draft(channel: str = "jobs", body: bytes = b"1", **more: Any) -> Draft:
    """Return a draft of which only a few things matter."""
    return Draft(channel, more.pop("id", None), 1.0, "me", None, "json", b"", body, 0, **more)


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SQLiteStore]:
    """Give an open store with a queue ``jobs`` and a log ``events``."""
    store = SQLiteStore(path, **options)
    await store.open()
    try:
        await store.declare("jobs", Kind.QUEUE)
        await store.declare("events", Kind.LOG)
        yield store
    finally:
        await store.aclose()


class Program:
    """A Python program in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def line(self) -> str:
        """Return the next line that it prints."""
        return self._stream(self.process.stdout).readline().strip()

    def say(self, text: str) -> None:
        """Send it a line."""
        stream = self._stream(self.process.stdin)
        stream.write(text + "\n")
        stream.flush()

    def finish(self, timeout: float = 20.0) -> tuple[int, str, str]:
        """Wait for its end; return its exit code and what else it printed."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


@contextmanager
def program(path: Path, source: str, *args: str, **options: Any) -> Iterator[Program]:
    """Run source text that finds the database in ``path``; it is killed in the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", HEADER + textwrap.dedent(source), str(path), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
