"""What those do who run queues and move stores, over the PostgreSQL store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from operator import not_
from pathlib import Path

import asyncpg
import pytest

from sssnbus import Bus, ChannelMessage
from sssnbus.errors import ClosedError, StoreTimeout
from sssnbus.stores import PostgresStore, abilities
from sssnbus.stores.base import ABILITIES, Ack, State
from tests.stores.postgres.tools import Site, draft, opened, until


def data(messages: list[ChannelMessage]) -> list[object]:
    """Return what messages say."""
    return [message.content.data for message in messages]


@pytest.fixture
async def bus(site: Site) -> AsyncIterator[Bus]:
    """A started bus in a namespace of its own."""
    async with Bus(site.url()) as bus:
        yield bus


def test_abilities() -> None:
    """It has every ability there is."""
    assert abilities(PostgresStore) == [ability.__name__ for ability in ABILITIES]


async def test_chosen_messages(bus: Bus) -> None:
    """Reads, looks and moves take messages by id or between two ids."""
    queue, other = bus.work_queue("q"), bus.work_queue("other")
    ids = [str(receipt) for receipt in await queue.write_many("me", list(range(6)))]
    assert data(await queue.peek(9, after=ids[0], before=ids[3])) == [1, 2]
    assert data(await queue.read("w", exclusive=True, limit=9, ids=[ids[3], ids[1]])) == [1, 3]
    assert data(await queue.read("w", exclusive=True, limit=9, after=ids[4])) == [5]
    await other.start()
    moved = await queue.move("other", limit=9, before=ids[2])
    assert data(list(moved)) == [0]
    assert data(await other.peek(9)) == [0]
    assert data(await queue.peek(9)) == [2, 4]


async def test_done_messages(bus: Bus) -> None:
    """What is done is kept until vacuum when that is asked for, and compacting gives its room back."""
    queue = bus.work_queue("q", keep_done=True)
    await queue.write_many("me", ["x" * 8000 + str(n) for n in range(200)])
    (one, *others) = await queue.read("w", exclusive=True, limit=200)
    await queue.acknowledge("w", [message.id for message in others])
    assert (await queue.statistics()).done == 199
    before = (await bus.usage()).size
    assert await bus.vacuum(compact=True) == 199
    # The bodies are alike, so the server packs them; it is the tables that shrink.
    assert (await bus.usage()).size < before
    await queue.acknowledge("w", [one.id])
    assert await queue.vacuum() == 1


async def test_hold_and_resume(site: Site) -> None:
    """A hold that nobody renews is taken up in another bus by its token."""
    async with Bus(site.url()) as one:
        queue = one.work_queue("q")
        await queue.write("me", "job")
        held = await queue.hold("w", 60)
        assert held is not None
    async with Bus(site.url()) as two:
        queue = two.work_queue("q")
        assert await queue.read("x", exclusive=True) == []
        claim = await queue.resume(held.message.id, held.token)
        assert (claim.attempt, data([claim.message])) == (1, ["job"])
        assert 0 < claim.deadline - two.clock.elapsed() <= 60
        await claim.ack()
        assert (await queue.statistics()).ready == 0


async def test_observe(site: Site) -> None:
    """Who observes a queue sees what another bus writes, and takes nothing."""
    async with Bus(site.url()) as one, Bus(site.url()) as two:
        queue = one.work_queue("q")
        await queue.write("me", 1)
        async with aclosing(two.work_queue("q").observe()) as observed:
            assert data([await anext(observed)]) == [1]
            waiting = asyncio.ensure_future(anext(observed))
            await queue.write("me", 2)
            assert data([await asyncio.wait_for(waiting, 20)]) == [2]
        assert data(await queue.peek(9)) == [1, 2]


async def test_whole_bus(bus: Bus) -> None:
    """The bus lists, writes across channels, and deletes."""
    events = bus.broadcast("events")
    await events.write("me", "both")
    await bus.write_to(["p", "q"], "me", "both")
    async with events.subscribe("dash", start="earliest", durable=True) as subscription:
        assert data([await anext(subscription)]) == ["both"]
    assert [info.name for info in await bus.channels()] == ["events", "p", "q"]
    (place,) = await bus.subscriptions()
    assert (place.channel, place.name) == ("events", "dash")
    assert (await bus.usage()).size > 0
    assert await bus.delete("events")
    assert [info.name for info in await bus.channels()] == ["p", "q"]
    assert await bus.subscriptions() == []


@pytest.mark.parametrize("away", ["sqlite", "postgres"])
async def test_moving_over(site: Site, tmp_path: Path, away: str) -> None:
    """A dump goes into a store of another kind, in either direction, with who was reading what."""
    urls = [site.url(), f"sqlite:///{tmp_path / 'bus.db'}"]
    source, target = urls if away == "postgres" else reversed(urls)
    async with Bus(source) as old, Bus(target) as new:
        events, jobs = old.broadcast("events"), old.work_queue("jobs", max_deliveries=1)
        await events.write_many("me", [1, 2, 3], topic="a.b")
        await jobs.write_many("me", ["tried", "fresh"])
        await jobs.write("me", "later", delay=3600)
        (tried,) = await jobs.read("w", exclusive=True)
        await jobs.nack("w", [tried.id], error="boom")
        async with events.subscribe("dash", start="earliest", durable=True) as subscription:
            async for message in subscription:
                if data([message]) == [2]:
                    break
        before = [(info.channel, info.name, info.lag) for info in await old.subscriptions()]
        await new.load([record async for record in old.dump()])
        # Right after the load, before anybody has read here.
        assert [(info.channel, info.name, info.lag) for info in await new.subscriptions()] == before
        assert before == [("events", "dash", 1)]
        theirs = new.work_queue("jobs")
        now = await theirs.statistics()
        assert (now.ready, now.delayed, now.dead) == (1, 1, 1)
        assert [message.id for message in await theirs.dead_letters.list()] == [tried.id]
        async with new.broadcast("events").subscribe("dash", durable=True) as subscription:
            message = await asyncio.wait_for(anext(subscription), 20)
            assert (data([message]), message.topic) == ([3], "a.b")
        loaded = await new.load([record async for record in old.dump()])
        assert loaded.messages == 0, "a second load adds nothing"


async def test_compacting_in_the_way(site: Site) -> None:
    """Compacting waits in the way of all others, so never for long, nor when it was cancelled."""
    waits = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%CLUSTER%' AND wait_event_type = 'Lock'"
    async with opened(site, timeout=1) as store, opened(site) as other, reading(site):
        with pytest.raises(StoreTimeout, match="Compacting"):
            await store.vacuum(compact=True)
        for end in ("cancel", "close"):
            compacting = asyncio.create_task(store.vacuum(compact=True))
            await until(lambda: site.run(waits))
            if end == "cancel":
                compacting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await compacting
            else:
                await store.aclose()
                with pytest.raises(ClosedError):
                    await compacting
            # Though nobody reads the answer, it does not wait on at the server.
            await until(lambda: site.run(waits), not_)
        await other.append([draft()])


async def test_standing_by_the_servers_clock(site: Site) -> None:
    """Without a clock of tests the end of a lease is told on the clock of who asks."""
    async with opened(site) as store, opened(site) as other:
        await store.append([draft(body=b"1"), draft(body=b"2")])
        leases = (await store.claim("jobs", worker="w", lease=60, limit=2)).leases
        told = await other.standing("jobs", [1, 2, 3, -1, 2**60])
        assert set(told) == {1, 2}
        deadline = told[1].deadline
        assert deadline is not None
        assert abs(deadline - leases[0].deadline) < 5
        await store.settle("jobs", [Ack(1, leases[0].token, keep=True)])
        assert (await other.standing("jobs", [1]))[1].state is State.DONE


@asynccontextmanager
async def reading(site: Site) -> AsyncIterator[None]:
    """Read the table of messages all the while, as a long report does that somebody runs by hand."""
    connection = await asyncpg.connect(site.address)
    try:
        await connection.execute(f'BEGIN; LOCK TABLE "{site.namespace}".message IN ACCESS SHARE MODE')
        yield
    finally:
        await connection.close()


async def test_one_or_several(site: Site) -> None:
    """A message that is written alone, by a shorter way, is kept as those that are written together."""
    async with opened(site) as store:
        for name in ("jobs", "events"):
            placed = await store.append([draft(name, b"a", priority=2)])
            placed += await store.append([draft(name, b"b"), draft(name, b"c", priority=2)])
            placed += await store.append([draft(name, b"d")])
            assert [place.sequence for place in placed] == [1, 2, 3, 4]
            assert sorted(place.id for place in placed) == [place.id for place in placed]
            found = (await store.read(name, after=0, limit=9)).messages
            assert [stored[:2] for stored in found] == [place[:2] for place in placed]
            assert [(stored.body, stored.priority) for stored in found] == [
                (b"a", 2), (b"b", 0), (b"c", 2), (b"d", 0)
            ]  # fmt: skip
            (info,) = await store.logs(name)
            assert (info.count, info.size, info.last) == (4, 4, 4)
        await store.append([draft(body=b"late", due=1e11)])
        await store.append([draft(body=b"past", due=1.0)])
        counts = await store.counts("jobs")
        assert (counts.ready, counts.delayed) == (5, 1)
        leases = (await store.claim("jobs", worker="w", lease=60, limit=9)).leases
        assert [lease.stored.body for lease in leases] == [b"a", b"c", b"b", b"d", b"past"]
