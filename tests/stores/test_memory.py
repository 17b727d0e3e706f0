"""What the memory store promises beyond the contract: it never suspends, wastes no room, and is private."""

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Coroutine

import pytest

from sssnbus.errors import ClosedError, NotStarted
from sssnbus.stored import Dedupe
from sssnbus.stores import DEAD, Ack, Bury, Counts, Kind, Lease, MemoryStore, Release, Selection
from sssnbus.testing import ManualClock
from sssnbus.testing.bench import draft, value


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the store under test."""
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[MemoryStore]:
    """Give an open store with a log and two queues."""
    store = MemoryStore(clock=clock)
    await store.open()
    await store.declare("a", Kind.LOG)
    await store.declare("q", Kind.QUEUE)
    await store.declare("r", Kind.QUEUE)
    yield store
    await store.aclose()


def suspends(verb: Coroutine[object, object, object]) -> bool:
    """Return whether a coroutine gives the loop back before it is done."""
    try:
        verb.send(None)
    except StopIteration:
        return False
    verb.close()
    return True


async def test_no_verb_suspends(store: MemoryStore) -> None:
    """A verb is done before anything else can run, so none can be cancelled halfway."""
    verbs: list[Coroutine[object, object, object]] = [
        store.append([draft("q", 1), draft("a", 2)], max_depth={"q": 9}),
        store.read("q", after=0, limit=9),
        store.last(["a"]),
        store.locate("a", 0.0),
        store.trim("a", upto=0),
        store.claim("q", worker="w", lease=5),
        store.settle("q", [Ack(1, "x")]),
        store.extend("q", [(1, "x")], 5),
        store.peek("q", limit=1),
        store.standing("q", [1]),
        store.transfer("a", "q", limit=1),
        store.remove("q", ["x"]),
        store.find("q", "x"),
        store.declare("b", Kind.LOG),
        store.logs(),
        store.counts("q"),
        store.drop("b"),
        store.vacuum(compact=True),
        store.usage(),
        store.put("s", "x", b"", version=None),
        store.get("s", "x"),
        store.names("s"),
        store.delete("s", "x"),
        store.alive("x"),
        store.open(),
    ]
    assert [verb for verb in verbs if suspends(verb)] == []


async def test_stores_are_apart() -> None:
    """Each object is a place of its own and knows which of the others are open."""
    first, second = MemoryStore(), MemoryStore()
    await first.open()
    assert not await first.alive(second.owner)
    await second.open()
    await first.declare("a", Kind.LOG)
    assert await second.logs() == []
    assert await first.alive(second.owner)
    await second.aclose()
    assert not await first.alive(second.owner)
    await first.aclose()


async def test_forgotten_store_is_not_alive(store: MemoryStore) -> None:
    """A store that nobody holds any more counts as gone, closed or not."""
    other = MemoryStore()
    await other.open()
    owner = other.owner
    del other
    gc.collect()
    assert not await store.alive(owner)


async def test_closing_twice_and_before_open() -> None:
    """A store that was never opened can be closed, and stays closed."""
    store = MemoryStore()
    await store.aclose()
    await store.aclose()
    with pytest.raises(ClosedError):
        await store.open()


def test_use_without_a_loop() -> None:
    """A verb that is driven by hand, with no event loop at all, is refused as well."""
    with pytest.raises(NotStarted):
        MemoryStore().last([]).send(None)


async def test_companion_before_its_channel(store: MemoryStore) -> None:
    """Dead letters that are declared first are found by the channel that comes later."""
    await store.declare("z" + DEAD, Kind.LOG)
    await store.append([draft("z" + DEAD, 1)])
    await store.declare("z", Kind.QUEUE)
    assert await store.last(["z" + DEAD]) == {"z" + DEAD: 1}


def test_forked_child_is_refused() -> None:
    """A child of a fork is told so; the parent goes on."""
    program = """
import asyncio, os
from sssnbus.errors import ForkedProcess
from sssnbus.stores import Kind, MemoryStore

async def child(store):
    try:
        await store.last(["a"])
    except ForkedProcess:
        return 7

async def main():
    store = MemoryStore()
    await store.open()
    await store.declare("a", Kind.LOG)
    pid = os.fork()
    if not pid:
        try:
            store.last(["a"]).send(None)
        except ForkedProcess:
            asyncio.events._set_running_loop(None)
            os._exit(asyncio.run(child(store)))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert await store.last(["a"]) == {"a": 0}

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=30)


async def test_renewed_lease_outlives_any_time(store: MemoryStore, clock: ManualClock) -> None:
    """The owner of a renewed lease cannot die without the store, so time does not end it."""
    await store.append([draft("q", 1)])
    (lease,) = await _claim(store, "q", 1)
    clock.advance(1e9)
    assert await store.counts("q") == Counts(leased=1)
    assert (await store.claim("q", worker="w", lease=1)).next_due is None
    assert await store.settle("q", [Ack(1, lease.token)]) == [True]


