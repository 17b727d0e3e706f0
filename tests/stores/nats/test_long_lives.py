"""A store on NATS that is open for long: it goes by the server's time, and remembers nobody who has gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from sssnbus.clock import SystemClock
from sssnbus.errors import OutcomeUnknown
from sssnbus.stores import Kind, Release
from sssnbus.stores.nats import NATSStore
from sssnbus.stores.nats.change import GONE
from sssnbus.stores.nats.writer import Writer
from sssnbus.testing import StoreFactory
from sssnbus.testing.bench import draft
from tests.stores.nats.places import nats_at, prefix


class Stepping(SystemClock):
    """The clock of a machine that stood still for a while and did not notice, or whose server did."""

    ahead = 0.0

    def elapsed(self) -> float:
        return super().elapsed() + self.ahead


async def test_two_that_disagree_on_the_time(address: str) -> None:
    """A claim for a fixed time is nobody else's, also if the holder's machine stood still before."""
    clock, place = Stepping(), nats_at(address, prefix())
    holder, other = place(clock=clock), place()
    assert isinstance(holder, NATSStore)
    assert isinstance(other, NATSStore)
    await holder.open()
    await other.open()
    await holder.declare("jobs", Kind.QUEUE)
    await holder.append([draft("jobs")])
    clock.ahead = -300.0
    await holder.changed()
    (lease,) = (await holder.claim("jobs", worker="a", lease=60.0, renew=False)).leases
    assert (await other.claim("jobs", worker="b", lease=60.0)).leases == []
    assert await holder.settle("jobs", [Release(lease.stored.sequence, lease.token)]) == [True]
    await holder.aclose()
    await other.aclose()


async def test_those_who_have_gone(place: StoreFactory) -> None:
    """A store remembers of others only those who hold something now."""
    store = place()
    assert isinstance(store, NATSStore)
    await store.open()
    await store.declare("jobs", Kind.QUEUE)
    await store.append([draft("jobs"), draft("jobs")])
    for _ in range(3):
        other = place()
        assert isinstance(other, NATSStore)
        await other.open()
        (lease,) = (await other.claim("jobs", worker="w", lease=60.0)).leases
        await store.counts("jobs")
        assert len(store._seen) >= 1
        await other.settle("jobs", [Release(lease.stored.sequence, lease.token)])
        await other.aclose()
        await store.counts("jobs")
    await store.changed()
    assert not store._seen
    assert not store._dead
    await store.aclose()


async def test_one_who_came_back(address: str) -> None:
    """A store that was taken for dead, and was not, keeps what it claims from then on."""
    place = nats_at(address, prefix(), owner_timeout=1.0)
    late, other = place(), place()
    assert isinstance(late, NATSStore)
    assert isinstance(other, NATSStore)
    await late.open()
    await other.open()
    await late.declare("jobs", Kind.QUEUE)
    await late.append([draft("jobs"), draft("jobs")])
    assert len((await late.claim("jobs", worker="a", lease=60.0)).leases) == 1
    silence = {"filter": other._names.owner(late.owner)}
    taken: list[int] = []
    async with asyncio.timeout(20):
        while len(taken) < 2:
            # Its keeper speaks up again all the time.
            await other._link.api(f"STREAM.PURGE.{other._names.records}", silence, deadline=other._deadline())
            leases = (await other.claim("jobs", worker="b", lease=60.0)).leases
            taken += [lease.stored.sequence for lease in leases]
        while not await other.alive(late.owner):  # noqa: ASYNC110  # what is asked is at the server
            await asyncio.sleep(0.02)
    await other.append([draft("jobs")])
    (lease,) = (await late.claim("jobs", worker="a", lease=60.0)).leases
    assert lease.stored.sequence == 3
    await other._mirrors()[0].sync(other._deadline())
    assert (await other.claim("jobs", worker="b", lease=60.0)).leases == []
    assert await late.settle("jobs", [Release(3, lease.token)]) == [True]
    await late.aclose()
    await other.aclose()


class Dead:
    """A link to a server that never answers."""

    up, url, max_payload = False, "nats://dead", 2**20
    task: "asyncio.Task[None]"

    def deadline(self) -> float:
        return asyncio.get_running_loop().time() + 60.0

    def spawn(self, work: "Coroutine[Any, Any, None]", name: str) -> "asyncio.Task[None]":
        self.task = asyncio.create_task(work, name=name)
        return self.task

    async def request(self, *args: Any, **more: Any) -> Any:
        await asyncio.Event().wait()


async def test_a_loop_that_ends() -> None:
    """Who waits for a change is told when the task that sends it is cancelled, as by a loop that ends."""

    async def catch_up(deadline: float) -> None: ...

    for turns in (1, 3):
        link: Any = Dead()
        writer = Writer(link, "stream", "subject", lambda entry: None, catch_up)
        answer = writer.commit([[GONE, 1, None]])
        for _ in range(turns):
            await asyncio.sleep(0)
        link.task.cancel()
        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(answer, 10)


async def test_never_closed(place: StoreFactory) -> None:
    """A store that nobody closes is told of, and its thread ends."""
    store = place()
    assert isinstance(store, NATSStore)
    await store.open()
    keeper = store._keeper
    assert keeper is not None
    with pytest.warns(ResourceWarning, match="never closed"):
        store.__del__()
    await asyncio.to_thread(keeper.join, 10.0)
    assert not keeper._thread.is_alive()
    await store.aclose()
