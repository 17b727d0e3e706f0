"""What the tests of the PostgreSQL store share."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import asyncpg

from sssnbus.clock import Clock
from sssnbus.errors import BusError
from sssnbus.stores import PostgresStore, Store, store_from_url
from sssnbus.stores.base import Kind
from tests.stores.tools import draft as draft
from tests.stores.tools import until as until

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Site:
    """A namespace of a database."""

    address: str
    namespace: str
    pooler: str | None = None
    """The address by way of a pooler of transactions, if stores are to go by it."""
    direct: bool = False
    """Whether stores know the way past the pooler too."""

    def url(self, port: int | None = None, **options: object) -> str:
        """Return the URL of the namespace; with a port, through the proxy that listens there."""
        base = self.address
        if self.pooler is not None:
            base, options = self.pooler, {"pooler": "yes"} | options
        if self.direct:
            options["direct"] = quote(self.address, safe="")
        if port is not None:
            head, _, tail = base.rpartition("@")
            base = f"{head}@127.0.0.1:{port}/{tail.partition('/')[2]}"
        return "&".join([f"{base}?namespace={self.namespace}", *(f"{k}={v}" for k, v in options.items())])

    @property
    def port(self) -> int:
        """The port of the server."""
        return int(self.address.rpartition(":")[2].partition("/")[0])

    def store(self, port: int | None = None, clock: Clock | None = None, **options: Any) -> PostgresStore:
        """Return a store that is not open."""
        return cast(PostgresStore, store_from_url(self.url(port, **options), clock))

    def factory(self, *, clock: Clock | None = None) -> Store:
        """Make stores as the published checks want them."""
        return self.store(clock=clock)

    async def run(self, statement: str, *args: object) -> list[Any]:
        """Run a statement by hand; ``{schema}`` stands for the namespace."""
        connection = await asyncpg.connect(self.address)
        try:
            rows: list[Any] = await connection.fetch(
                statement.replace("{schema}", f'"{self.namespace}"'), *args
            )
            return rows
        finally:
            await connection.close()

    async def remove(self) -> None:
        """Remove the namespace and everything in it."""
        await self.run("DROP SCHEMA IF EXISTS {schema} CASCADE")


@asynccontextmanager
async def opened(site: Site, port: int | None = None, **options: Any) -> AsyncIterator[PostgresStore]:
    """Give an open store with a queue ``jobs`` and a log ``events``."""
    if "timeout" in options:
        # Making everything takes longer than such a limit may allow.
        async with opened(site):
            pass
    store = site.store(port, **options)
    # Nor does a slow machine come to anything the first time.
    await until(lambda: works(store.open()))
    try:
        await until(lambda: works(store.declare("jobs", Kind.QUEUE)))
        await until(lambda: works(store.declare("events", Kind.LOG)))
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def held_up(site: Site, log: str, table: str = "log") -> AsyncIterator[None]:
    """Hold the lock of a log, of its jobs or of all writers, so that a statement stops in the middle."""
    wheres = {"log": "name = $1", "writer": "$1::text IS NOT NULL"}
    where = wheres.get(table, f'log = (SELECT number FROM "{site.namespace}".log WHERE name = $1)')
    connection = await asyncpg.connect(site.address)
    try:
        async with connection.transaction():
            await connection.fetch(f'SELECT 1 FROM "{site.namespace}".{table} WHERE {where} FOR UPDATE', log)
            yield
    finally:
        await connection.close()


async def waits(site: Site) -> int:
    """Return how many statements of stores wait for a lock."""
    rows = await site.run(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'sssnbus w%'"
    )
    return len(rows)


async def works(verb: Awaitable[object]) -> bool:
    """Return whether a verb succeeds now."""
    try:
        await verb
    except BusError:
        return False
    return True
