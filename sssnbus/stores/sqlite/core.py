"""What a database needs to be open: connections, threads, locks; and how they end."""

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from sssnbus.clock import Clock, SystemClock
from sssnbus.errors import InvalidOption, StoreTimeout
from sssnbus.stores.holds import Holds
from sssnbus.stores.life import LivingStore
from sssnbus.stores.loop import call_soon, outlive
from sssnbus.stores.sqlite.bell import Bells
from sssnbus.stores.sqlite.connection import Connection
from sssnbus.stores.sqlite.failure import opening, translated
from sssnbus.stores.sqlite.file import DatabaseFile
from sssnbus.stores.sqlite.keeper import Keeper
from sssnbus.stores.sqlite.opened import Opened
from sssnbus.stores.sqlite.settle import leave
from sssnbus.stores.sqlite.transaction import Transaction
from sssnbus.stores.sqlite.writer import Operation, Writer

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Core(LivingStore):
    """What every verb needs: a writer, a reader, and the right moment."""

    owner: str
    poll_interval: float | None

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["disk", "process"] = "disk",
        clock: Clock | None = None,
        poll_interval: float = 0.25,
        doorbells: bool = True,
        write_timeout: float = 30.0,
        mode: int = 0o600,
    ) -> None:
        """Name a store; it is used after ``open``.

        Args:
            path: The database file; made at ``open`` if it is not there. Its directory must be.
            durability: What a returned write survives: ``"disk"`` also a power cut, ``"process"`` a crash
                of the process only, and writes are faster.
            clock: Where the time comes from; the machine's by default.
            poll_interval: Seconds between two looks for what no doorbell told.
            doorbells: Whether to listen to other processes and to ring them.
            write_timeout: Seconds within which an operation must begin, else ``StoreTimeout``.
            mode: The permissions of files that are made; 0o660 shares them with a group.
        """
        text = os.fspath(path)
        if not text or "\0" in text:
            raise InvalidOption("path", text, "it must name a file")
        if durability not in ("disk", "process"):
            raise InvalidOption("durability", durability, 'it must be "disk" or "process"')
        for option, value in (("poll_interval", poll_interval), ("write_timeout", write_timeout)):
            if not value > 0:
                raise InvalidOption(option, value, "it must be above 0")
        super().__init__()
        self._path = os.path.abspath(text)
        self.url = f"sqlite:///{self._path}"
        self.durability = durability
        self.owner = ""
        self.poll_interval = poll_interval
        self._clock = clock or SystemClock()
        self._doorbells = doorbells
        self._write_timeout = write_timeout
        self._mode = mode
        self._holds: Holds[int] = Holds()
        self._keeper: Keeper | None = None
        self._tokens = (f"{token_hex(8)}-{number}" for number in count(1))

    async def _read(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function in the thread that reads. It sees everything committed."""
        self._check()
        raw = self._reader.raw
        try:
            return await self._reader.run(partial(function, raw, *args, **kwargs))
        except (sqlite3.Error, TypeError, ValueError) as exc:
            if (error := translated(exc, self.url)) is exc:
                raise
            raise error from exc

    async def _write(self, what: str, apply: Callable[[Transaction], T]) -> T:
        """Run a function inside the next transaction."""
        self._check()
        result: T = await self._writer.perform(Operation(what, apply))
        return result

    async def _run_alone(
        self, what: str, function: Callable[[sqlite3.Connection, DatabaseFile], None]
    ) -> None:
        """Run a function in the thread that writes, with the ticket, between two transactions.

        It never begins if it could not in time, or if the task was cancelled before. Once it has begun it
        is waited for, however often the task is cancelled.
        """
        self._check()
        opened, conn = self._opened, self._connection.raw
        turn = threading.Lock()

        def work() -> None:
            with opened.ticket:
                # Whoever takes this first decides: the thread that begins, or the caller who leaves.
                if turn.acquire(blocking=False):
                    function(conn, opened.file)

        running = asyncio.ensure_future(self._connection.run(work))
        try:
            await asyncio.wait([running], timeout=self._write_timeout)
        finally:
            given_up = not running.done() and turn.acquire(blocking=False)
            if given_up:
                running.cancel()
            else:
                await outlive(running)
        if given_up:
            raise StoreTimeout(what, self._write_timeout)
        error = running.exception()
        if isinstance(error, Exception):
            raise translated(error, self.url) from error

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        abandoned = threading.Event()
        opened = Opened(self._path, self.url, self.durability, self._mode)
        connection = Connection(partial(opened.open, abandoned), "sssnbus-sqlite-writer")
        connecting = loop.create_task(connection.connect(), name="sssnbus-sqlite-open")
        reader: Connection | None = None
        try:
            done, _ = await asyncio.wait([connecting], timeout=self._write_timeout)
            if not done:
                raise StoreTimeout(f"Opening {self.url}", self._write_timeout)
            with opening(self.url):
                connecting.result()
                reader = Connection(opened.take_reader, "sssnbus-sqlite-reader")
                await reader.connect()
        except BaseException:
            abandoned.set()
            connecting.cancel()
            close_writer = partial(connection.end, opened.close)
            if reader is None:
                close_writer()
            else:
                # Its thread may have begun, and would wait for ever.
                reader.end(then=close_writer)
            raise
        self._opened, self._connection, self._reader = opened, connection, reader
        self._writer = Writer(connection, opened.ticket, opened.file, self._clock, self._write_timeout)
        self._bells = Bells(opened.file.key, loop)
        if self._doorbells:
            self._writer.on_news = self._bells.ring
        self._ended = loop.create_future()
        self.owner = opened.owner

    async def _close(self, grace: float) -> None:
        """Take everything down, in order. Whatever is stuck is left to its daemon thread."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        try:
            if self._keeper is not None:
                self._keeper.stop()
                await asyncio.wait([self._keeper.ended], timeout=max(0.0, end - loop.time()))
            farewell = Operation(
                f"Closing {self.url}", partial(leave, self._holds.all(), self._opened.number)
            )
            patience = max(0.05, end - loop.time())
            saying = loop.create_task(self._writer.insist(farewell, patience))
            await asyncio.wait([saying], timeout=patience)
            self._writer.close()
            await saying
            if farewell.error is not None:
                # Others find the owner dead and free what it held.
                _log.debug("%s was closed without a farewell: %s", self.url, farewell.error)
        finally:
            self._let_go()
            await asyncio.wait([self._ended], timeout=max(0.05, end - loop.time()))

    def _let_go(self) -> None:
        """Tell every thread to end, and close what belongs to none."""
        loop = self._loop
        assert loop is not None, "it was opened"
        if self._keeper is not None:
            self._keeper.stop()
        for close in (self._bells.close, self._writer.close):
            if loop.is_closed():
                close()
            else:
                call_soon(loop, close)
        self._reader.post(self._bells.take_down)
        self._opened.marks.close()
        close_writer = partial(
            self._connection.end, self._opened.close, partial(call_soon, loop, partial(_finish, self._ended))
        )
        # One after the other, so that the writer is the last and may move the WAL into the database.
        self._reader.end(then=close_writer)

    def _forked(self) -> None:
        self._opened.forget()
        self._bells.forget()
        if self._keeper is not None:
            self._keeper.forget()

    def _keep(self) -> Keeper:
        """Return the thread that keeps leases; the first claim of all starts it."""
        if self._keeper is None:
            assert self._loop is not None
            opened = self._opened
            self._keeper = Keeper(
                opened.file,
                opened.number,
                opened.marks,
                self._holds,
                self._bells if self._doorbells else None,
                self._clock,
                self._loop,
                self._bells.watchers.tell,
            )
        return self._keeper

    async def _run_write_now(self, what: str, apply: Callable[[Transaction], Any]) -> None:
        """Do something although the task is being cancelled; its failure is only logged."""
        operation = Operation(what, apply)
        await self._writer.insist(operation, self._write_timeout)
        if operation.error is not None:
            _log.warning("%s failed: %s", what, operation.error)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
