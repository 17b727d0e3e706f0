"""What a server, a network or another process can do to the store, and what must hold all the same."""

import asyncio
import os
import pwd
import random
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from operator import not_
from pathlib import Path

import asyncpg
import pytest

from sssnbus.errors import (
    BusError,
    OutcomeUnknown,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreTimeout,
    StoreUnavailable,
)
from sssnbus.stores.base import Ack, Counts, Placed
from sssnbus.stores.postgres import keeper
from sssnbus.stores.postgres.reader import MOST
from tests.servers.postgres import PostgresServer, programs
from tests.servers.process import free_port
from tests.servers.proxy import Proxy
from tests.stores.postgres.tools import ROOT, Site, draft, held_up, opened, until, waits, works

BUSY = "SELECT count(*) AS n FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"


async def bodies(site: Site, log: str) -> list[bytes]:
    """Return what a log holds, by its sequences."""
    rows = await site.run(
        "SELECT body FROM {schema}.message m JOIN {schema}.log l ON l.number = m.log WHERE l.name = $1"
        " ORDER BY position",
        log,
    )
    return [row[0] for row in rows]


async def test_kill_under_load(own_server: PostgresServer) -> None:
    """A server that is killed and comes back has everything that was acknowledged, once."""
    site = Site(own_server.url, "killed")
    async with opened(site, timeout=20) as store:
        acked: list[tuple[Placed, bytes]] = []
        done = asyncio.Event()

        async def writer(name: int) -> None:
            number = 0
            while not done.is_set():
                body = f"{name}-{number}".encode()
                (placed,) = await store.append([draft("events", body)])
                acked.append((placed, body))
                number += 1

        writers = [asyncio.create_task(writer(name)) for name in range(8)]
        for _ in range(2):
            before = len(acked)
            await until(lambda before=before: _more(acked, before + 200))  # type: ignore[misc]
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.start)
        before = len(acked)
        await until(lambda: _more(acked, before + 50))
        done.set()
        await asyncio.gather(*writers)
        stored = await bodies(site, "events")
        assert sorted(stored) == sorted(body for _, body in acked)
        assert all(stored[placed.sequence - 1] == body for placed, body in acked)
        page = await store.read("events", after=0, limit=10)
        assert page.last == len(stored)


async def _more(things: list[tuple[Placed, bytes]], count: int) -> bool:
    return len(things) >= count


async def test_cut_connections(site: Site) -> None:
    """Connections that end at any moment cost time and nothing else: every write is there once."""
    async with (
        Proxy("127.0.0.1", site.port) as proxy,
        opened(site, proxy.port, timeout=60, connect_timeout=60) as store,
    ):
        cuts = 0

        async def cut() -> None:
            nonlocal cuts
            while True:
                await asyncio.sleep(random.uniform(0.01, 0.25))
                proxy.break_once()
                cuts += 1

        cutting = asyncio.create_task(cut())
        number = 0
        while number < 15 or cuts < 6:
            await asyncio.gather(
                store.append([draft("events", b"%d" % number)]), store.append([draft("jobs", b"%d" % number)])
            )
            (lease,) = (await store.claim("jobs", worker="w", lease=60)).leases
            assert await store.settle("jobs", [Ack(lease.stored.sequence, lease.token)]) == [True]
            number += 1
        cutting.cancel()
        await asyncio.wait([cutting])
        assert await bodies(site, "events") == [b"%d" % each for each in range(number)]
        assert await store.counts("jobs") == Counts()


async def test_lost_answer_is_settled(site: Site) -> None:
    """A write whose connection is cut while the server works on it is applied once, and its place is told."""
    async with Proxy("127.0.0.1", site.port) as proxy, opened(site, proxy.port) as store:
        await store.append([draft("events", b"first")])
        async with held_up(site, "events"):
            writing = asyncio.create_task(store.append([draft("events", b"second")]))
            await until(lambda: waits(site))
            # The server goes on with it all the same: it looks at its client only when it has something to
            # say.
            proxy.break_once()
        (placed,) = await writing
        assert await bodies(site, "events") == [b"first", b"second"]
        assert placed.sequence == 2
        found = await store.find("events", placed.id)
        assert found is not None
        assert found.body == b"second"


