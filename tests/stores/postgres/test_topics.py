"""Reads by topics on PostgreSQL: the server passes over what does not match, for a bounded time."""

import pytest

from sssnbus import Bus
from sssnbus.stores.postgres import log, sql
from sssnbus.topics import Pattern
from tests.servers.proxy import Proxy
from tests.stores.postgres.tools import Site, opened
from tests.stores.topics import RARE, fill, join_by_topic, reads


async def test_only_what_matches_travels(site: Site) -> None:
    """Bodies of other topics stay on the server."""
    async with (
        Proxy("127.0.0.1", site.port) as proxy,
        opened(site) as store,
        opened(site, proxy.port) as reader,
    ):
        rare = await fill(store, 300, 5_000)
        before = proxy.answered
        assert await reads(reader, RARE) == (rare, 1)
        assert proxy.answered - before < 60_000


async def test_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement looks at so many messages, whether or not any of them matches; holes do not count."""
    monkeypatch.setattr(log, "LOOK", 50)
    async with opened(site) as store:
        rare = await fill(store, 300)
        assert await reads(store, RARE) == (rare, 6)
        assert await reads(store, [Pattern.parse("nothing")]) == ([], 6)
        gone = (await store.read("topics", after=20, limit=250)).messages
        await store.remove("topics", [stored.id for stored in gone])
        assert await reads(store, RARE) == ([3, 300], 2)


async def test_read_by_key(site: Site) -> None:
    """A read by topics finds its stretch by the key, also in a long log among others."""
    async with opened(site) as store:
        await fill(store, 300, log="other")
        await fill(store, 2000)
        await site.run("ANALYZE {schema}.message")
        statement = sql.PAGE_ON_TOPICS
        for number, value in enumerate(("'topics'", "5::bigint", "2000::bigint", "9", "99", "'^rare'"), 1):
            statement = statement.replace(f"${number}", value)
        plan = "\n".join(row[0] for row in await site.run("EXPLAIN " + statement))
        assert "Seq Scan on message" not in plan, plan


async def test_join(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who joins with a pattern while others write gets each message that matches once, in order (SN-28)."""
    monkeypatch.setattr(log, "LOOK", 4)
    async with Bus(site.url()) as here, Bus(site.url()) as there:
        await join_by_topic(here, there, 10)
