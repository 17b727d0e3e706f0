"""Reads by topics on Redis: the server passes over what does not match, for a bounded time."""

from urllib.parse import urlsplit

import pytest

from sssnbus import Bus
from sssnbus.stores.redis import log
from sssnbus.topics import Pattern
from tests.servers.proxy import Proxy
from tests.stores.redis.tools import opened
from tests.stores.topics import RARE, fill, join_by_topic, reads


async def test_only_what_matches_travels(url: str) -> None:
    """Bodies of other topics stay on the server."""
    parts = urlsplit(url)
    async with Proxy("127.0.0.1", parts.port or 0) as proxy:
        through = parts._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
        async with opened(url) as store, opened(through) as reader:
            rare = await fill(store, 300, 5_000)
            before = proxy.answered
            assert await reads(reader, RARE) == (rare, 1)
            assert proxy.answered - before < 40_000
            many = RARE + [Pattern.parse(f"x.{number}") for number in range(9)]
            assert (await reads(reader, many))[0] == rare


async def test_bounded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer looks at so many messages, or so many bytes, whether or not any of them matches."""
    async with opened(url) as store:
        rare = await fill(store, 300, 100)
        nothing = [Pattern.parse("nothing")]
        monkeypatch.setattr(log, "LOOK", 50)
        assert await reads(store, RARE) == (rare, 6)
        assert await reads(store, nothing) == ([], 6)
        monkeypatch.setattr(log, "LOOK", 1000)
        monkeypatch.setattr(log, "MAX_ANSWER_BYTES", 5_000)
        for topics, expected in ((RARE, rare), (nothing, [])):
            found, pages = await reads(store, topics)
            assert found == expected
            assert pages >= 3


async def test_join(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who joins with a pattern while others write gets each message that matches once, in order (SN-28)."""
    monkeypatch.setattr(log, "LOOK", 4)
    async with Bus(url) as here, Bus(url) as there:
        await join_by_topic(here, there, 10)