async def test_lost_claim_is_settled(site: Site) -> None:
    """A claim whose answer was lost is answered again with the same leases: nothing is leased to nobody."""
    async with Proxy("127.0.0.1", site.port) as proxy, opened(site, proxy.port) as store:
        await store.append([draft(body=b"1"), draft(body=b"2")])
        (first,) = (await store.claim("jobs", worker="w", lease=60)).leases
        async with held_up(site, "jobs", "job"):
            work = asyncio.gather(
                store.settle("jobs", [Ack(1, first.token)]), store.claim("jobs", worker="w", lease=60)
            )
            await until(lambda: waits(site))
            proxy.break_once()
        settled, claimed = await work
        assert settled == [True]
        assert [lease.stored.body for lease in claimed.leases] == [b"2"]
        assert await store.settle("jobs", [Ack(2, claimed.leases[0].token)]) == [True]


async def test_lost_claim_and_ack_by_themselves(site: Site) -> None:
    """The same holds for a claim and an ack that go alone."""
    async with Proxy("127.0.0.1", site.port) as proxy, opened(site, proxy.port) as store:
        await store.append([draft(body=b"1")])
        async with held_up(site, "jobs", "writer"):
            claiming = asyncio.create_task(store.claim("jobs", worker="w", lease=60))
            await until(lambda: waits(site))
            proxy.break_once()
        (lease,) = (await claiming).leases
        assert (lease.stored.body, lease.attempt) == (b"1", 1)
        async with held_up(site, "jobs", "job"):
            settling = asyncio.create_task(store.settle("jobs", [Ack(1, lease.token)]))
            await until(lambda: waits(site))
            proxy.break_once()
        assert await settling == [True]
        assert await store.counts("jobs") == Counts()


async def test_outcome_unknown(site: Site) -> None:
    """If the server does not come back in time, the caller is told plainly; nothing happens twice later."""
    async with (
        Proxy("127.0.0.1", site.port) as proxy,
        opened(site, proxy.port, timeout=0.7, connect_timeout=0.4) as store,
    ):
        async with held_up(site, "events"):
            writing = asyncio.create_task(store.append([draft("events", b"doubtful")]))
            await until(lambda: waits(site))
            proxy.cut()
            with pytest.raises(OutcomeUnknown, match="outcome of an append is unknown"):
                await writing
        proxy.mend()
        await until(lambda: works(store.append([draft("events", b"next")])))
        assert (await bodies(site, "events"))[-1] == b"next"


async def test_black_hole(site: Site) -> None:
    """A network that swallows everything ends calls at their deadlines, and is forgotten when it is over."""
    async with (
        Proxy("127.0.0.1", site.port) as proxy,
        opened(site, proxy.port, timeout=0.5, connect_timeout=0.5) as store,
    ):
        await store.append([draft("events", b"before")])
        proxy.hold()
        results = await asyncio.gather(
            store.append([draft("events", b"1")]),
            store.read("events", after=0, limit=1),
            store.claim("jobs", worker="w", lease=5),
            return_exceptions=True,
        )
        assert [type(result) for result in results[:2]] == [OutcomeUnknown, StoreUnavailable]
        # Its lane had no connection yet, so nothing was sent.
        assert isinstance(results[2], StoreUnavailable | StoreTimeout)
        with pytest.raises((StoreUnavailable, StoreTimeout)):
            await store.append([draft("events", b"never")])
        proxy.mend()
        await until(lambda: works(store.append([draft("events", b"after")])))
        stored = await bodies(site, "events")
        assert b"never" not in stored
        assert stored[-1] == b"after"


async def test_reads_behind_reads_that_hang(site: Site) -> None:
    """A read that gets no connection in time says so, although those before it go on trying."""
    async with (
        Proxy("127.0.0.1", site.port) as proxy,
        opened(site, proxy.port, timeout=0.3, connect_timeout=60) as store,
    ):
        proxy.hold()
        before = [asyncio.create_task(store.last(["events"])) for _ in range(MOST)]
        await asyncio.sleep(0)
        with pytest.raises(StoreTimeout, match="A read did not start within"):
            await store.read("events", after=0, limit=1)
        for task in before:
            task.cancel()
        proxy.mend()
        await until(lambda: works(store.last(["events"])))


async def test_closing_in_a_black_hole(site: Site) -> None:
    """Closing takes no longer than its grace, whatever the network does."""
    async with Proxy("127.0.0.1", site.port) as proxy:
        async with opened(site, proxy.port) as store:
            proxy.hold()
            async with asyncio.timeout(15):
                await store.aclose(grace=0.3)
        proxy.cut()