async def test_delays_go_by_the_clock_that_only_goes_forward(store: MemoryStore, clock: ManualClock) -> None:
    """A step of the wall clock moves what is due at a wall time, and no delay after a release."""
    await store.append([draft("q", "released"), draft("q", "due", due=clock.time() + 100)])
    (lease,) = await _claim(store, "q", 1)
    await store.settle("q", [Release(1, lease.token, delay=100)])
    clock.set_time(clock.time() + 1000)
    assert [value(lease.stored) for lease in await _claim(store, "q", 9)] == ["due"]
    clock.set_time(clock.time() - 5000)
    clock.advance(101)
    assert [value(lease.stored) for lease in await _claim(store, "q", 9)] == ["released"]


async def test_due_time_within_a_key(store: MemoryStore, clock: ManualClock) -> None:
    """A head that is not due yet holds its key; one that waits behind another is looked at in its turn."""
    now = clock.time()
    await store.append([draft("q", 1, key="k"), draft("q", 2, key="k", due=now + 50), draft("q", 3, key="k")])
    (lease,) = await _claim(store, "q", 9)
    await store.settle("q", [Ack(1, lease.token)])
    assert await _claim(store, "q", 9) == []
    assert await store.counts("q") == Counts(ready=1, delayed=1)
    clock.advance(51)
    assert [value(lease.stored) for lease in await _claim(store, "q", 9)] == [2]


async def test_dropping_dead_letters_keeps_the_channel(store: MemoryStore) -> None:
    """The dead letters can be dropped by themselves; the next one dies into an empty log."""
    await store.append([draft("q", 1, id="x"), draft("q", 2, id="y")])
    for sequence in (1, 2):
        (lease,) = await _claim(store, "q", 1)
        await store.settle("q", [Bury(sequence, lease.token, draft("q" + DEAD, 0, id=lease.stored.id))])
        assert (await store.last(["q" + DEAD])) == {"q" + DEAD: 1}
        await store.drop("q" + DEAD)
    assert await store.last(["q"]) == {"q": 2}
    await store.drop("nobody" + DEAD)
    assert await store.last(["nobody" + DEAD]) == {"nobody" + DEAD: 0}


async def test_moving_within_a_queue(store: MemoryStore) -> None:
    """Moving messages into their own queue puts them at its end."""
    await store.append([draft("q", 1), draft("q", 2), draft("q", 3)])
    moved = await store.transfer("q", "q", limit=2)
    assert [stored.sequence for stored in moved] == [4, 5]
    assert [value(stored) for stored in await store.peek("q", limit=9)] == [3, 1, 2]


async def test_closing_lets_go_of_everything(clock: ManualClock) -> None:
    """A closed store holds no messages, even while somebody still holds the store."""
    store = MemoryStore(clock=clock)
    await store.open()
    await store.declare("a", Kind.LOG)
    tracemalloc.start()
    try:
        await store.append([draft("a", "x" * 1_000_000)])
        assert tracemalloc.get_traced_memory()[0] > 1_000_000
        await store.aclose()
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", ["ack", "release", "remove", "extend", "trim", "dedupe", "transfer", "keys"])
async def test_what_comes_and_goes_leaves_no_trace(store: MemoryStore, clock: ManualClock, way: str) -> None:
    """Room is given back whatever the order in which messages go, even behind one that stays for ever."""
    await store.append([draft("q", "stays"), draft("a", "stays"), draft("r", "r", key="k")])
    (kept,) = await _claim(store, "q", 1)
    await _churn(store, clock, way, 200)
    gc.collect()
    tracemalloc.start()
    try:
        await _churn(store, clock, way, 1000)
        gc.collect()
        left = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # Each round would leave at least one number and one place in a list: 100 bytes and more.
    assert left < 20_000
    assert await store.settle("q", [Ack(kept.stored.sequence, kept.token)]) == [True]


async def _churn(store: MemoryStore, clock: ManualClock, way: str, rounds: int) -> None:
    for _ in range(rounds):
        if way == "trim":
            await store.append([draft("a", 1)])
            await store.trim("a", max_count=1)
            continue
        if way == "keys":
            # A key of its own each time, and one that waits behind its head and is not due for long.
            key, due = f"k{clock.elapsed()}", clock.time() + 1e6
            placed = await store.append([draft("q", 1, key=key), draft("q", 2, key=key, due=due)])
            await store.remove("q", [placed[1].id])
            await store.remove("q", [placed[0].id])
            clock.advance(1)
            continue
        dedupe = Dedupe(str(clock.elapsed()), b"", 5.0) if way == "dedupe" else None
        (place,) = await store.append([draft("q", 1, key="k")._replace(dedupe=dedupe)])
        clock.advance(1)
        select = Selection(ids=(place.id,))
        if way == "remove":
            await store.remove("q", [place.id])
            continue
        if way == "transfer":
            await store.transfer("q", "r", limit=1, select=select)
            await store.remove("r", [place.id])
            continue
        claimed = await store.claim("q", worker="w", lease=1e6, renew=False, select=select)
        hold = place.sequence, claimed.leases[0].token
        if way == "release":
            await store.settle("q", [Release(*hold, delay=0.5, error="boom")])
            clock.advance(1)
            claimed = await store.claim("q", worker="w", lease=1e6, select=select)
            hold = place.sequence, claimed.leases[0].token
        if way == "extend":
            for _ in range(3):
                await store.extend("q", [hold], 1e7)
        await store.settle("q", [Ack(*hold)])


async def _claim(store: MemoryStore, queue: str, limit: int) -> list[Lease]:
    return (await store.claim(queue, worker="w", lease=60, limit=limit)).leases
