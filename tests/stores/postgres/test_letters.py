"""Notifications that carry messages: what they hold, who can hear them, and when they hold nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from sssnbus import Bus, ChannelMessage
from sssnbus.errors import StoreError
from sssnbus.stored import Draft
from sssnbus.stores import PostgresStore
from sssnbus.stores.base import News
from sssnbus.stores.postgres import listener
from sssnbus.stores.postgres.letter import MAX_BYTES, MAX_MESSAGES
from tests.stores.postgres.tools import Site, draft, opened, until


class Ear:
    """A watcher that keeps what it is told; a mere ring is None."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[News | None] = asyncio.Queue()

    async def next(self) -> News | None:
        """Return the next thing that is told."""
        return await asyncio.wait_for(self.heard.get(), 10)


@asynccontextmanager
async def listening(site: Site) -> AsyncIterator[tuple[PostgresStore, Ear]]:
    """Give a store that listens already, and what it hears."""
    async with opened(site, poll_interval=3600) as store:
        ear = Ear()
        store.watch(lambda: ear.heard.put_nowait(None), ear.heard.put_nowait)
        assert await ear.next() is None
        yield store, ear


def special(number: int, body: bytes) -> Draft:
    """Return a draft with something in every field."""
    return Draft("events", None, 1.5 + number, "Zoë", "a.ü", "json", b'{"h": "\x00\xff"}', body, 2**32 - 1, 3)


@pytest.mark.parametrize("count", [1, 2, MAX_MESSAGES])
async def test_short_messages_come_along(store: PostgresStore, site: Site, count: int) -> None:
    """What a notification carries is what the store keeps, to the last byte."""
    async with listening(site) as (other, ear):
        every = bytes(range(256))
        await store.append([special(number, every[:: 1 + number * 9]) for number in range(count)])
        await store.append([draft("events", b"the next")])
        page = await other.read("events", after=0, limit=100)
        assert await ear.next() == News("events", page.messages[:count])
        assert await ear.next() == News("events", page.messages[count:])


async def test_several_logs(store: PostgresStore, site: Site) -> None:
    """Each log of a batch has a letter of its own; that of a queue says only that there is something."""
    async with listening(site) as (other, ear):
        await store.append([draft("events", b"1"), draft("jobs", b"2"), draft("events", b"3")])
        page = await other.read("events", after=0, limit=100)
        told = [await ear.next(), await ear.next()]
        assert News("events", page.messages) in told
        assert News("jobs", []) in told
        await store.append([draft("jobs", b"4")])
        assert await ear.next() == News("jobs", [])


@pytest.mark.parametrize(
    "drafts",
    [
        [draft("events")] * (MAX_MESSAGES + 1),
        [draft("events", b"x" * (MAX_BYTES + 1))],
        # As JSON it is six times as long.
        [draft("events", b"\x00" * (MAX_BYTES // 2))],
        [draft("events", id="given")],
    ],
    ids=["many", "big", "big as text", "with an id"],
)
async def test_the_rest_is_a_hint(store: PostgresStore, site: Site, drafts: list[Draft]) -> None:
    """More than is worth carrying stays at the server, and who listens is told where there is news."""
    async with listening(site) as (_, ear):
        await store.append(drafts)
        assert await ear.next() == News("events", [])


async def test_live_without_a_read(site: Site) -> None:
    """A live subscriber of another process gets short messages without asking the server."""
    async with Bus(site.url()) as one, Bus(site.url(poll_interval=3600)) as two:
        writer, seen = one.broadcast("events"), asyncio.Queue[object]()

        async def on_message(message: ChannelMessage) -> None:
            seen.put_nowait(message.content.data)

        await two.broadcast("events").subscribe("r", on_message)
        store = await two.store()
        assert isinstance(store, PostgresStore)
        reads: list[str] = []

        async def until_it_hears() -> bool:
            await writer.write("me", "before")
            return bool(await site.run("SELECT 1 FROM {schema}.owner WHERE listening")) and not seen.empty()

        await until(until_it_hears)
        while await asyncio.wait_for(seen.get(), 10) != "now":
            if seen.empty():
                await writer.write("me", "now")
        fetch = store._reader.fetch

        async def counted(what: str, *rest: object) -> object:
            reads.append(what)
            return await fetch(what, *rest)  # type: ignore[arg-type]

        store._reader.fetch = counted  # type: ignore[method-assign,assignment]
        for number in range(20):
            await writer.write("me", number)
            assert await asyncio.wait_for(seen.get(), 10) == number
        assert reads == []


async def test_strangers_hear_nothing(store: PostgresStore, site: Site) -> None:
    """A role of the same database that may not read the namespace cannot find out what to listen to."""
    role = f"stranger_{site.namespace}"
    (bell,) = (await site.run("SELECT value FROM {schema}.meta WHERE name = 'bell'"))[0]
    await site.run(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        stranger = await asyncpg.connect(site.address, user=role, password="x")
        try:
            async with listening(site):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await stranger.fetch(f'SELECT value FROM "{site.namespace}".meta')
                shown = await stranger.fetch(
                    "SELECT prosrc AS text FROM pg_proc UNION ALL SELECT query FROM pg_stat_activity"
                )
                assert len(shown) > 100
                assert not [row for row in shown if bell in (row["text"] or "")]
        finally:
            await stranger.close()
    finally:
        await site.run(f"DROP ROLE {role}")
    assert len(bell) > 32
    # Each namespace has its own.
    other = Site(site.address, f"{site.namespace}_b")
    async with opened(other):
        assert (await other.run("SELECT value FROM {schema}.meta WHERE name = 'bell'"))[0][0] != bell
    await other.remove()


async def test_letters_that_make_no_sense(site: Site) -> None:
    """What cannot be read is a mere hint: whoever hears it looks for themselves."""
    ring = "SELECT pg_notify(value, $1) FROM {schema}.meta WHERE name = 'bell'"
    async with listening(site) as (_, ear):
        for letter in ("", "7", "0 1 2", "0 a 2 x\n[]", "0 1 2 x\n[1]", "0 1 2 x\n{", "0 1 2 x\n[[]]"):
            await site.run(ring, letter)
            assert await ear.next() is None


async def test_text_that_cannot_be_told(store: PostgresStore) -> None:
    """What no letter can hold is refused as what no table can, and its neighbours are stored."""
    bad = draft("events")._replace(sender_id="\ud800")
    results = await asyncio.gather(
        *(store.append([each]) for each in (draft("events"), bad, draft("events"))), return_exceptions=True
    )
    assert [type(result) for result in results] == [list, StoreError, list]
    assert (await store.last(["events"])) == {"events": 2}


async def test_made_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the namespace is removed and made anew, who was there is nobody who came later, and hears on."""
    # Longer than the namespace is away: it does not meet its absence.
    monkeypatch.setattr(listener, "PULSE", 1.0)
    async with listening(site) as (old, ear):
        number = old.owner.rpartition(":")[2]
        await site.remove()
        async with opened(site) as store:
            assert int(store.owner.rpartition(":")[2]) > int(number)
            await store.append([draft("events", b"1")])
            await old.append([draft("events", b"2")])

            async def told() -> bool:
                await store.append([draft("events")])
                news = None if ear.heard.empty() else ear.heard.get_nowait()
                return news is not None and bool(news.messages)

            await until(told)
            bodies = [stored.body for stored in (await store.read("events", after=0, limit=2)).messages]
            assert bodies == [b"1", b"2"]
