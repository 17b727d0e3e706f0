"""What a bus tells of its store as a whole, and what can be done to it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sssnbus import (
    Bus,
    ChannelInfo,
    ChannelKindMismatch,
    ClosedError,
    InvalidName,
    InvalidOption,
    InvalidTopic,
    MissingAbility,
    NotStarted,
    QueueFull,
    StoreReset,
    SubscriptionInfo,
)
from sssnbus.stores import AtomicBatch, Catalogue, Kind, Records
from tests.channels.tools import Recorder, data, until, waits, without


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """Return the URL of a file that does not exist yet."""
    return f"sqlite:///{tmp_path}/x.db?durability=process"


@pytest.fixture(params=["memory", "sqlite"])
async def bus(request: pytest.FixtureRequest, file_url: str) -> AsyncIterator[Bus]:
    """Give a started bus."""
    async with Bus("memory://" if request.param == "memory" else file_url) as bus:
        yield bus


async def test_channels(bus: Bus) -> None:
    """Every channel is listed by name with its kind and its counts, whoever has made it (SB-056, SB-057)."""
    assert await bus.channels() == []
    await bus.broadcast("events").write_many("s", ["a", "b"])
    jobs = bus.work_queue("jobs", keep_done=True, max_deliveries=1)
    await jobs.write_many("s", range(5))
    await jobs.write("s", 5, delay=60)
    done, leased, dead = await jobs.read("w", exclusive=True, limit=3)
    await jobs.acknowledge("w", [done.id])
    await jobs.nack("w", [dead.id])
    await bus.work_queue("jobs.more").start()
    empty = ChannelInfo("jobs.more", Kind.QUEUE, 0, 0, 0, 0, 0, 0, 0, 0)
    events, queue, more = await bus.channels()
    assert events == ChannelInfo("events", Kind.LOG, 2, 2, 6, 0, 0, 0, 0, 0)
    assert queue == ChannelInfo(
        "jobs", Kind.QUEUE, last=6, messages=5, size=5, ready=2, delayed=1, leased=1, done=1, dead=1
    )
    assert more == empty
    assert [info.name for info in await bus.channels("jobs")] == ["jobs", "jobs.more"]
    assert [info.name for info in await bus.channels("jobs.")] == ["jobs.more"]
    assert await bus.channels("x") == []
    assert await bus.channels("jobs!") == [], "dead letters are no channels"
    assert await bus.channel("jobs") == queue
    assert await bus.channel("job") is None
    with pytest.raises(InvalidName):
        await bus.channel("jobs!dead")
    assert leased.id


async def test_usage(bus: Bus) -> None:
    """Usage tells messages, bytes, and how far the ids have come, which never goes back (SB-039)."""
    empty = await bus.usage()
    assert (empty.url, empty.messages, empty.last_id) == ((await bus.store()).url, 0, None)
    await bus.broadcast("events").write("s", "x")
    jobs = bus.work_queue("jobs", keep_done=True, max_deliveries=1)
    ids = await jobs.write_many("s", range(3))
    told = await bus.usage()
    assert (told.messages, told.last_id) == (4, str(ids[-1]))
    assert told.size > 0
    assert told.durability in ("none", "process")
    done, dead = await jobs.read("w", exclusive=True, limit=2)
    await jobs.acknowledge("w", [done.id])
    await jobs.nack("w", [dead.id])
    assert (await bus.usage()).messages == 3, "done ones count, dead ones do not"
    await bus.vacuum()
    await bus.delete("events")
    after = await bus.usage()
    assert after.messages == 1
    assert after.last_id is not None
    assert after.last_id >= str(ids[-1])
    assert str(await jobs.write("s", "next")) > after.last_id


async def test_subscriptions(bus: Bus) -> None:
    """Durable subscriptions of one channel or of all are told, with their lag and whether they are live."""
    for name in ("b", "a"):
        channel = bus.broadcast(name)
        await channel.write_many("s", range(3))
        async with channel.subscribe("two", durable=True, start="earliest") as subscription:
            await anext(subscription)
    recorder = Recorder()
    await bus.broadcast("a").subscribe("one", recorder, durable=True, start="earliest")
    await recorder.reach(3)
    await bus.broadcast("c").write("s", 1)

    async def seen(channel: str | None = None) -> list[SubscriptionInfo]:
        return await bus.subscriptions(channel)

    async with asyncio.timeout(20):
        while (await seen())[0].lag:  # noqa: ASYNC110  # the place is saved some time later
            await asyncio.sleep(0.001)
    assert await seen() == [
        SubscriptionInfo("a", "one", 3, 0, True),
        SubscriptionInfo("a", "two", 1, 2, False),
        SubscriptionInfo("b", "two", 1, 2, False),
    ]
    assert await seen("b") == await bus.broadcast("b").subscriptions()
    assert await seen("c") == await seen("unknown") == []


async def test_write_to(bus: Bus) -> None:
    """One copy goes into each queue, each with an id of its own, and wakes who waits there (SB-142)."""
    recorder = Recorder()
    await bus.work_queue("a").subscribe("w", recorder)
    await until(lambda: waits(bus.work_queue("a")))
    receipts = await bus.write_to(["b", "a", "c", "a"], "s", {"n": 1}, topic="t", metadata={"k": "v"})
    assert len({str(receipt) for receipt in receipts}) == 3
    assert [receipt.sequence for receipt in receipts] == [1, 1, 1]
    await recorder.reach(1)
    (message,) = await bus.work_queue("c").read("w", exclusive=True)
    assert (message.id, data(message), message.topic) == (receipts[2], {"n": 1}, "t")
    assert message.metadata == {"k": "v"}
    await bus.write_to(["b", "c"], "s", "same", id="x")
    again = await bus.write_to(["b", "c"], "s", "same", id="x")
    assert [receipt.duplicate for receipt in again] == [True, True]
    assert await bus.write_to([], "s", 1) == []


async def test_write_to_all_or_none(bus: Bus) -> None:
    """If one queue refuses a copy, no other has one (SB-062)."""
    await bus.broadcast("events").write("s", 1)
    bus.work_queue("full", max_depth=1)
    await bus.write_to(["full"], "s", 1)
    refused: list[tuple[list[Any] | str, dict[str, Any], type[Exception]]] = [
        (["a", "full"], {}, QueueFull),
        (["a", "events"], {}, ChannelKindMismatch),
        (["a", "-x"], {}, InvalidName),
        (["a", 5], {}, InvalidName),
        ("ab", {}, InvalidOption),
        (["a", "b"], {"topic": "a..b"}, InvalidTopic),
        (["a", "b"], {"timeout": -1}, InvalidOption),
        (["a", "b"], {"body": 1}, TypeError),
    ]
    for queues, options, error in refused:
        with pytest.raises(error):
            await bus.write_to(queues, "s", 1, **options)
    assert {info.name: info.messages for info in await bus.channels() if info.messages} == {
        "events": 1,
        "full": 1,
    }


async def test_write_to_between_processes(file_url: str) -> None:
    """Queues that only other processes know are written to as well, and wake who waits there."""
    async with Bus(file_url) as here, Bus(file_url) as elsewhere:
        claims = [asyncio.ensure_future(elsewhere.work_queue(q).claim("w").__aenter__()) for q in "ab"]
        await until(lambda: all(waits(elsewhere.work_queue(q)) for q in "ab"))
        await here.write_to([info.name for info in await here.channels()], "s", "hello")
        for claim in await asyncio.wait_for(asyncio.gather(*claims), 20):
            assert data(claim.message) == "hello"
            await claim.ack()


async def test_write_to_needs_one_step() -> None:
    """A store that cannot write to several queues in one step is asked for one queue only."""
    store = without(AtomicBatch)
    async with Bus(store) as bus:
        assert len(await bus.write_to(["a"], "s", 1)) == 1
        with pytest.raises(MissingAbility, match="AtomicBatch"):
            await bus.write_to(["a", "b"], "s", 1)
        assert [info.messages for info in await bus.channels()] == [1]
    await store.aclose()


async def test_delete(bus: Bus) -> None:
    """Everything that is a channel's own goes with it, and nothing of the others (SB-058)."""
    for name in ("jobs", "jobs2"):
        queue = bus.work_queue(name, keep_done=True, max_deliveries=1)
        await queue.write_many("s", range(4))
        done, dead, _ = await queue.read("w", exclusive=True, limit=3)
        await queue.acknowledge("w", [done.id])
        await queue.nack("w", [dead.id])
    events = bus.broadcast("events")
    await events.write_many("s", range(3))
    async with events.subscribe("x", durable=True, start="earliest") as subscription:
        await anext(subscription)
    for _ in range(2):
        await events.read("reader", durable=True)
    store = await bus.store()
    assert isinstance(store, Records)
    assert await store.names("channel:jobs")
    assert await store.names("reader:events")
    old = bus.work_queue("jobs")
    assert [await bus.delete(name) for name in ("jobs", "events", "jobs", "unknown")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert [info.name for info in await bus.channels()] == ["jobs2"]
    assert (await bus.channels())[0].messages == 3
    for space in ("channel:jobs", "subscription:events", "reader:events", "channel:events"):
        assert await store.names(space) == {}, space
    with pytest.raises(ClosedError):
        await old.write("s", 1)
    queue = bus.work_queue("jobs")
    assert (await queue.write("s", "new")).sequence == 1
    assert await queue.dead_letters.list() == []
    # The name is free for the other kind of channel too.
    assert (await bus.work_queue("events").write("s", 1)).sequence == 1
    for name in ("jobs!dead", "", "../x"):
        with pytest.raises(InvalidName):
            await bus.delete(name)


async def test_deleted_elsewhere(file_url: str) -> None:
    """Who goes on writing makes a deleted channel anew; who follows it is told that it began again."""
    async with Bus(file_url) as here, Bus(file_url) as elsewhere:
        jobs, events = here.work_queue("jobs"), here.broadcast("events")
        worker, follower = Recorder(), Recorder()
        await jobs.subscribe("w", worker)
        await jobs.write("s", 1)
        await worker.reach(1)
        await events.write_many("s", range(3))
        sub = await events.subscribe("x", follower)
        await elsewhere.delete("jobs")
        await elsewhere.delete("events")
        gone = await jobs.statistics()
        assert (gone.last, gone.ready, (await events.statistics()).messages) == (0, 0, 0)
        assert await jobs.read("x", exclusive=True) == await jobs.peek() == []
        await jobs.write("s", 2)
        await worker.reach(2)
        assert (await events.write("s", 3, confirm="stored")).sequence == 1
        await until(lambda: sub.error is not None)
        assert isinstance(sub.error, StoreReset)
        assert [info.name for info in await elsewhere.channels()] == ["events", "jobs"]


async def test_vacuum(bus: Bus) -> None:
    """Vacuum removes what is done in every queue and nothing else (SB-037, SB-038)."""
    for name in "ab":
        queue = bus.work_queue(name, keep_done=True)
        await queue.write_many("s", range(3))
        for message in await queue.read("w", exclusive=True, limit=2):
            await queue.acknowledge("w", [message.id])
    assert await bus.vacuum() == 4
    assert await bus.vacuum(compact=True) == 0
    assert [info.messages for info in await bus.channels()] == [1, 1]


async def test_at_the_wrong_moment(file_url: str) -> None:
    """Before the start and after the stop each of these says so."""
    bus = Bus(file_url)
    verbs = (bus.channels, bus.usage, bus.subscriptions, bus.vacuum)
    for verb in verbs:
        with pytest.raises(NotStarted):
            await verb()
    async with bus:
        pass
    for verb in verbs:
        with pytest.raises(ClosedError):
            await verb()
    with pytest.raises(ClosedError):
        await bus.delete("x")
    with pytest.raises(ClosedError):
        await bus.write_to(["x"], "s", 1)


async def test_stores_that_know_less() -> None:
    """What a store cannot tell is an error that names the ability, or nothing at all."""
    nameless, forgetful = without(Catalogue), without(Records)
    async with Bus(nameless) as bus:
        for verb in (bus.channels, bus.usage, bus.vacuum):
            with pytest.raises(MissingAbility, match="Catalogue"):
                await verb()
    async with Bus(forgetful) as bus:
        await bus.work_queue("q").write("s", 1)
        assert await bus.subscriptions() == []
        assert await bus.delete("q")
        assert await bus.channels() == []
    await nameless.aclose()
    await forgetful.aclose()
