"""What a store on Redis does when the server or the way to it fails."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic_core import to_json

from sssnbus import Bus
from sssnbus.errors import (
    MessageConflict,
    OutcomeUnknown,
    StoreError,
    StoreFull,
    StoreReplaced,
    StoreReset,
    StoreTimeout,
    StoreUnavailable,
)
from sssnbus.stores.base import Ack, Counts, Kind, Release, Settlement
from sssnbus.stores.lane import Stage
from sssnbus.stores.redis import RedisStore
from sssnbus.stores.redis.log import value, values
from sssnbus.stores.redis.operation import Operation
from sssnbus.stores.redis.script import scripts
from sssnbus.stores.redis.url import from_url
from tests.servers.process import Server, free_port
from tests.servers.proxy import Proxy
from tests.servers.redis import private_server
from tests.stores.redis.tools import client, draft, line, opened, program, until


@pytest.fixture
def forgetful(folder: Path) -> Iterator[Server]:
    """Give a private server that keeps nothing."""
    with private_server(folder) as server:
        yield server


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    """Give a proxy before a private server."""
    async with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


async def bodies(store: RedisStore, log: str = "events") -> list[bytes]:
    """Return what a log holds."""
    return [stored.body for stored in (await store.read(log, after=0, limit=10_000)).messages]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_server_restart(server: Server, how: str) -> None:
    """What was acknowledged is there after a restart; what is written meanwhile waits, and is there once."""
    async with opened(f"redis://127.0.0.1:{server.port}") as store:
        await store.append([draft("events", b"before")])
        await asyncio.to_thread(getattr(server, how))
        writing = [asyncio.create_task(store.append([draft("events", b"%d" % n)])) for n in range(5)]
        reading = asyncio.create_task(store.last(["events"]))
        await asyncio.to_thread(server.start)
        placed = [(await task)[0].sequence for task in writing]
        assert placed == [2, 3, 4, 5, 6]
        await reading
        assert await bodies(store) == [b"before", b"0", b"1", b"2", b"3", b"4"]


async def test_kills_under_load(server: Server) -> None:
    """However often the server is killed: each acknowledged message is there, none twice, no place empty."""
    acknowledged: list[bytes] = []
    done = asyncio.Event()

    async def writer(store: RedisStore, name: int) -> None:
        number = 0
        while not done.is_set():
            body = b"%d-%d" % (name, number)
            await store.append([draft("events", body)])
            acknowledged.append(body)
            number += 1

    async with opened(f"redis://127.0.0.1:{server.port}") as store:
        writers = [asyncio.create_task(writer(store, name)) for name in range(8)]
        for _ in range(3):
            count = len(acknowledged)

            async def progress(count: int = count) -> bool:
                for task in writers:
                    if task.done():
                        await task
                return len(acknowledged) > count + 100

            await until(progress)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        done.set()
        await asyncio.gather(*writers)
        page = await store.read("events", after=0, limit=100_000)
        assert [stored.sequence for stored in page.messages] == list(range(1, len(acknowledged) + 1))
        assert sorted(stored.body for stored in page.messages) == sorted(acknowledged)


@pytest.mark.parametrize("verb", ["append", "claim", "settle", "transfer", "put"])
async def test_lost_answer(server: Server, proxy: Proxy, verb: str) -> None:
    """A request whose answer is lost on the way is sent again, is applied once, and answered as it was."""
    async with (
        opened(f"redis://127.0.0.1:{server.port}") as other,
        opened(f"redis://127.0.0.1:{proxy.port}") as store,
    ):
        await store.declare("done", Kind.QUEUE)
        await store.append([draft("jobs", b"one"), draft("jobs", b"two")])
        (lease,) = (await store.claim("jobs", worker="w", lease=60)).leases
        # From here on the server knows every script, so that each request is one.
        await store.append([draft("events", b"first")])
        await store.settle("jobs", [])
        assert await other.changed()
        # Requests go through at once; answers are held until the connections are cut.
        proxy.hold_answers()
        work: asyncio.Task[object]
        if verb == "append":
            work = asyncio.create_task(store.append([draft("events", b"x")]))
        elif verb == "claim":
            work = asyncio.create_task(store.claim("jobs", worker="w", lease=60))
        elif verb == "settle":
            work = asyncio.create_task(
                store.settle("jobs", [Release(lease.stored.sequence, lease.token, counted=False)])
            )
        elif verb == "transfer":
            work = asyncio.create_task(store.transfer("jobs", "done", limit=9))
        else:
            work = asyncio.create_task(store.put("s", "x", b"1", version=None))

        async def applied() -> bool:
            if verb == "put":
                return await other.get("s", "x") is not None
            return (
                await other.counts("jobs") == Counts(leased=2) if verb == "claim" else await other.changed()
            )

        await until(applied)
        proxy.break_once()
        proxy.mend()
        answer = await work
        if verb == "append":
            assert isinstance(answer, list)
            assert [(place.sequence, place.duplicate) for place in answer] == [(2, False)]
            assert await bodies(store) == [b"first", b"x"]
        elif verb == "claim":
            (second,) = answer.leases  # type: ignore[attr-defined]  # what a claim returns
            assert (second.stored.body, second.attempt) == (b"two", 1)
            assert await store.settle("jobs", [Ack(second.stored.sequence, second.token)]) == [True]
        elif verb == "settle":
            assert answer == [True]
            assert await other.counts("jobs") == Counts(ready=2)
        elif verb == "transfer":
            assert isinstance(answer, list)
            assert [stored.body for stored in answer] == [b"two"]
            assert await bodies(store, "done") == [b"two"]
        else:
            record = await store.get("s", "x")
            assert record is not None
            assert answer == record.version


async def test_black_hole(proxy: Proxy) -> None:
    """Verbs end at their deadline: a write says that its outcome is unknown; work goes on afterwards."""
    async with opened(f"redis://127.0.0.1:{proxy.port}?timeout=1") as store:
        await store.append([draft("events", b"before")])
        await store.last(["events"])
        proxy.hold()
        outcomes = await asyncio.gather(
            store.append([draft("events", b"lost")]),
            store.last(["events"]),
            store.append([draft("events", b"waiting")], timeout=0.2),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], OutcomeUnknown)
        assert "under its dedupe key or id" in str(outcomes[0])
        assert isinstance(outcomes[1], StoreUnavailable)
        assert isinstance(outcomes[2], StoreTimeout)
        proxy.mend()
        await store.append([draft("events", b"after")])
        found = await bodies(store)
        assert found[0] == b"before"
        assert found[-1] == b"after"
        assert set(found) <= {b"before", b"lost", b"after"}


async def test_a_write_that_has_begun(proxy: Proxy) -> None:
    """A caller's own limit is for the beginning: what was sent by then is waited for, and hurts nobody."""
    async with opened(f"redis://127.0.0.1:{proxy.port}?timeout=60") as store:
        connections = proxy.connections
        proxy.hold_answers()
        writing = asyncio.create_task(store.append([draft("events", b"slow")], timeout=0.01))
        await asyncio.wait([writing], timeout=0.2)
        proxy.mend()
        await writing
        await store.append([draft("events", b"next")])
        assert await bodies(store) == [b"slow", b"next"]
        assert proxy.connections == connections


