"""What those who run a bus do with it, over NATS."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from sssnbus import Bus, MissingAbility, WorkQueueChannel
from sssnbus.stored import Draft
from sssnbus.stores import Kind, Standing, State
from sssnbus.stores.nats import NATSStore
from sssnbus.testing import StoreFactory
from sssnbus.testing.bench import draft
from tests.channels.tools import data
from tests.stores.nats.places import prefix


@pytest.fixture
def url(address: str) -> str:
    """Return the URL of an empty place."""
    return f"nats://{address}?prefix={prefix()}"


@pytest.fixture
async def bus(url: str) -> AsyncIterator[Bus]:
    """Give a started bus on an empty place."""
    async with Bus(url) as bus:
        yield bus


async def filled(queue: WorkQueueChannel, *items: Any) -> list[str]:
    """Write to a queue; return the ids."""
    return [str(receipt) for receipt in await queue.write_many("s", items)]


async def test_choosing(bus: Bus) -> None:
    """Messages are looked at, moved and read by ids and between ids."""
    jobs = bus.work_queue("jobs")
    ids = await filled(jobs, *range(6))
    assert [data(m) for m in await jobs.peek(9, after=ids[1], before=ids[4])] == [2, 3]
    assert [data(m) for m in await jobs.move("other", limit=9, ids=[ids[3], ids[0]])] == [0, 3]
    (read,) = await jobs.read("w", exclusive=True, limit=9, before=ids[2])
    assert data(read) == 1
    assert [data(m) for m in await jobs.peek(9)] == [2, 4, 5]
    assert [data(m) for m in await bus.work_queue("other").peek(9)] == [0, 3]


async def test_hold_outlives_its_maker(url: str) -> None:
    """A held message can be settled by another process with its token, and by nobody without it."""
    async with Bus(url) as bus:
        await filled(bus.work_queue("jobs"), "x")
        claim = await bus.work_queue("jobs").hold("w", 30)
        assert claim is not None
        id, token = claim.message.id, claim.token
    async with Bus(url) as bus:
        jobs = bus.work_queue("jobs")
        assert await jobs.peek() == []
        await (await jobs.resume(id, token)).ack()
        assert (await jobs.statistics()).leased == 0


async def test_observing(url: str) -> None:
    """An observer sees each message once when it is ready, also what another process writes."""
    async with Bus(url) as bus, Bus(url) as other:
        await filled(bus.work_queue("jobs"), 0, 1)
        seen = []
        async with asyncio.timeout(20), aclosing(bus.work_queue("jobs").observe()) as messages:
            async for message in messages:
                seen.append(data(message))
                if len(seen) == 2:
                    await filled(other.work_queue("jobs"), 2)
                if len(seen) == 3:
                    break
        assert seen == [0, 1, 2]


async def test_done_is_kept_until_vacuum(bus: Bus) -> None:
    """With ``keep_done`` messages that are done stay, in no worker's way, until they are swept up."""
    jobs = bus.work_queue("jobs", keep_done=True)
    await filled(jobs, *range(3))
    read = await jobs.read("w", exclusive=True, limit=2)
    await jobs.acknowledge("w", [message.id for message in read])
    info = await bus.channel("jobs")
    assert info is not None
    assert (info.ready, info.done) == (1, 2)
    assert await bus.vacuum(compact=True) == 2
    assert (await jobs.statistics()).done == 0
    assert [data(m) for m in await jobs.peek(9)] == [2]


async def test_looking_at_everything(bus: Bus) -> None:
    """A bus tells its channels, subscriptions and size, and forgets a channel as a whole."""
    await bus.broadcast("events").write("s", 1)
    async with bus.broadcast("events").subscribe("d", start="earliest", durable=True) as subscription:
        assert data(await anext(subscription)) == 1
    await filled(bus.work_queue("jobs"), 1, 2)
    assert [(info.name, info.messages) for info in await bus.channels()] == [("events", 1), ("jobs", 2)]
    assert [one.name for one in await bus.subscriptions()] == ["d"]
    assert (await bus.usage()).size > 0
    assert await bus.delete("events")
    assert [info.name for info in await bus.channels()] == ["jobs"]
    assert await bus.subscriptions() == []


async def test_many_queues_at_once_are_refused(bus: Bus) -> None:
    """One message for several queues cannot be one step here; it is refused before anything happens."""
    with pytest.raises(MissingAbility, match="AtomicBatch"):
        await bus.write_to(["a", "b"], "s", 1)
    assert await bus.channels() == []
    (receipt,) = await bus.write_to(["a"], "s", 1)
    assert receipt.sequence == 1


@pytest.mark.parametrize("there", ["nats", "sqlite"], ids=["from NATS", "to NATS"])
async def test_moving_over(url: str, tmp_path: Path, there: str) -> None:
    """Everything moves between this store and a file, and a subscriber goes on where it was (BV-52)."""
    file = f"sqlite:///{tmp_path}/x.db"
    first, second = (url, file) if there == "nats" else (file, url)
    async with Bus(first) as old:
        events, jobs = old.broadcast("events"), old.work_queue("jobs", keep_done=True)
        await events.write_many("s", range(5))
        async with events.subscribe("d", start="earliest", durable=True) as subscription:
            assert [data(await anext(subscription)) for _ in range(3)] == [0, 1, 2]
        ids = await filled(jobs, "done", "failed", "new")
        await jobs.acknowledge("w", [m.id for m in await jobs.read("w", exclusive=True, ids=[ids[0]])])
        await jobs.nack("w", [m.id for m in await jobs.read("w", exclusive=True, ids=[ids[1]])], error="boom")
        records = [json.loads(json.dumps(record)) async for record in old.dump()]
    async with Bus(second) as new:
        loaded = await new.load(records)
        assert (loaded.messages, loaded.refused) == (8, 0)
        (place,) = await new.subscriptions()
        assert (place.name, place.position, place.lag) == ("d", 3, 2)
        async with new.broadcast("events").subscribe("d", durable=True) as subscription:
            assert [data(await anext(subscription)) for _ in range(2)] == [3, 4]
        queue = new.work_queue("jobs")
        stats = await queue.statistics()
        assert (stats.ready + stats.delayed, stats.done) == (2, 1)
        again = [json.loads(json.dumps(record)) async for record in new.dump(["jobs"])]
        assert [r for r in again if "message" in r] == [
            r for r in records if r.get("channel") == "jobs" and "message" in r
        ]
        assert (await new.load(records)).messages == 0


async def test_restored_before_it_was_met(store: NATSStore, place: StoreFactory) -> None:
    """A store whose journal is ahead of its messages counts attempts of elsewhere and of here together."""
    await store.declare("q", Kind.QUEUE)
    await store.restore("q", [(_named("1"), Standing(State.READY, 2, None, "boom"))])
    (lease,) = (await store.claim("q", worker="w", lease=30, renew=False)).leases
    assert (lease.attempt, lease.error) == (3, "boom")
    other = place()
    assert isinstance(other, NATSStore)
    await other.open()
    told = (await other.standing("q", [1]))[1]
    assert (told.state, told.attempt, told.error, told.token) == (State.LEASED, 3, "boom", lease.token)
    assert told.deadline == pytest.approx(lease.deadline, abs=0.5)
    await other.aclose()


async def test_spaces_have_any_name(store: NATSStore) -> None:
    """The names of spaces come back as they were, whatever characters they have."""
    names = sorted(["a:b.c", "é=ü", "=x", "plain", "with space", "> *"])
    for name in names:
        await store.put(name, "n", b"", version=None)
    assert await store.spaces() == names


def _named(id: str) -> Draft:
    return draft("q", 1, id=id)
