"""What becomes of work whose outcome nobody learned, and of sessions the server does not know to be dead."""

import asyncio
import json
from operator import not_

import asyncpg
import pytest

from sssnbus import Bus, ChannelMessage
from sssnbus.errors import NotStarted, OutcomeUnknown, StoreError, StoreReadOnly, StoreUnavailable
from sssnbus.stores.base import Ack, Counts, Kind
from sssnbus.stores.postgres import sql
from tests.servers.proxy import Proxy
from tests.stores.postgres.tools import Site, draft, held_up, opened, until, waits, works


async def test_claims_nobody_got(site: Site) -> None:
    """What a claim has leased whose answer was given up is free again soon, and counts no attempt."""
    async with (
        Proxy("127.0.0.1", site.port) as proxy,
        # Its keeper goes past the proxy: nobody takes it for dead.
        opened(site, proxy.port, timeout=1, connect_timeout=0.5, direct=site.address) as store,
        opened(site) as other,
    ):
        await store.append([draft(body=b"1"), draft(body=b"2")])
        (first,) = (await store.claim("jobs", worker="w", lease=3600)).leases
        async with held_up(site, "jobs", "job"):
            work = [
                asyncio.create_task(store.settle("jobs", [Ack(1, first.token)])),
                asyncio.create_task(store.claim("jobs", worker="w", lease=3600)),
            ]
            await until(lambda: waits(site))
            proxy.cut()
        await until(lambda: other.counts("jobs"), lambda counts: counts == Counts(leased=1))
        for task in work:
            with pytest.raises(StoreUnavailable, match=r"outcome of a \w+ is unknown") as caught:
                await task
            assert caught.value.retryable
        proxy.mend()
        await until(lambda: other.counts("jobs"), lambda counts: counts == Counts(ready=1))
        (again,) = (await other.claim("jobs", worker="x", lease=60)).leases
        assert (again.stored.body, again.attempt) == (b"2", 1)


async def test_claims_that_come_too_late(site: Site) -> None:
    """A claim that was given up before it was applied never is."""
    async with opened(site) as store:
        await store.append([draft(body=b"1")])
        number = int(store.owner.rpartition(":")[2])
        await site.run("SELECT {schema}.disown($1, 1, 'gone-1-')", number)
        # Its first batch of work has that number too.
        with pytest.raises(StoreError):
            await store.claim("jobs", worker="w", lease=60)
        assert await store.counts("jobs") == Counts(ready=1)


async def test_refused_when_sent_again(site: Site) -> None:
    """A batch that is refused when it is sent again keeps its number: the first one may answer to it yet."""
    async with Proxy("127.0.0.1", site.port) as proxy, opened(site, proxy.port) as store:
        await store.append([draft("events")])
        number = store._log_lane._number
        other = await asyncpg.connect(site.address)
        try:
            await other.execute(f'BEGIN; DELETE FROM "{site.namespace}".log')
            writing = asyncio.create_task(store.append([draft("events")]))
            await until(lambda: waits(site))
            proxy.break_once()
            await until(lambda: waits(site), lambda count: count >= 2)
            await other.execute("COMMIT")
            with pytest.raises(NotStarted):
                await writing
        finally:
            await other.close()
        # The second number was for each operation by itself, which is how the refused one is found.
        assert store._log_lane._number == number + 2
        await store.declare("events", Kind.LOG)
        (placed,) = await store.append([draft("events")])
        assert placed.sequence == 1