async def test_requests_that_were_given_up(store: RedisStore, server_url: str) -> None:
    """A request that arrives after a later one of its sender, or after its sender has left, is not taken."""
    key, write, one = store._place.clock_key, scripts().write.text, scripts().one.text
    late = [write, 1, key, to_json([*store._address(1), [["declare", "late", "broadcast"]]]), b""]
    short: list[str | bytes | int] = [
        one,
        1,
        key,
        store.owner,
        1,
        store._birth,
        "",
        "events",
        b"[]",
        b"",
        b"1",
    ]
    await store.append([draft("events")])
    async with client(store._place.port) as plain:
        for request in (late, short):
            assert await plain.eval(*request) == b"STALE"
        await store.aclose()
        for request in (late, short):
            assert await plain.eval(*request) == b"GONE"
        short[5] = "of another store"
        assert await plain.eval(*short) == b"REPLACED"
    async with opened(f"{server_url}?prefix={store._place.prefix}") as again:
        assert [info.name for info in await again.logs()] == ["events", "jobs"]
        assert await again.last(["events"]) == {"events": 1}


async def test_slow_server(proxy: Proxy) -> None:
    """With a slow server, and callers that go away, nobody gets the answer to another question."""
    async with opened(f"redis://127.0.0.1:{proxy.port}") as store:
        for number in range(20):
            await store.put("s", f"{number}", b"%d" % number, version=None)
        proxy.delay(0.005)
        for turn in range(10):
            asking = [asyncio.create_task(store.get("s", f"{number}")) for number in range(20)]
            for _ in range(turn):
                await asyncio.sleep(0.001)
            for task in asking[turn::3]:
                task.cancel()
            for number, outcome in enumerate(await asyncio.gather(*asking, return_exceptions=True)):
                if not isinstance(outcome, asyncio.CancelledError):
                    assert not isinstance(outcome, BaseException)
                    assert outcome is not None
                    assert outcome.value == b"%d" % number