async def test_slow_server(site: Site) -> None:
    """A slow network makes calls slow and nothing else."""
    async with Proxy("127.0.0.1", site.port) as proxy, opened(site, proxy.port) as store:
        proxy.delay(0.02)
        placed = await asyncio.gather(*(store.append([draft("events", b"%d" % n)]) for n in range(50)))
        assert sorted(place.sequence for (place,) in placed) == list(range(1, 51))


async def test_waiting_too_long(site: Site) -> None:
    """A statement that the server cannot get on with ends by its limit, and has not happened then."""
    async with opened(site, timeout=0.4) as store:
        async with held_up(site, "events"):
            with pytest.raises(StoreTimeout):
                await store.append([draft("events", b"late")])
        await store.append([draft("events", b"in time")])
        assert await bodies(site, "events") == [b"in time"]


async def test_opening_is_given_up_at_a_server_that_hangs(site: Site) -> None:
    """Who is cancelled while the tables are made leaves at once, whatever the server does."""
    other = await asyncpg.connect(site.address)
    try:
        async with Proxy("127.0.0.1", site.port) as proxy:
            store = site.store(proxy.port, timeout=3600, connect_timeout=3600)
            await other.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", store._place.mark)
            opening = asyncio.create_task(store.open())
            await until(lambda: waits(site))
            proxy.hold()
            opening.cancel()
            # Not by a time-out round it: that would cancel it once more.
            await asyncio.wait([opening], timeout=10)
            assert opening.cancelled()
            await store.aclose()
    finally:
        await other.close()


async def test_missing_server(caplog: pytest.LogCaptureFixture) -> None:
    """A server that is not there is told of within connect_timeout, and without the password."""
    caplog.set_level("DEBUG")
    site = Site(f"postgresql://user:hunter2@127.0.0.1:{free_port()}/x", "a")
    store = site.store(connect_timeout=0.3)
    with pytest.raises(StoreUnavailable) as caught:
        await store.open()
    assert "hunter2" not in text_of(caught.value) + caplog.text
    assert "***@127.0.0.1" in str(caught.value)
    await store.aclose()


async def test_silent_server(site: Site) -> None:
    """A server that accepts and says nothing is told of within connect_timeout."""
    async with Proxy("127.0.0.1", site.port) as proxy:
        proxy.hold()
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.3 s"):
            await site.store(proxy.port, connect_timeout=0.3).open()


