"""Channels over the PostgreSQL store: what a user's program sees."""

import asyncio
from contextlib import suppress

import pytest

from sssnbus import Bus, ChannelMessage
from sssnbus.errors import StoreError, StoreReplaced, StoreReset
from sssnbus.stores.base import Kind
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy
from tests.stores.postgres.tools import Site, draft, opened, until


def data(messages: list[ChannelMessage]) -> list[object]:
    """Return what messages say."""
    return [message.content.data for message in messages]


async def test_late_join(site: Site) -> None:
    """A late subscriber gets history, then live messages of another process, without a gap or a double."""
    async with Bus(site.url()) as one, Bus(site.url()) as two:
        writer, reader = one.broadcast("events"), two.broadcast("events")
        await writer.write_many("me", list(range(50)))
        seen: list[object] = []
        done = asyncio.Event()

        async def on_message(message: ChannelMessage) -> None:
            seen.extend(data([message]))
            if len(seen) == 100:
                done.set()

        writing = asyncio.gather(*(writer.write("me", number) for number in range(50, 100)))
        await reader.subscribe("late", on_message, start="earliest")
        await writing
        await asyncio.wait_for(done.wait(), 20)
        assert seen[:50] == list(range(50))
        assert sorted(map(str, seen)) == sorted(map(str, range(100)))


async def test_durable_subscription(site: Site) -> None:
    """A durable subscription goes on in another bus where it stopped in the first one."""
    async with Bus(site.url()) as bus:
        events = bus.broadcast("events")
        await events.write_many("me", [1, 2, 3])
        async with events.subscribe("dash", start="earliest", durable=True) as subscription:
            async for message in subscription:
                if data([message]) == [2]:
                    break
    async with Bus(site.url()) as bus:
        events = bus.broadcast("events")
        await events.write("me", 4)
        seen: list[object] = []
        async with events.subscribe("dash", durable=True) as subscription:
            async for message in subscription:
                seen += data([message])
                if len(seen) == 2:
                    break
        assert seen == [3, 4]


async def test_work_queue(site: Site) -> None:
    """Priorities go first, keys keep their order, and what fails too often is a dead letter."""
    async with Bus(site.url()) as bus, Bus(site.url()) as other:
        jobs = bus.work_queue("jobs", max_deliveries=1)
        await jobs.write("me", "low")
        await jobs.write("me", "high", priority=5)
        await jobs.write("me", "k1", key="k")
        await jobs.write("me", "k2", key="k")
        theirs = other.work_queue("jobs")
        first = await theirs.read("w", exclusive=True, limit=9)
        assert data(first) == ["high", "low", "k1"]
        await theirs.acknowledge("w", [message.id for message in first])
        with suppress(RuntimeError):
            async with theirs.claim("w", timeout=10) as claim:
                assert data([claim.message]) == ["k2"]
                raise RuntimeError("it fails")
        dead = await jobs.dead_letters.list()
        assert data(list(dead)) == ["k2"]
        await jobs.dead_letters.redrive()
        async with theirs.claim("w", timeout=10) as claim:
            assert data([claim.message]) == ["k2"]


async def test_a_waiting_worker_hears(site: Site) -> None:
    """A worker that waits in one process is woken by a writer in another one."""
    async with Bus(site.url()) as one, Bus(site.url()) as two:
        jobs = two.work_queue("jobs")

        async def work() -> list[object]:
            async with jobs.claim("w", timeout=20) as claim:
                return data([claim.message])

        working = asyncio.create_task(work())
        await one.work_queue("jobs").write("me", "now")
        assert await working == ["now"]


async def test_server_restart(own_server: PostgresServer) -> None:
    """A subscription lives through a restart of the server without a gap or a double."""
    site = Site(own_server.url, "restart")
    async with Bus(site.url(timeout=20)) as one, Bus(site.url()) as two:
        writer, reader = one.broadcast("events"), two.broadcast("events")
        seen: list[object] = []

        async def on_message(message: ChannelMessage) -> None:
            seen.extend(data([message]))

        await reader.subscribe("r", on_message)
        for number in range(30):
            if number in (10, 20):
                end = own_server.kill if number == 10 else own_server.stop
                await asyncio.to_thread(end)
                writing = asyncio.create_task(writer.write("me", number))
                await asyncio.to_thread(own_server.start)
                await writing
            else:
                await writer.write("me", number)

        async def all_seen() -> bool:
            return len(seen) >= 30

        await until(all_seen)
        assert seen == list(range(30))