async def test_cancelled_while_the_answer_is_away(server: Server, proxy: Proxy) -> None:
    """A cancelled write that was sent is known to have been applied before the cancellation leaves it."""
    async with opened(f"redis://127.0.0.1:{proxy.port}") as store:
        await store.append([draft("events", b"first")])
        proxy.hold_answers()
        writing = asyncio.create_task(store.append([draft("events", b"x")]))
        async with opened(f"redis://127.0.0.1:{server.port}") as other:

            async def applied() -> bool:
                return (await other.last(["events"]))["events"] == 2

            await until(applied)
            writing.cancel()
            proxy.break_once()
            proxy.mend()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert (await store.append([draft("events", b"y")]))[0].sequence == 3
            assert await bodies(other) == [b"first", b"x", b"y"]


async def test_cancelled_on_the_way(server: Server, proxy: Proxy) -> None:
    """A cancelled write that is under way ends when it is known to have been applied, and not before."""
    async with (
        opened(f"redis://127.0.0.1:{server.port}") as other,
        opened(f"redis://127.0.0.1:{proxy.port}") as store,
    ):
        await store.append([draft("events", b"first")])
        proxy.hold()
        writing = asyncio.create_task(store.append([draft("events", b"x")]))
        waiting = asyncio.create_task(store.append([draft("events", b"y")]))
        lane = store._writer

        async def sent() -> bool:
            return bool(lane._flying and lane._waiting)

        await until(sent)
        writing.cancel()
        waiting.cancel()
        await asyncio.wait([writing], timeout=0.2)
        assert waiting.cancelled()
        assert not writing.done()
        proxy.mend()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await bodies(other) == [b"first", b"x"]


async def test_cancelled_when_time_is_over(proxy: Proxy) -> None:
    """The error of a request whose caller is cancelled just then is no complaint of the loop's."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with opened(f"redis://127.0.0.1:{proxy.port}") as store:
        await store.last(["events"])
        proxy.hold_answers()
        reading = asyncio.create_task(store.last(["events"]))
        lane = store._reader

        async def sent() -> bool:
            return bool(lane._flying)

        await until(sent)
        lane._flying[0].deadline = 0.0
        lane._expire()
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        del reading
        gc.collect()
        proxy.mend()
    assert complaints == []


async def test_wrong_password(folder: Path) -> None:
    """A refused login is told at once, without the password."""
    with private_server(folder, "--requirepass", "right") as server:
        for login in (":hunter2@", "user:hunter2@", ""):
            with pytest.raises(StoreError, match="refused the login") as caught:
                await from_url(f"redis://{login}127.0.0.1:{server.port}", None).open()
            assert not caught.value.retryable
            assert "hunter2" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
        async with opened(f"redis://:right@127.0.0.1:{server.port}") as store:
            assert "right" not in f"{store.url} {store!r} {store._place!r}"


async def test_password_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that is not in the URL comes from the engine's own variable."""
    with private_server(folder, "--requirepass", "right") as server:
        monkeypatch.setenv("REDISCLI_AUTH", "right")
        async with opened(f"redis://127.0.0.1:{server.port}") as store:
            await store.append([draft("events")])


