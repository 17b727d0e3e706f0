"""The one place that uses the inside of aiosqlite: its thread, its queue and its sqlite3 connection.

A whole transaction has to be one hop to the thread. With one await for each statement, a cancelled task
would leave its transaction open, and every other process locked out.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import aiosqlite
from aiosqlite.core import _STOP_RUNNING_SENTINEL

from sssnbus.stores.loop import call_soon

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Connection(aiosqlite.Connection):
    """A connection whose thread runs whole functions, and never keeps the interpreter from ending."""

    def __init__(self, connector: Callable[[], sqlite3.Connection], name: str) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._thread.daemon = True
        self._thread.name = name

    async def connect(self) -> None:
        """Start the thread and let it connect."""
        self._thread.start()
        await self.run(self._adopt)

    def post(self, function: Callable[[], object]) -> None:
        """Run a function in the thread. It must not raise, and must not hold a payload in its repr."""
        self._tx.put_nowait((None, function))

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function in the thread and return what it returns.

        If the call is cancelled the function still runs, so it should only read or be done for good.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self.post(_Hop(loop, future, function))
        return await future

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection itself, for use in the thread."""
        return self._conn

    def end(
        self,
        last: Callable[[sqlite3.Connection], None] | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Let the thread do what it was given, call ``last``, disconnect, call ``then`` and end."""
        self._running = False
        self.post(partial(self._end, last, then))

    def __del__(self) -> None:
        # The store warns about itself; what is left here is not to leave a thread behind.
        if self._running and self._thread.is_alive():
            self.end()

    def _adopt(self) -> None:
        self._connection = self._connector()

    def _end(
        self, last: Callable[[sqlite3.Connection], None] | None, then: Callable[[], None] | None
    ) -> object:
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                if last is not None:
                    last(connection)
                connection.close()
        except sqlite3.Error as exc:
            _log.warning("A connection did not close well: %s", exc)
        if then is not None:
            then()
        return _STOP_RUNNING_SENTINEL


class _Hop(Generic[T]):
    """A function on its way to the thread. Its repr, which aiosqlite logs, shows nothing."""

    __slots__ = ("_function", "_future", "_loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], function: Callable[[], T]
    ) -> None:
        self._loop, self._future, self._function = loop, future, function

    def __call__(self) -> None:
        try:
            done = partial(_set_result, self._future, self._function())
        except BaseException as exc:
            done = partial(_set_exception, self._future, exc)
        call_soon(self._loop, done)


def _set_result(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[T], exc: BaseException) -> None:
    if not future.done():
        future.set_exception(exc)
