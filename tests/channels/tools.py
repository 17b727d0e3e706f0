"""What the tests of channels share."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sssnbus import Bus, ChannelMessage, GenericContent, WorkQueueChannel
from sssnbus.stores import LogStore, MemoryStore, SQLiteStore
from sssnbus.stores.sqlite.connection import Connection
from sssnbus.testing import run_until_idle

FOLDER = Path(__file__).resolve().parents[2]
"""Where the package is imported from."""


def data(message: ChannelMessage) -> Any:
    """Return the plain value that was written."""
    assert isinstance(message.content, GenericContent)
    return message.content.data


class Recorder:
    """A callback that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[ChannelMessage] = []

    async def __call__(self, message: ChannelMessage) -> None:
        self.messages.append(message)

    @property
    def seen(self) -> list[Any]:
        """The values that came, in order."""
        return [data(message) for message in self.messages]

    async def reach(self, count: int) -> None:
        """Wait until so many messages have come."""
        await until(lambda: len(self.messages) >= count)


class Gate(Recorder):
    """A callback that is stuck until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, message: ChannelMessage) -> None:
        self.entered.set()
        await self.opened.wait()
        await super().__call__(message)


class Failing(Recorder):
    """A callback that keeps what it gets and fails so many times."""

    def __init__(self, times: int = 10**9) -> None:
        super().__init__()
        self.times = times

    async def __call__(self, message: ChannelMessage) -> None:
        await super().__call__(message)
        if len(self.messages) <= self.times:
            raise ValueError("as the test wants it")


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is true; the limit only fails."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.001)


def waits(queue: WorkQueueChannel) -> bool:
    """Return whether somebody here waits for a message of the queue."""
    return queue._running is not None and bool(queue._running.desk._waiters)


def without(*abilities: type) -> LogStore:
    """Return a store in memory that lacks some abilities."""
    bases = tuple(base for base in MemoryStore.__bases__ if base not in abilities)
    own = {n: value for n, value in vars(MemoryStore).items() if n not in ("__dict__", "__weakref__")}
    store = type("Lesser", bases, own)()
    assert isinstance(store, LogStore)
    return store


async def quiet(bus: Bus) -> None:
    """Let everything go as far as it can without time, in the threads of an SQLite store too."""
    store = await bus.store()
    threads = (store._connection, store._reader) if isinstance(store, SQLiteStore) else ()
    posted = 0
    post = Connection.post

    def counted(connection: Connection, function: Callable[[], object]) -> None:
        nonlocal posted
        posted += 1
        post(connection, function)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "post", counted)
        before = -1
        # Until a round in which nobody gave the threads anything but us.
        while posted != before + len(threads):
            before = posted
            for thread in threads:
                await thread.run(lambda: None)
            await run_until_idle()


async def cancelled(task: "asyncio.Future[Any]") -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def python(script: str, *arguments: object, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run a program of its own and return how it ended."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def spawn(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