async def test_no_secret_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """Whatever happens to a store, no log and no error holds its password or what its messages say."""
    secret, content = "hunter2-marker", b"content-marker"
    caplog.set_level("DEBUG")
    told: list[str] = []
    with private_server(folder, "--requirepass", secret) as server:
        url = f"redis://:{secret}@127.0.0.1:{server.port}?timeout=0.3&connect_timeout=0.3&poll_interval=0.05"
        async with opened(url) as store:
            end = store.watch(lambda: None)
            await store.append([draft("events", content, id="x")])
            await store.append([draft("jobs", content)])
            assert (await store.claim("jobs", worker="w", lease=0.3)).leases
            with pytest.raises(MessageConflict) as conflict:
                await store.append([draft("events", content * 2, id="x")])
            told.append(f"{conflict.value!r} {conflict.value}")
            await asyncio.to_thread(server.kill)
            for verb in (store.append([draft("events", content)]), store.last(["events"])):
                with pytest.raises(StoreError) as caught:
                    await verb
                told.append(f"{caught.value!r} {caught.value} {caught.value.__cause__!r}")
            await asyncio.to_thread(server.start)
            end()
            told.append(f"{store!r} {store._place!r} {store._keeper!r}")
    told += [record.getMessage() + str(record.exc_text or "") for record in caplog.records]
    told += [str(warning.message) for warning in recwarn]
    assert len(told) > 4
    assert not [text for text in told if secret in text or content.decode() in text]


async def test_missing_server(caplog: pytest.LogCaptureFixture) -> None:
    """A server that is not there is told within the connect timeout, and no secret with it."""
    caplog.set_level("DEBUG")
    with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
        await from_url(f"redis://me:hunter2@127.0.0.1:{free_port()}?connect_timeout=0.3", None).open()
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__!r} {caplog.text}"


async def test_server_that_does_not_answer(proxy: Proxy) -> None:
    """A server that accepts and says nothing is given up after the connect timeout."""
    proxy.hold()
    with pytest.raises(StoreUnavailable, match=r"within 0\.5 s"):
        await from_url(f"redis://127.0.0.1:{proxy.port}?connect_timeout=0.5", None).open()


async def test_lost_data(forgetful: Server) -> None:
    """After a server lost its data, subscribers are told, and writers write nothing over the old places."""
    url = f"redis://127.0.0.1:{forgetful.port}?poll_interval=0.1"
    async with Bus(url) as bus:
        events = bus.broadcast("events")
        async with events.subscribe("s", start="earliest") as subscription:
            await events.write("me", 1)
            assert (await anext(subscription)).content.data == 1
            await asyncio.to_thread(forgetful.kill)
            await asyncio.to_thread(forgetful.start)
            with pytest.raises(StoreReset):
                async with asyncio.timeout(20):
                    await anext(subscription)
        with pytest.raises(StoreReplaced):
            await events.write("me", 2)
    async with Bus(url) as bus:
        receipt = await bus.broadcast("events").write("me", 3)
        assert receipt.sequence == 1


async def test_flushed_server(store: RedisStore) -> None:
    """When everything is deleted under an open store, it writes nothing more; it reads what is there."""
    await store.append([draft("events")])
    place = store._place
    async with client(place.port) as plain:
        await plain.delete(place.clock_key, *await plain.keys(f"{place.clock_key}:*"))
        with pytest.raises(StoreReplaced):
            await store.append([draft("events")])
        assert await store.last(["events"]) == {"events": 0}
        assert await plain.keys(f"{place.clock_key}*") == []