async def test_sent_twice_at_once(site: Site) -> None:
    """Of a write that is under way twice, as after a reconnect, one is applied, and the other is refused."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%append_one%'"
    async with opened(site) as store:
        connection = await asyncpg.connect(site.address)
        try:
            async with held_up(site, "events"):
                writing = asyncio.create_task(store.append([draft("events", b"once")]))
                await until(lambda: site.run(waiting))
                number, batch = int(store.owner.rpartition(":")[2]), store._log_lane._number
                row = (None, 0, "events", 1.0, "me", None, "json", b"", b"once", 0, 0, None, None)
                statement = store._place.text(sql.APPEND_ONE)
                again = asyncio.create_task(connection.fetchval(statement, number, batch, *row))
                await until(lambda: site.run(waiting), lambda rows: len(rows) >= 2)
            with pytest.raises(asyncpg.SerializationError):
                await again
            # By now it is known, and answered as it was.
            (placed,) = await writing
            answer = await connection.fetchval(statement, number, batch, *row)
            assert json.loads(answer) == [[placed.sequence], [int(placed.id)]]
        finally:
            await connection.close()
        page = await store.read("events", after=0, limit=9)
        assert [stored.body for stored in page.messages] == [b"once"]


async def test_ack_in_a_black_hole(site: Site) -> None:
    """A worker whose ack got no answer goes on trying: its message is not held for ever, and it works on."""
    async with (
        # First: the tables are not made in so little time on every machine.
        opened(site) as other,
        Proxy("127.0.0.1", site.port) as proxy,
        Bus(site.url(proxy.port, timeout=1, connect_timeout=1)) as bus,
    ):
        jobs = bus.work_queue("jobs")
        handled: list[object] = []

        async def handle(message: ChannelMessage) -> None:
            if not handled:
                proxy.hold()
            handled.append(message.content.data)

        await jobs.subscribe("w", handle)
        await jobs.write("me", 1)

        async def in_trouble() -> bool:
            return bool(handled) and not await works(bus.usage())

        await until(in_trouble)
        # Longer than an ack is waited for, so that one is given up.
        await asyncio.sleep(4.0)
        proxy.mend()
        await until(lambda: other.counts("jobs"), lambda counts: counts == Counts())
        await jobs.write("me", 2)
        await until(lambda: other.counts("jobs"), lambda counts: counts == Counts())
        assert handled == [1, 2]


async def test_a_session_that_will_not_die(site: Site) -> None:
    """While a dead session of ours keeps our lock, leases are renewed all the same; the lock comes back."""
    lock = f'SELECT pg_advisory_lock("{site.namespace}".owner_lock($1))'
    async with opened(site) as store, opened(site) as other:
        number = int(store.owner.rpartition(":")[2])

        async def locked() -> bool:
            rows = await site.run("SELECT locked FROM {schema}.owner WHERE number = $1", number)
            return bool(rows and rows[0][0])

        await until(locked)
        await store.append([draft(body=b"1")])
        (held,) = (await store.claim("jobs", worker="w", lease=0.9)).leases
        old = await asyncpg.connect(site.address)
        try:
            taking = asyncio.create_task(old.execute(lock.replace("$1", str(number))))
            await until(
                lambda: site.run("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            )
            await site.run(
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_locks w USING (classid, objid)"
                " WHERE l.locktype = 'advisory' AND l.granted AND NOT w.granted"
            )
            await taking
            await until(locked, not_)
            # Time itself is what is tested: two leases go by.
            await asyncio.sleep(2)
            assert (await other.claim("jobs", worker="x", lease=1)).leases == []
            assert await other.alive(store.owner)
        finally:
            await old.close()
        await until(locked)
        assert await store.settle("jobs", [Ack(1, held.token)]) == [True]


async def test_primary_moves(site: Site) -> None:
    """When a server is read-only, the next write connects anew: another host may be the first by now."""
    async with opened(site) as store:
        await store.append([draft("events")])
        connection = store._log_lane.link.connection
        await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(StoreReadOnly):
            await store.put("s", "n", b"", version=None)
        assert await store.put("s", "n", b"", version=None)
        assert connection.is_closed()


async def test_repeatable_read_by_default(site: Site) -> None:
    """A database whose transactions are stricter by default changes nothing."""
    try:
        await site.run("ALTER DATABASE postgres SET default_transaction_isolation = 'repeatable read'")
        async with opened(site) as one, opened(site) as two:
            connection = one._log_lane.link.connection
            assert await connection.fetchval("SHOW transaction_isolation") == "read committed"
            for _ in range(20):
                await asyncio.gather(
                    *(each.append([draft("events")]) for each in (one, two) for _ in range(5))
                )
            assert await one.last(["events"]) == {"events": 200}
    finally:
        await site.run("ALTER DATABASE postgres RESET default_transaction_isolation")


async def test_entering_in_a_black_hole(site: Site) -> None:
    """A store that has to enter again while nothing answers ends its calls in time, and enters later."""
    async with (
        Proxy("127.0.0.1", site.port) as proxy,
        opened(site, proxy.port, timeout=0.5, connect_timeout=0.5) as store,
    ):
        await store.append([draft()])
        connection = store._log_lane.link.connection
        proxy.hold()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
            await asyncio.wait_for(store._enter(connection), 5)
        proxy.mend()
        await until(lambda: works(store.append([draft()])))


async def test_reads_that_nobody_waits_for(site: Site) -> None:
    """Cancelled reads leave no more behind than there are connections, however many they were."""
    async with Proxy("127.0.0.1", site.port) as proxy, opened(site, proxy.port, timeout=5) as store:
        proxy.hold()
        reads = [asyncio.create_task(store.last(["jobs"])) for _ in range(100)]

        async def are_asked() -> bool:
            return bool(store._reader._tasks)

        await until(are_asked)
        for read in reads:
            read.cancel()
        await asyncio.wait(reads)
        assert len(store._reader._tasks) <= 4
        proxy.mend()
        assert await store.last(["jobs"]) == {"jobs": 0}


async def test_a_lane_that_was_cancelled(site: Site) -> None:
    """Somebody cancels every task there is: who waits is told, and the next write gets its own answer."""
    async with (
        Proxy("127.0.0.1", site.port) as proxy,
        opened(site, proxy.port) as store,
        opened(site) as other,
    ):

        async def is_applied() -> bool:
            return await other.last(["events"]) == {"events": 1}

        await store.append([draft("jobs")])
        proxy.hold_answers()
        writing = asyncio.create_task(store.append([draft("events", b"1")]))
        await until(is_applied)
        assert store._log_lane._task is not None
        store._log_lane._task.cancel()
        with pytest.raises(OutcomeUnknown):
            await writing
        proxy.mend()
        assert [place.sequence for place in await store.append([draft("events", b"2")])] == [2]


async def test_a_lane_that_was_cancelled_before_it_began(site: Site) -> None:
    """What the cancelled task had not sent yet is sent by the next one."""
    async with Proxy("127.0.0.1", site.port) as proxy, opened(site, proxy.port) as store:
        store._log_lane.link.drop()
        proxy.hold()
        connections = proxy.connections

        async def is_tried() -> bool:
            return proxy.connections > connections

        writing = asyncio.create_task(store.append([draft("events", b"1")]))
        await until(is_tried)
        assert store._log_lane._task is not None
        store._log_lane._task.cancel()
        await asyncio.sleep(0)
        proxy.mend()
        assert [place.sequence for place in await writing] == [1]
