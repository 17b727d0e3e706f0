"""Children of a test: real processes that speak JSON lines."""

import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.context import ForkServerContext
from queue import Empty, Queue
from typing import Any

from tests.processes.actor import enter

PATIENCE = 30.0
"""Seconds after which a test that waits for a line or an end has failed."""

Line = dict[str, Any]


@cache
def nursery() -> ForkServerContext:
    """Return what starts children: forks of a process that has imported everything and opened nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "tests.processes.actor"])
    return context


class Actor:
    """One child that plays a part of ``tests.processes.actor``; it begins at once."""

    def __init__(self, part: str, url: str, **options: Any) -> None:
        self.part = part
        self.lines: list[Line] = []
        """What it has said so far and somebody here has looked at."""
        self._passed: list[Line] = []
        """Those of them that nobody has expected yet."""
        self._said: Queue[Line | None] = Queue()
        self._errors = tempfile.NamedTemporaryFile()  # noqa: SIM115  # as long as the child lives
        words, self._words = nursery().Pipe(duplex=False)
        self._lines, lines = nursery().Pipe(duplex=False)
        self._process = nursery().Process(
            target=enter, args=(part, url, options, words, lines, self._errors.name), daemon=True
        )
        self._process.start()
        words.close()
        lines.close()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def tell(self, word: str = "go") -> None:
        """Let it go on from where it waits for a word."""
        os.write(self._words.fileno(), word.encode() + b"\n")

    def expect(self, key: str, value: Any = None, patience: float = PATIENCE) -> Line:
        """Return the first line not returned yet that has ``key`` (with ``value``, if given).

        Fails if it ends, or ``patience`` seconds pass, without such a line.
        """
        until = time.monotonic() + patience
        fits = (line for line in self._passed if key in line and value in (None, line[key]))
        if (found := next(fits, None)) is not None:
            self._passed.remove(found)
            return found
        while True:
            try:
                line = self._said.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                raise AssertionError(f"{self} said no {key!r} in time; {self.errors()}") from None
            if line is None:
                self._said.put(None)
                raise AssertionError(f"{self} ended without saying {key!r}; {self.errors()}")
            self.lines.append(line)
            if key in line and value in (None, line[key]):
                return line
            self._passed.append(line)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> list[Line]:
        """Kill it with SIGKILL, as a crash would; return all its lines."""
        self._process.kill()
        return self.join(-signal.SIGKILL)

    def join(self, code: int | None = 0, patience: float = PATIENCE) -> list[Line]:
        """Wait for its end, check its exit code (None: any) and return all its lines."""
        self._process.join(patience)
        got = self._process.exitcode
        assert got is not None, f"{self} did not end in time; {self.errors()}"
        self._listener.join(patience)
        while (line := self._said.get()) is not None:
            self.lines.append(line)
        self._said.put(None)
        assert code is None or got == code, f"{self} ended with {got}; {self.errors()}"
        return self.lines

    def said(self, key: str) -> list[Any]:
        """Return the values of a key in all lines looked at, in order."""
        return [line[key] for line in self.lines if key in line]

    def listed(self, key: str) -> list[Any]:
        """Return the items of all lists that it said under a key, in order."""
        return [item for items in self.said(key) for item in items]

    def errors(self) -> str:
        """Return the end of what it wrote to stderr."""
        self._errors.seek(0)
        return "its stderr: " + self._errors.read().decode(errors="replace")[-3000:]

    def dispose(self) -> None:
        """End it whatever it does, and free what is held for it."""
        self._process.kill()
        self._process.join()
        self._listener.join()
        self._words.close()
        self._lines.close()
        self._errors.close()

    def __repr__(self) -> str:
        return f"<{self.part} {self.pid}>"

    def _listen(self) -> None:
        with os.fdopen(os.dup(self._lines.fileno()), "rb") as lines:
            for text in lines:
                # A kill may cut its last line anywhere.
                with suppress(ValueError):
                    self._said.put(json.loads(text))
        self._said.put(None)


class Crew:
    """All children of one test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._actors: list[Actor] = []

    def start(self, part: str, **options: Any) -> Actor:
        """Start a child."""
        actor = Actor(part, self.url, **options)
        self._actors.append(actor)
        return actor

    def start_ready(self, part: str, **options: Any) -> Actor:
        """Start a child and wait until it is ready."""
        actor = self.start(part, **options)
        actor.expect("ready")
        return actor

    def dispose(self) -> None:
        """End every child that is left."""
        for actor in self._actors:
            actor.dispose()


@contextmanager
def crew_at(url: str) -> Iterator[Crew]:
    """Give a crew on a store, and end what is left of it."""
    crew = Crew(url)
    try:
        yield crew
    finally:
        crew.dispose()
