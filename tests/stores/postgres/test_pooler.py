"""Behind PgBouncer, which hands out sessions for one transaction: the same promises."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from sssnbus import Bus, ChannelMessage
from sssnbus.stores import PostgresStore
from sssnbus.stores.base import Counts
from sssnbus.testing import Check, contract_checks
from tests.servers.pgbouncer import PgBouncer, program
from tests.stores.postgres.tools import Site, draft, opened

_numbers = count(1)


@pytest.fixture(scope="session")
def pooler(address: str) -> Iterator[PgBouncer]:
    """Give a pooler of fewer sessions than one store has connections."""
    if program() is None:
        pytest.skip("no PgBouncer on this machine")
    with tempfile.TemporaryDirectory(prefix="sssnbus-pg-") as folder:
        os.chmod(folder, 0o755)
        pooler = PgBouncer(Path(folder), address)
        pooler.start()
        yield pooler
        pooler.stop()


@pytest.fixture
def site(address: str, pooler: PgBouncer) -> Iterator[Site]:
    """Return a namespace behind the pooler."""
    site = Site(address, f"pooled_{os.getpid()}_{next(_numbers)}", pooler.url)
    yield site
    if os.environ.get("SSSNBUS_TEST_POSTGRES_URL"):
        asyncio.run(site.remove())


@pytest.mark.torture  # for its length: the same checks run without a pooler every time
@pytest.mark.parametrize("check", contract_checks(PostgresStore, shared=True), ids=str)
async def test_contract(check: Check, site: Site) -> None:
    """The store keeps the promise."""
    await check(site.factory)


async def test_many_stores(site: Site) -> None:
    """Stores that share a few sessions, and come and go all the time, never meet each other's statements."""

    async def use(number: int) -> None:
        async with opened(site) as store:
            body = b"%d" % number
            for _ in range(5):
                await asyncio.gather(
                    store.append([draft("events", body)]),
                    store.append([draft(body=body), draft("events", body)]),
                    store.read("events", after=0, limit=10),
                    store.counts("jobs"),
                    store.changed(),
                )

    async with opened(site) as store:
        await asyncio.gather(*(use(number) for number in range(8)))
        page = await store.read("events", after=0, limit=100)
        assert sorted(stored.body for stored in page.messages) == sorted(b"%d" % n for n in [*range(8)] * 10)
        assert await store.counts("jobs") == Counts(ready=40)


@pytest.mark.parametrize("direct", [False, True], ids=["without sessions", "with a way past it"])
async def test_live(site: Site, direct: bool) -> None:
    """Subscribers and workers of another bus hear, by notifications if there is a way past the pooler."""
    url = replace(site, direct=direct).url(**{"poll_interval": 3600} if direct else {})
    async with Bus(url) as one, Bus(url) as two:
        seen: asyncio.Queue[object] = asyncio.Queue()

        async def on_message(message: ChannelMessage) -> None:
            seen.put_nowait(message.content.data)

        await two.broadcast("events").subscribe("r", on_message)
        await two.work_queue("jobs").subscribe("w", on_message)
        for number in range(5):
            await one.broadcast("events").write("me", number)
            assert await asyncio.wait_for(seen.get(), 10) == number
            await one.work_queue("jobs").write("me", -number)
            assert await asyncio.wait_for(seen.get(), 10) == -number