async def test_server_that_went_back(server: Server) -> None:
    """A server that comes back with an older state of the data is found out before anything is written."""
    async with opened(f"redis://127.0.0.1:{server.port}") as store:
        await store.append([draft("events", b"1"), draft("events", b"2")])
        async with client(server.port) as plain:
            await plain.xdel("{sssnbus}:m:events", "2-0")
            await plain.hset("{sssnbus}:l:events", "last", 1)
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        with pytest.raises(StoreReplaced):
            await store.append([draft("events", b"3")])
        assert await bodies(store) == [b"1"]


async def test_full_server(forgetful: Server) -> None:
    """A server without room refuses what needs some; acks, releases, renewals and reads go on."""
    async with opened(f"redis://127.0.0.1:{forgetful.port}") as store:
        await store.append([draft("jobs", b"1"), draft("jobs", b"2"), draft("jobs", b"3", key="k")])
        held = (await store.claim("jobs", worker="w", lease=60, limit=2)).leases
        async with client(forgetful.port) as plain:
            await plain.config_set("maxmemory", 1)
            with pytest.raises(StoreFull):
                await store.append([draft("events")])
            with pytest.raises(StoreFull):
                await store.put("s", "x", b"1", version=None)
            assert len((await store.claim("jobs", worker="w", lease=60)).leases) == 1
            settled: list[Settlement] = [
                Ack(held[0].stored.sequence, held[0].token),
                Release(held[1].stored.sequence, held[1].token),
            ]
            assert await store.settle("jobs", settled) == [True, True]
            assert await store.counts("jobs") == Counts(ready=1, leased=1)
            async with opened(store.url) as another:
                (lease,) = (await another.claim("jobs", worker="w", lease=60)).leases
                assert await another.extend("jobs", [(lease.stored.sequence, lease.token)], 60) == [True]
            await plain.config_set("maxmemory", 0)
        assert (await store.append([draft("events")]))[0].sequence == 1


async def test_forgotten_scripts(store: RedisStore) -> None:
    """A server that has forgotten the scripts is told them again."""
    async with client(store._place.port) as plain:
        await plain.script_flush()
        assert (await store.append([draft("events")]))[0].sequence == 1
        await plain.script_flush()
        assert (await store.last(["events"]))["events"] == 1


async def test_owner_that_died(store: RedisStore, url: str) -> None:
    """When the time of a killed owner is up, what it held is free, with its attempt counted."""
    source = """
    async def main():
        store = from_url(url, None)
        await store.open()
        await store.claim("jobs", worker="w", lease=3600)
        print(store.owner, flush=True)
        await asyncio.sleep(60)
    asyncio.run(main())
    """
    await store.append([draft("jobs")])
    with program(url, source) as process:
        owner = await asyncio.to_thread(line, process)
        assert await store.counts("jobs") == Counts(leased=1)
    assert await store.alive(owner)
    async with client(store._place.port) as plain:
        # Ten seconds go by.
        await plain.zadd(f"{store._place.clock_key}:owners", {owner: 1.0})
    assert not await store.alive(owner)

    async def freed() -> bool:
        return await store.counts("jobs") == Counts(ready=1)

    await until(freed)
    assert (await store.claim("jobs", worker="w", lease=60)).leases[0].attempt == 2


async def test_owners_after_an_outage(store: RedisStore, url: str) -> None:
    """When everybody is overdue, nobody is taken for dead, and leases stay."""
    async with opened(url) as other, client(store._place.port) as plain:
        await other.append([draft("jobs")])
        (lease,) = (await other.claim("jobs", worker="w", lease=3600)).leases
        owners = f"{store._place.clock_key}:owners"
        await plain.zadd(owners, {store.owner: 1.0, other.owner: 1.0})

        async def back() -> bool:
            scores = [await plain.zscore(owners, each.owner) for each in (store, other)]
            return all(score is not None and score > 1.0 for score in scores)

        await until(back)
        assert await store.alive(other.owner)
        assert await other.settle("jobs", [Ack(lease.stored.sequence, lease.token)]) == [True]


