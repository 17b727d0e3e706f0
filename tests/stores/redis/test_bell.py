"""What stores on Redis tell each other of news."""

import asyncio

from sssnbus.stores.base import News
from sssnbus.stores.redis import RedisStore
from tests.stores.redis.tools import draft, opened


async def test_hints_bring_short_messages(store: RedisStore, url: str) -> None:
    """A few short messages come with the hint, as a read would bring them; of long ones only a word."""
    heard = asyncio.Queue[News | None]()
    store.watch(lambda: heard.put_nowait(None), heard.put_nowait)
    async with asyncio.timeout(20), opened(url) as other:
        assert await heard.get() is None, "from here on it listens"
        for drafts in (
            [draft("events", b"alone")],
            [draft("events", b"one of two", id="given"), draft("events", b"the other")],
        ):
            before = (await store.last(["events"]))["events"]
            await other.append(drafts)
            read = await store.read("events", after=before, limit=9)
            assert await heard.get() == News("events", read.messages)
            assert len(read.messages) == len(drafts)
        for count in (1, 2):
            await other.append([draft("events", b"x" * 20_000)] * count)
            assert await heard.get() is None
