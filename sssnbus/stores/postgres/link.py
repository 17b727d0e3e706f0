"""One connection that comes back: the only place that talks to the driver."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg

from sssnbus.errors import ClosedError, StoreError
from sssnbus.stores.backoff import Backoff
from sssnbus.stores.postgres.failure import Lost, from_connecting, is_lost, is_stale, refuses_tls
from sssnbus.stores.postgres.place import Place

PAUSES: Final = (0.02, 0.5)
"""The first and the longest wait, in seconds, between two attempts to connect."""

_REFUSED: Final = frozenset({"28P01", "28000", "3D000", "25006", "42501"})
"""Answers to a connection that another attempt does not change."""

_READ_ONLY: Final = "25006"

_PLANS: Final = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "jit")

Connection = Any
"""The driver has no types."""


class Link:
    """A connection that is made when it is needed, and made anew when it is lost. For one task at a time."""

    def __init__(
        self,
        place: Place,
        dsn: str,
        name: str,
        greet: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        """Name a connection.

        Args:
            place: Where and how.
            dsn: The address: the place's own, or the one past its pooler.
            name: What the server shows for it.
            greet: Called with each new connection before its use.
        """
        self._place, self._dsn, self._name, self._greet = place, dsn, name, greet
        self._pooled = place.pooler and dsn == place.dsn
        self._connection: Connection = None
        self._closed = False

    @property
    def connection(self) -> Connection:
        """The connection there is, or None."""
        return self._connection

    async def connect(self, patience: float) -> Connection:
        """Return a connection, trying for ``patience`` seconds.

        Raises:
            StoreUnavailable: none could be made.
        """
        connection = self._connection
        if connection is not None and not connection.is_closed():
            return connection
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        backoff = Backoff(*PAUSES)
        said: BaseException | None = None
        while True:
            if self._closed:
                raise ClosedError(f"Store {self._place.url}")
            try:
                async with asyncio.timeout_at(end):
                    connection = await self._connect(max(0.05, end - loop.time()))
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
                self.drop()
                # What the last attempt was told says more than that time ran out in this one.
                said = said if isinstance(exc, TimeoutError) and said is not None else exc
                if _is_final(exc) or loop.time() + backoff.pause >= end:
                    raise from_connecting(said, self._place.url, patience) from _safe(said)
            else:
                if self._closed:
                    # It was given up for good while it connected.
                    _terminate(connection)
                    continue
                self._connection = connection
                return connection
            await backoff.wait()

    async def fetch(self, statement: str, args: Sequence[Any], timeout: float) -> list[Any]:
        """Run one statement on the connection there is.

        Raises:
            Lost: the connection is gone, or ``timeout`` seconds were not enough; the connection is given up.
            asyncpg.PostgresError: the server refused; nothing was applied.
        """
        connection = self._connection
        if connection is None:
            raise Lost
        # Cancelling the driver's own wait would make it connect once more, to cancel the statement there.
        timer = asyncio.get_running_loop().call_later(timeout, connection.terminate)
        try:
            rows: list[Any] = await connection.fetch(statement, *args)
            return rows
        except BaseException as exc:
            if is_stale(exc) or getattr(exc, "sqlstate", None) == _READ_ONLY:
                # A server that may only be read is not the one to write to: another host may be by now.
                self.drop()
                raise
            if isinstance(exc, Exception) and not is_lost(exc) and not connection.is_closed():
                raise
            self.drop()
            if isinstance(exc, Exception):
                raise Lost from _safe(exc)
            raise
        finally:
            timer.cancel()

    async def run(self, statement: str) -> None:
        """Run statements that lock a whole table, for as long as it takes.

        Raises:
            Lost: the connection is gone.
            asyncpg.PostgresError: the server refused.
        """
        connection = self._connection
        if connection is None:
            raise Lost
        # Who waits for a whole table is in the way of all who come after: less long than they wait.
        patience = max(1, round(self._place.timeout * 500))
        limits = f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {patience}"
        try:
            await connection.execute(f"BEGIN; {limits}; {statement}; COMMIT")
        except asyncio.CancelledError:
            self.drop()
            raise
        except Exception as exc:
            if not is_lost(exc) and not connection.is_closed():
                raise
            self.drop()
            raise Lost from _safe(exc)

    def drop(self) -> None:
        """Give the connection up, without a word to the server. Never waits."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            _terminate(connection)

    def end(self) -> None:
        """Give the connection up for good."""
        self._closed = True
        self.drop()

    async def _connect(self, timeout: float) -> Connection:
        place = self._place
        settings = {"application_name": f"sssnbus {self._name}"}
        if not self._pooled:
            # A statement that nobody waits for any more must not hold its locks for ever.
            limit = str(max(1, round(place.timeout * 1000)))
            settings |= {
                "statement_timeout": limit,
                "idle_in_transaction_session_timeout": limit,
                "client_min_messages": "error",
                # Whoever waited for a row has to see what the one before has made of it.
                "default_transaction_isolation": "read committed",
                # Reads are such as an index answers at once, whatever the server knows of the tables yet.
                **dict.fromkeys(_PLANS, "off"),
            }
        connection = await asyncpg.connect(
            self._dsn,
            timeout=timeout,
            server_settings=settings,
            statement_cache_size=0 if self._pooled else 100,
            max_cached_statement_lifetime=0,
        )
        try:
            if connection.get_settings().server_encoding != "UTF8":
                raise StoreError(
                    f"Store {place.url} cannot be used: the encoding of its database is not UTF8."
                )
            if self._greet is not None:
                await self._greet(connection)
        except BaseException:
            _terminate(connection)
            raise
        return connection


def _terminate(connection: Connection) -> None:
    # A task that its loop left behind is ended with nothing left to end: that loop is closed.
    with suppress(RuntimeError):
        connection.terminate()


def _is_final(exc: BaseException) -> bool:
    """Return whether another attempt would end the same way."""
    known = isinstance(exc, asyncpg.InterfaceError | ssl.SSLCertVerificationError)
    return known or refuses_tls(exc) or getattr(exc, "sqlstate", None) in _REFUSED


def _safe(exc: BaseException) -> BaseException | None:
    """Return what may be chained: not what could quote the address."""
    return None if isinstance(exc, asyncpg.ClientConfigurationError) else exc