async def bury(port: int, store: RedisStore) -> None:
    """Have somebody take a store for dead, as if its time were up."""
    key, script = store._place.clock_key, scripts().write.text
    async with client(port) as plain:
        for verb in (["enter", 10, 0], ["tick", 10, 0]):
            await plain.zadd(f"{key}:owners", {store.owner: 1.0})
            await plain.eval(script, 1, key, to_json(["somebody", 0, store._birth, None, None, [verb]]), b"")


async def test_taken_for_dead(store: RedisStore) -> None:
    """A store that others took for dead has lost its leases, and works on."""
    await store.append([draft("jobs")])
    (lease,) = (await store.claim("jobs", worker="w", lease=60)).leases
    await bury(store._place.port, store)
    assert await store.settle("jobs", [Ack(lease.stored.sequence, lease.token)]) == [False]
    assert (await store.append([draft("events")]))[0].sequence == 1
    assert (await store.claim("jobs", worker="w", lease=60)).leases[0].attempt == 2


async def test_taken_for_dead_while_an_answer_is_away(server: Server, proxy: Proxy) -> None:
    """A write that was applied is not applied again by a server that has forgotten who sent it."""
    async with (
        opened(f"redis://127.0.0.1:{server.port}") as other,
        opened(f"redis://127.0.0.1:{proxy.port}") as store,
    ):
        await store.append([draft("events", b"first")])
        proxy.hold_answers()
        writing = asyncio.create_task(store.append([draft("events", b"x")]))

        async def applied() -> bool:
            return (await other.last(["events"]))["events"] == 2

        await until(applied)
        await bury(server.port, store)
        proxy.break_once()
        proxy.mend()
        with pytest.raises(OutcomeUnknown):
            await writing
        await store.append([draft("events", b"y")])
        assert await bodies(other) == [b"first", b"x", b"y"]


async def test_busy_loop(store: RedisStore, url: str) -> None:
    """A loop that computes for longer than a lease lasts does not lose it."""
    async with opened(url) as other:
        await store.append([draft("jobs")])
        (lease,) = (await store.claim("jobs", worker="w", lease=0.6)).leases
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            sum(range(1000))
        assert (await other.claim("jobs", worker="w", lease=60)).leases == []
        assert await store.settle("jobs", [Ack(lease.stored.sequence, lease.token)]) == [True]


async def test_a_lane_that_was_cancelled_before_it_began(store: RedisStore) -> None:
    """What the cancelled task had not begun with goes along with the next one."""
    await store._writer._hang_up()
    writing = asyncio.create_task(store.append([draft("events", b"1")]))
    await asyncio.sleep(0)
    assert store._writer._task is not None
    store._writer._task.cancel()
    assert [place.sequence for place in await writing] == [1]


async def test_a_lane_that_was_cancelled(proxy: Proxy) -> None:
    """Somebody cancels every task there is: who waits is told, and the next request gets its own answer."""
    async with opened(f"redis://127.0.0.1:{proxy.port}") as store:
        await store.append([draft("events", b"1")])
        await store.last(["events"])
        proxy.hold_answers()
        lanes = store._writer, store._reader
        asked = (
            Operation("A removal", ("remove", "events", ["x"]), value),
            Operation("A look", ("last", ["events"]), values),
        )
        waiting = [
            asyncio.create_task(lane.insist(each, 60.0)) for lane, each in zip(lanes, asked, strict=True)
        ]
        async with asyncio.timeout(10):
            while not all(each.stage is Stage.RUNNING for each in asked):  # noqa: ASYNC110  # sent by others
                await asyncio.sleep(0.01)
        for lane in lanes:
            assert lane._task is not None
            lane._task.cancel()
        await asyncio.gather(*waiting)
        assert isinstance(asked[0].error, OutcomeUnknown)
        assert isinstance(asked[1].error, StoreTimeout)
        proxy.mend()
        wires = [lane._wire for lane in lanes]
        assert [place.sequence for place in await store.append([draft("events", b"2")])] == [2]
        assert await bodies(store) == [b"1", b"2"]
        assert all(lane._wire is not wire for lane, wire in zip(lanes, wires, strict=True)), "looked at anew"
