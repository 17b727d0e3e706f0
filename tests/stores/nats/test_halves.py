"""What takes several steps on NATS, and may be cut off between two of them."""

from collections.abc import Sequence

import pytest

from sssnbus.errors import StoreUnavailable
from sssnbus.stores.base import DEAD, Bury, Counts, Kind
from sssnbus.stores.nats import NATSStore
from sssnbus.stores.nats.change import ACK, Change
from sssnbus.stores.nats.queue import MOVING
from sssnbus.testing import ManualClock, StoreFactory
from sssnbus.testing.bench import draft


async def opened(place: StoreFactory, clock: ManualClock) -> NATSStore:
    """Give an open store with two queues, the first of them read."""
    store = place(clock=clock)
    assert isinstance(store, NATSStore)
    await store.open()
    for name in ("q", "r"):
        await store.declare(name, Kind.QUEUE)
    await store.counts("q")
    return store


def die_before_removing(store: NATSStore) -> None:
    """Let a store get no further than to what removes messages from its queue."""
    mirror = store._logs["q"].mirror
    assert mirror is not None
    real = mirror.commit

    async def commit(changes: Sequence[Change]) -> list[int]:
        if changes[0][0] == ACK:
            raise StoreUnavailable("it is away")
        return await real(changes)

    mirror.commit = commit  # type: ignore[method-assign]  # no fault can be timed like this


async def test_death_while_burying(place: StoreFactory) -> None:
    """A message that was buried by halves is handed out once more, and its next burial makes them one."""
    clock = ManualClock()
    store, other = await opened(place, clock), await opened(place, clock)
    await store.append([draft("q", 1)])
    (lease,) = (await store.claim("q", worker="w", lease=60)).leases
    id, sequence = lease.stored.id, lease.stored.sequence
    die_before_removing(store)
    with pytest.raises(StoreUnavailable):
        await store.settle("q", [Bury(sequence, lease.token, draft("q" + DEAD, 1, id=id, headers=b"first"))])
    assert (await other.claim("q", worker="w", lease=60)).leases == []
    clock.advance(MOVING + 1)
    (again,) = (await other.claim("q", worker="w", lease=60)).leases
    assert (again.stored.id, again.attempt) == (id, 2)
    letter = draft("q" + DEAD, 1, id=id, headers=b"second")
    assert await other.settle("q", [Bury(sequence, again.token, letter)]) == [True]
    (dead,) = (await other.read("q" + DEAD, after=0, limit=9)).messages
    assert (dead.id, dead.headers) == (id, b"second")
    assert await other.counts("q") == Counts()
    await other.aclose()
    await store.aclose()


async def test_death_while_moving(place: StoreFactory) -> None:
    """Messages that were moved by halves are held for a while, and moving them again makes them one."""
    clock = ManualClock()
    store, other = await opened(place, clock), await opened(place, clock)
    await store.append([draft("q", n) for n in range(3)])
    die_before_removing(store)
    with pytest.raises(StoreUnavailable):
        await store.transfer("q", "r", limit=2)
    assert await other.counts("q") == Counts(ready=1, leased=2)
    clock.advance(MOVING + 1)
    moved = await other.transfer("q", "r", limit=9)
    assert [stored.sequence for stored in moved] == [1, 2, 3]
    assert (await other.counts("q"), await other.counts("r")) == (Counts(), Counts(ready=3))
    await other.aclose()
    await store.aclose()


@pytest.mark.parametrize("source", ["q", "a"])
async def test_more_than_go_together(
    place: StoreFactory, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """More messages than the server takes as one move in steps, up to the limit, or all there are."""
    monkeypatch.setattr("sssnbus.stores.nats.transfer.MAX_BATCH", 2)
    store = await opened(place, ManualClock())
    await store.declare("a", Kind.LOG)
    await store.append([draft(source, n) for n in range(8)])
    assert [stored.sequence for stored in await store.transfer(source, "r", limit=5)] == [1, 2, 3, 4, 5]
    assert [stored.sequence for stored in await store.transfer(source, "r", limit=10**9)] == [6, 7, 8]
    assert await store.counts("r") == Counts(ready=8)
    await store.aclose()