async def test_wrong_password(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password is told as such, at once, and is not shown."""
    caplog.set_level("DEBUG")
    wrong = Site(site.address.replace(PostgresServer.password, "hunter2"), "a")
    with pytest.raises(StoreUnavailable, match="refuses the user or the password") as caught:
        await wrong.store().open()
    assert "hunter2" not in text_of(caught.value) + caplog.text


async def test_missing_database(site: Site) -> None:
    """A database that is not there is told as such."""
    with pytest.raises(StoreUnavailable, match="no such database"):
        await Site(site.address.rpartition("/")[0] + "/nowhere", "a").store().open()


async def test_too_many_connections(own_server: PostgresServer) -> None:
    """A server that takes no more connections is told as such; nothing was done."""
    site = Site(own_server.url, "full")
    async with opened(site) as store:
        await store.append([draft("events", b"1")])
        await site.run("CREATE ROLE limited LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
        other = Site(own_server.url.replace(f"postgres:{own_server.password}", "limited:x"), "full")
        with pytest.raises(StoreUnavailable, match="takes no more connections"):
            await other.store(connect_timeout=0.3).open()
        await site.run("ALTER ROLE limited CONNECTION LIMIT 10")
        with pytest.raises(StoreError, match="does not let this user in"):
            await other.store(connect_timeout=0.3).open()


@pytest.mark.parametrize(
    ("state", "error"),
    [("53100", StoreFull), ("25006", StoreReadOnly), ("53200", StoreFull), ("57P03", StoreError)],
)
async def test_server_in_trouble(site: Site, state: str, error: type[BusError]) -> None:
    """A full disk, a read-only server and the like fail writes with their own error; reads go on."""
    async with opened(site, timeout=1, connect_timeout=0.5) as store:
        await store.append([draft("events", b"before")])
        await site.run(
            "CREATE FUNCTION {schema}.trouble() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'trouble' USING ERRCODE = '{state}'; END $$"
        )
        await site.run(
            "CREATE TRIGGER trouble BEFORE INSERT ON {schema}.message EXECUTE FUNCTION {schema}.trouble()"
        )
        with pytest.raises(error):
            await store.append([draft("events", b"refused")])
        assert len((await store.read("events", after=0, limit=9)).messages) == 1
        await site.run("DROP TRIGGER trouble ON {schema}.message")
        (placed,) = await store.append([draft("events", b"after")])
        assert placed.sequence == 2


async def test_bad_neighbour(site: Site) -> None:
    """An operation that the server refuses fails alone; those that went along with it are done."""
    async with opened(site) as store:
        results = await asyncio.gather(
            *(store.append([draft("events", b"%d" % n)]) for n in range(5)),
            store.append([draft("nobody", b"x")]),
            store.append([draft("events")._replace(sender_id="\0")]),
            *(store.append([draft("events", b"%d" % n)]) for n in range(5, 10)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, BusError) for result in results) == 2
        assert sorted(await bodies(site, "events")) == [b"%d" % n for n in range(10)]


async def test_parts_of_what_is_locked_share_their_time(site: Site) -> None:
    """Many who went together and are refused for want of time do not wait one after the other."""
    async with opened(site) as other, opened(site, timeout=0.5) as store:
        await other.append([draft("events", b"before")])
        connection = await asyncpg.connect(site.address)
        async with connection.transaction():
            await connection.execute(f'LOCK TABLE "{site.namespace}".log IN ACCESS EXCLUSIVE MODE')
            # By themselves, all of them would take 30 s.
            async with asyncio.timeout(15):
                results = await asyncio.gather(
                    *(store.append([draft("events", b"%d" % n)], timeout=30) for n in range(60)),
                    return_exceptions=True,
                )
        await connection.close()
        assert {type(result) for result in results} == {StoreTimeout}
        assert await bodies(site, "events") == [b"before"]
        await store.append([draft("events", b"after")])
        assert await bodies(site, "events") == [b"before", b"after"]


async def test_cancelling_leaves_nothing_open(site: Site) -> None:
    """However verbs are cancelled, no session is left inside a transaction, and none holds a lock."""
    async with opened(site) as store:
        for steps in range(60):
            await store.append([draft(body=b"1")])
            verbs = [
                asyncio.create_task(store.append([draft("events"), draft("events", id=f"x{steps}")])),
                asyncio.create_task(store.claim("jobs", worker="w", lease=30)),
                asyncio.create_task(store.read("events", after=0, limit=10)),
                asyncio.create_task(store.transfer("jobs", "events", limit=1)),
            ]
            for _ in range(steps):
                await asyncio.sleep(0)
            for verb in verbs:
                verb.cancel()
            await asyncio.wait(verbs)
            assert (await site.run(BUSY))[0]["n"] == 0
        # Nobody knows a token of what a cancelled claim has got, so all of it was given back.
        assert (await store.counts("jobs")).leased <= 60
        await store.append([draft("events", b"last")])
        assert (await bodies(site, "events"))[-1] == b"last"


async def test_no_reader_skips(site: Site) -> None:
    """A reader that follows eight writers of four stores sees every sequence, one after the other."""
    await follow(site, 60)


@pytest.mark.torture
@pytest.mark.timeout(300)
async def test_no_reader_skips_for_long(site: Site) -> None:
    """The same with twenty thousand messages."""
    await follow(site, 2500)


async def follow(site: Site, rounds: int) -> None:
    """Read behind writers and check what is seen."""
    async with opened(site) as one, opened(site) as two, opened(site) as three, opened(site) as four:

        async def write(number: int) -> None:
            store = (one, two, three, four)[number % 4]
            for _ in range(rounds):
                # The second log is locked after or before the first one: locks have one order all the same.
                names = ("events", "jobs") if number % 2 else ("jobs", "events")
                await store.append([draft(name, b"%d" % number) for name in names])

        writers = asyncio.gather(*(write(number) for number in range(8)))
        seen: list[int] = []
        while len(seen) < 8 * rounds:
            page = await one.read("events", after=seen[-1] if seen else 0, limit=100)
            seen += [stored.sequence for stored in page.messages]
            assert seen == list(range(1, len(seen) + 1))
        await writers


async def test_keyed_messages_of_many_stores(site: Site) -> None:
    """A key whose messages come and go in several stores at once never gets stuck, and keeps its order."""
    async with opened(site) as one, opened(site) as two:
        done: list[bytes] = []

        async def write(store: object, first: int) -> None:
            for number in range(first, 60, 2):
                await (one if first else two).append([draft(body=b"%d" % number, key=f"k{number % 3}")])

        async def work(store: int) -> None:
            while len(done) < 60:
                mine = (one, two)[store]
                for lease in (await mine.claim("jobs", worker="w", lease=60, limit=2)).leases:
                    done.append(lease.stored.body)
                    assert await mine.settle("jobs", [Ack(lease.stored.sequence, lease.token)]) == [True]

        async with asyncio.timeout(30):
            await asyncio.gather(write(one, 0), write(two, 1), work(0), work(1))
        assert sorted(done) == sorted(b"%d" % number for number in range(60))


async def test_key_changed_by_two(site: Site) -> None:
    """Who ends the head of a key and who lines up behind it just then see each other: nothing is stuck."""
    async with opened(site) as store:
        await store.append([draft(body=b"1", key="k")])
        (head,) = (await store.claim("jobs", worker="w", lease=60)).leases
        kinds = ("int", "text", "float8", "text", "text", "text", "bytea", "bytea", "bigint", "int", "text")
        nothing = ", ".join(f"'{{}}'::{kind}[]" for kind in kinds)
        connection = await asyncpg.connect(site.address)
        try:
            async with connection.transaction():
                ended = await connection.fetchval(
                    f"SELECT good FROM {site.namespace}.settle(0, 1, 1, '{{}}', '{{jobs}}', '{{1}}',"
                    f" ARRAY[$1], '{{0}}', '{{0}}', '{{t}}', '{{NULL}}', {nothing})",
                    head.token,
                )
                assert ended == [1]
                behind = asyncio.create_task(store.append([draft(body=b"2", key="k")]))
                await until(lambda: waits(site), patience=10)
        finally:
            await connection.close()
        await behind
        (lease,) = (await store.claim("jobs", worker="w", lease=60)).leases
        assert lease.stored.body == b"2"


HOLDER = """
import asyncio, sys
from sssnbus.stores import store_from_url

async def main():
    store = store_from_url(sys.argv[1])
    await store.open()
    await store.claim("jobs", worker="w", lease=3600)
    print(store.owner, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_dead_owner(site: Site, end: str) -> None:
    """What a killed process held is free soon, and its name is dead; a stopped one keeps both."""
    async with opened(site) as store:
        await store.append([draft(body=b"1")])
        process = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-c", HOLDER, site.url()],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            assert process.stdout is not None
            owner = (await asyncio.to_thread(process.stdout.readline)).strip()
            assert await store.alive(owner)
            assert await store.counts("jobs") == Counts(leased=1)
            # Its lock is taken on a connection of its own, soon after it was opened.
            await until(lambda: all_locked(site))
            if end == "kill":
                process.kill()
                # By its lock: its silence would take longer than this.
                await until(lambda: store.counts("jobs"), lambda counts: counts == Counts(ready=1), 10)
                await until(lambda: store.alive(owner), not_)
                (lease,) = (await store.claim("jobs", worker="w", lease=60)).leases
                assert lease.attempt == 2
            else:
                # Time itself is what is tested: a process that computes is slow, and not dead.
                process.send_signal(19)
                await asyncio.sleep(2.5)
                assert await store.alive(owner)
                assert await store.counts("jobs") == Counts(leased=1)
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
            assert process.stdout is not None
            process.stdout.close()


async def all_locked(site: Site) -> bool:
    """Return whether every owner holds the lock that tells that it lives."""
    ((locked,),) = await site.run("SELECT bool_and(locked) FROM {schema}.owner")
    return bool(locked)


async def test_taken_for_dead(site: Site) -> None:
    """A store that others took for dead enters again and goes on; what it held is somebody else's."""
    async with opened(site) as store:
        await store.append([draft(body=b"1"), draft(body=b"2")])
        (held,) = (await store.claim("jobs", worker="w", lease=60)).leases
        number = int(store.owner.rpartition(":")[2])
        await site.run("SELECT {schema}.leave($1, true)", number)
        assert await store.settle("jobs", [Ack(held.stored.sequence, held.token)]) == [False]
        await store.append([draft(body=b"3")])
        await until(lambda: _listed(site, number))
        assert len((await store.claim("jobs", worker="w", lease=60, limit=9)).leases) == 3


async def _listed(site: Site, number: int) -> bool:
    return bool(await site.run("SELECT 1 FROM {schema}.owner WHERE number = $1 AND locked", number))


async def test_leases_outlive_a_busy_loop(site: Site) -> None:
    """A handler that blocks the loop does not lose its message: leases are renewed by a thread."""
    async with opened(site) as store, opened(site) as other:
        await store.append([draft(body=b"1")])
        (held,) = (await store.claim("jobs", worker="w", lease=0.6)).leases
        await asyncio.sleep(0.1)
        # Time itself is what is tested: two leases go by while nothing else runs here.
        time.sleep(1.5)  # noqa: ASYNC251  # that is the point
        assert (await other.claim("jobs", worker="x", lease=1)).leases == []
        assert await store.settle("jobs", [Ack(1, held.token)]) == [True]


async def test_short_leases_wake_the_keeper(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that would end before the keeper looks again by itself is renewed in time."""
    monkeypatch.setattr(keeper, "LOOK_EVERY", 3600.0)
    until_when = "SELECT until FROM {schema}.job"
    async with opened(site) as store:
        await store.append([draft(body=b"1")])
        await until(lambda: _listed(site, int(store.owner.rpartition(":")[2])))
        (held,) = (await store.claim("jobs", worker="w", lease=6)).leases
        ((first,),) = await site.run(until_when)

        async def is_renewed() -> bool:
            return bool((await site.run(until_when))[0][0] > first)

        await until(is_renewed)
        assert await store.settle("jobs", [Ack(1, held.token)]) == [True]


async def test_listener_comes_back(site: Site) -> None:
    """When the connection that listens is cut, it listens again, then looks: nothing is missed."""
    async with opened(site, poll_interval=3600) as store, opened(site) as other:
        rung = asyncio.Event()
        end = store.watch(rung.set)
        await asyncio.wait_for(rung.wait(), 10)
        for _ in range(3):
            rung.clear()
            await other.append([draft("events")])
            await asyncio.wait_for(rung.wait(), 10)
            rung.clear()
            killed = await site.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'sssnbus listener'"
            )
            assert killed
            await asyncio.wait_for(rung.wait(), 10)
        end()


def text_of(error: BaseException | None) -> str:
    """Return everything that a log could show of an error."""
    text = ""
    while error is not None:
        text += f"{error}{error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text


async def test_tls(tmp_path: Path) -> None:
    """A certificate for another name is refused with its reason; without that check all is encrypted."""
    bin = programs(tls=True)
    if bin is None or shutil.which("openssl") is None:
        pytest.skip("no PostgreSQL server with TLS, or no openssl, on this machine")
    with tempfile.TemporaryDirectory(prefix="sssnbus-pg-") as name:
        folder = Path(name)
        await asyncio.to_thread(make_certificate, folder)
        server = PostgresServer(
            folder, "ssl=on", f"ssl_cert_file={folder}/cert.pem", f"ssl_key_file={folder}/key.pem", bin=bin
        )
        await asyncio.to_thread(server.start)
        try:
            site = Site(server.url, "a")
            with pytest.raises(
                StoreUnavailable, match=r"certificate that cannot be trusted: IP address mismatch"
            ):
                await site.store(sslmode="verify-full", sslrootcert=f"{folder}/cert.pem").open()
            with pytest.raises(StoreUnavailable, match=r"certificate that cannot be trusted: self.signed"):
                await site.store(
                    sslmode="verify-full", sslrootcert=ssl.get_default_verify_paths().cafile
                ).open()
            async with opened(site, sslmode="verify-ca", sslrootcert=f"{folder}/cert.pem"):
                rows = await site.run(
                    "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                    "WHERE application_name LIKE 'sssnbus%'"
                )
                assert {row["ssl"] for row in rows} == {True}
        finally:
            await asyncio.to_thread(server.kill)


def make_certificate(folder: Path) -> None:
    """Make a certificate that signs itself, for a name that is not ours."""
    folder.chmod(0o755)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=db.example",
         "-addext", "subjectAltName=DNS:db.example",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    if os.geteuid() == 0:
        who = pwd.getpwnam("nobody")
        os.chown(folder / "key.pem", who.pw_uid, who.pw_gid)
    (folder / "key.pem").chmod(0o600)