async def test_lost_data(site: Site) -> None:
    """If the server comes back with an older past, a subscription says so and does not fall silent."""
    async with Bus(site.url()) as bus:
        events = bus.broadcast("events")
        await events.write_many("me", [1, 2, 3])
        async with events.subscribe("r", start="earliest") as subscription, opened(site) as other:
            reading = asyncio.create_task(collect(subscription))
            await site.run("DELETE FROM {schema}.message")
            await site.run("UPDATE {schema}.log SET last = 0")
            await other.append([draft("events")])
            with pytest.raises(StoreReset, match="lost data or was replaced"):
                await asyncio.wait_for(reading, 20)


async def test_failover_that_lost_messages(site: Site) -> None:
    """Who has seen what a failover lost is told, also if others have written in its places by then."""
    async with (
        Proxy("127.0.0.1", site.port) as proxy,
        Bus(site.url(proxy.port)) as here,
        Bus(site.url()) as there,
    ):
        events = here.broadcast("events")
        async with events.subscribe("r", start="earliest") as subscription:
            await there.broadcast("events").write_many("me", [1, 2, 3])
            assert data([await anext(subscription) for _ in range(3)]) == [1, 2, 3]
            proxy.cut()
            await site.run("DELETE FROM {schema}.message WHERE {schema}.sequence_of(position) > 1")
            await site.run("UPDATE {schema}.log SET last = 1 WHERE name = 'events'")
            await there.broadcast("events").write_many("me", [12, 13, 14])
            proxy.mend()
            with pytest.raises(StoreReplaced):
                await asyncio.wait_for(anext(subscription), 20)
        with pytest.raises(StoreReplaced):
            await events.read("me")


async def test_writer_over_a_failover(site: Site) -> None:
    """One who only writes notices that a failover has lost what it wrote, and writes nothing over it."""
    async with Proxy("127.0.0.1", site.port) as proxy, opened(site, proxy.port) as store:
        await store.append([draft("events"), draft("events")])
        proxy.cut()
        await site.run("DELETE FROM {schema}.message WHERE {schema}.sequence_of(position) > 1")
        await site.run("UPDATE {schema}.log SET last = 1 WHERE name = 'events'")
        proxy.mend()
        for _ in range(2):
            with pytest.raises(StoreReplaced):
                await store.append([draft("events")])


async def test_failover_that_lost_nothing(site: Site) -> None:
    """What was removed meanwhile, or dropped and declared anew, is no loss."""
    async with (
        Proxy("127.0.0.1", site.port) as proxy,
        opened(site, proxy.port) as store,
        opened(site) as other,
    ):
        for log in ("events", "jobs"):
            await other.append([draft(log), draft(log)])
            assert (await store.read(log, after=0, limit=9)).last == 2
        proxy.cut()
        await other.trim("events", upto=2)
        await other.drop("jobs")
        await other.declare("jobs", Kind.QUEUE)
        proxy.mend()
        assert await store.last(["events", "jobs"]) == {"events": 2, "jobs": 0}
        assert [place.sequence for place in await store.append([draft("events"), draft("jobs")])] == [3, 1]


async def test_lost_namespace(site: Site) -> None:
    """If everything is gone, the next call says so."""
    async with Bus(site.url()) as bus:
        events = bus.broadcast("events")
        await events.write("me", 1)
        await site.remove()
        with pytest.raises(StoreError, match="no longer there"):
            await events.write("me", 2)
        with pytest.raises(StoreError, match="no longer there"):
            await events.read("me")


async def collect(subscription: object) -> None:
    """Read until it ends."""
    async for _ in subscription:  # type: ignore[attr-defined]
        pass
