"""What a store on Redis does when another server takes over."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sssnbus import Bus
from sssnbus.errors import StoreReadOnly, StoreReplaced, StoreUnavailable
from sssnbus.stores.base import Ack
from sssnbus.stores.redis import bell
from sssnbus.stores.redis.url import from_url
from tests.servers.process import Server, free_port
from tests.servers.proxy import Proxy
from tests.servers.redis import private_server
from tests.stores.redis.tools import client, draft, opened, until


@pytest.fixture
def replica(folder: Path, server: Server) -> Iterator[Server]:
    """Give another private server that copies the first one."""
    options = ("--appendonly", "yes", "--replicaof", "127.0.0.1", str(server.port))
    replica = private_server(folder / "replica", *options)
    replica.start()
    yield replica
    # One that is still copying would not end for seconds, and has nothing to save.
    replica.kill()


@pytest.fixture
async def address(server: Server) -> AsyncIterator[Proxy]:
    """Give an address that leads to the first server, until it is told to lead to another."""
    async with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


async def level(server: Server, replica: Server) -> None:
    """Wait until a replica has all that its server has."""
    async with client(server.port) as one, client(replica.port) as other:

        async def has_all() -> bool:
            theirs, its = await one.info("replication"), await other.info("replication")
            copied: bool = its["slave_repl_offset"] >= theirs["master_repl_offset"]
            return its["master_link_status"] == "up" and copied

        await until(has_all)


async def demote(server: Server) -> None:
    """Make a server a replica of one that is not there: it lives on with what it has."""
    async with client(server.port) as plain:
        await plain.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))


async def promote(server: Server) -> None:
    """Make a replica a server of its own."""
    async with client(server.port) as plain:
        await plain.execute_command("REPLICAOF", "NO", "ONE")


async def test_replica_is_refused(replica: Server) -> None:
    """A store is not opened on a replica."""
    with pytest.raises(StoreReadOnly):
        await from_url(f"redis://127.0.0.1:{replica.port}", None).open()


async def test_failover_behind_an_address(
    server: Server, replica: Server, address: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that does nothing follows its address: it keeps its leases, and hears of news there."""
    monkeypatch.setattr(bell, "QUIET", 0.1)
    async with opened(f"redis://127.0.0.1:{address.port}") as store, client(server.port) as plain:
        store.watch(lambda: None)
        await store.append([draft("jobs")])
        (lease,) = (await store.claim("jobs", worker="w", lease=6)).leases
        before = await plain.zscore("{sssnbus}:owners", store.owner)

        async def alive() -> bool:
            return bool(await plain.zscore("{sssnbus}:owners", store.owner) > before)

        # Its thread has a connection by now.
        await until(alive)
        await level(server, replica)
        await promote(replica)
        address.lead(replica.port)
        await demote(server)
        async with client(replica.port) as there:
            ((_, before),) = await there.zrange("{sssnbus}:e:jobs", 0, 0, withscores=True)

            async def renewed() -> bool:
                ((_, ends),) = await there.zrange("{sssnbus}:e:jobs", 0, 0, withscores=True)
                return bool(ends > before)

            async def listens() -> bool:
                return f"{{sssnbus}}:bell:{store.owner}".encode() in await there.pubsub_channels()

            await until(renewed)
            await until(listens)
        assert (await store.append([draft("events")]))[0].sequence == 1
        assert await store.settle("jobs", [Ack(lease.stored.sequence, lease.token)]) == [True]


async def test_reading_after_a_failover(server: Server, replica: Server, address: Proxy) -> None:
    """What is read comes from the new server, although the old one could be asked still."""
    async with opened(f"redis://127.0.0.1:{address.port}") as store:
        await store.append([draft("events")])
        assert await store.last(["events"]) == {"events": 1}
        await level(server, replica)
        await promote(replica)
        address.lead(replica.port)
        await demote(server)
        async with opened(f"redis://127.0.0.1:{replica.port}") as other:
            await other.append([draft("events")])
        assert await store.last(["events"]) == {"events": 2}


async def test_writes_wait_for_a_failover(server: Server) -> None:
    """While there is a replica only, what is asked waits; then it is done, once."""
    async with opened(f"redis://127.0.0.1:{server.port}") as store:
        await store.append([draft("events")])
        await store.last(["events"])
        await demote(server)
        writing = asyncio.create_task(store.append([draft("events")]))
        lane = store._writer

        async def refused() -> bool:
            return lane._trouble is not None

        await until(refused)
        # A connection that the reader makes now leads to a replica too.
        store._reader.leave()
        reading = asyncio.create_task(store.last(["events"]))
        await asyncio.wait([reading], timeout=0.2)
        assert not reading.done()
        assert not writing.done()
        await promote(server)
        assert (await writing)[0].sequence == 2
        assert await reading in ({"events": 1}, {"events": 2})
        assert await store.last(["events"]) == {"events": 2}


async def test_no_failover_comes(server: Server) -> None:
    """If there is a replica only for too long, that is told, as something that may pass."""
    async with opened(f"redis://127.0.0.1:{server.port}?timeout=0.5") as store:
        await demote(server)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"is a replica\. Nothing was applied"):
                await store.append([draft("events")])
        store._reader.leave()
        with pytest.raises(StoreUnavailable, match="is a replica"):
            await store.last(["events"])
        await promote(server)
        assert (await store.append([draft("events")]))[0].sequence == 1


async def test_sequences_that_a_failover_gave_twice(server: Server, replica: Server, address: Proxy) -> None:
    """Who has seen what a failover lost is told, also if others have written in its place by then."""
    url = f"redis://127.0.0.1:{address.port}?poll_interval=0.1"
    async with Bus(url) as hearing, Bus(url) as writing, opened(url) as store:
        heard, written = hearing.broadcast("events"), writing.broadcast("events")
        async with heard.subscribe("s", start="earliest") as subscription:
            await written.write("me", 1)
            assert (await anext(subscription)).content.data == 1
            await level(server, replica)
            await promote(replica)
            for number in (2, 3):
                await written.write("me", number)
                assert (await anext(subscription)).content.data == number
            assert len((await store.read("events", after=0, limit=10)).messages) == 3
            async with Bus(f"redis://127.0.0.1:{replica.port}") as other:
                for number in (12, 13, 14):
                    await other.broadcast("events").write("me", number)
            address.lead(replica.port)
            address.break_once()
            with pytest.raises(StoreReplaced):
                async with asyncio.timeout(10):
                    await anext(subscription)
        for channel in (written, heard):
            with pytest.raises(StoreReplaced):
                await channel.write("me", 4)
        with pytest.raises(StoreReplaced):
            await store.read("events", after=0, limit=10)
