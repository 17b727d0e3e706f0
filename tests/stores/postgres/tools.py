"""What the tests of the PostgreSQL store share."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import asyncpg

from sssnbus.clock import Clock
from sssnbus.stored import Draft
from sssnbus.stores import PostgresStore, Store, store_from_url
from sssnbus.stores.base import Kind

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
    await store.open()
    try:
        await store.declare("jobs", Kind.QUEUE)
        await store.declare("events", Kind.LOG)
        yield store
    finally:
        await store.aclose()


async def until(condition: Callable[[], Awaitable[object]], patience: float = 20.0) -> None:
    """Ask until something is so."""
    end = time.monotonic() + patience
    while not await condition():
        assert time.monotonic() < end, "it did not become so"
        await asyncio.sleep(0.01)


def draft(channel: str = "jobs", body: bytes = b"1", **more: Any) -> Draft:
    """Return a draft of which only a few things matter."""
    return Draft(channel, more.pop("id", None), 1.0, "me", None, "json", b"", body, 0, **more)
