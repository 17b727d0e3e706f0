"""The record of a durable subscription."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sssnbus import SubscriptionInUse, SubscriptionLost
from sssnbus.delivery.cursor import Cursor, Progress, position_of, space
from sssnbus.stores import MemoryStore
from sssnbus.testing import ManualClock


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    """Give an open store."""
    store = MemoryStore()
    await store.open()
    yield store
    await store.aclose()


def cursor(store: MemoryStore) -> Cursor:
    """Return one more hold on the same record."""
    return Cursor(store, "events", "a", ManualClock())


@given(
    st.builds(
        Progress,
        position=st.integers(0, 2**63),
        attempts=st.dictionaries(st.integers(1, 2**63), st.integers(0, 100)),
        done=st.lists(st.integers(1, 2**63)),
        owner=st.none() | st.text(),
    )
)
def test_progress_survives(progress: Progress) -> None:
    """What is remembered comes back as it was."""
    assert Progress.from_bytes(progress.to_bytes()) == progress


async def test_one_owner(store: MemoryStore) -> None:
    """Of two owners the second is refused until the first has given it up."""
    first, second = cursor(store), cursor(store)
    assert await first.load() is None
    await first.acquire(7, standby=False)
    with pytest.raises(SubscriptionInUse):
        await second.acquire(0, standby=False)
    await first.release()
    await second.acquire(0, standby=False)
    assert (second.position, await second.load()) == (7, 7)
    await second.release()


async def test_owner_that_left_without_a_word(store: MemoryStore) -> None:
    """An owner whose store is gone, or that is not in this process any more, does not hold the name."""
    for owner in ("1-gone#x", f"{store.owner}#gone"):
        record = await store.get(space("events"), "a")
        value = Progress(3, owner=owner).to_bytes()
        await store.put(space("events"), "a", value, version=record.version if record else None)
        holder = cursor(store)
        await holder.acquire(0, standby=False)
        assert holder.position == 3
        await holder.release()


async def test_changed_by_somebody_else(store: MemoryStore) -> None:
    """An owner whose record was changed finds out at its next step."""
    holder = cursor(store)
    await holder.acquire(0, standby=False)
    await store.delete(space("events"), "a")
    with pytest.raises(SubscriptionLost):
        await holder.begin(1)
    await holder.release()


@given(st.lists(st.integers(1, 8), min_size=8, max_size=8, unique=True), st.integers(0, 8))
async def test_low_water(order: list[int], stop: int) -> None:
    """In whatever order messages are done, the place is before the oldest that is not."""
    store = MemoryStore()
    await store.open()
    holder = cursor(store)
    await holder.acquire(0, standby=False)
    for sequence in range(1, 9):
        await holder.begin(sequence)
    for sequence in order[:stop]:
        holder.finish(sequence, reached=8)
        left = set(range(1, 9)) - set(order[: order.index(sequence) + 1])
        assert holder.position == min(left, default=9) - 1
        assert all(holder.finished(n) != (n in left) for n in range(1, 9))
    await holder.save()
    record = await store.get(space("events"), "a")
    assert record is not None
    assert position_of("events", "a", record)[0] == holder.position
    await holder.release()
    await store.aclose()


async def test_interrupted_attempt(store: MemoryStore) -> None:
    """An attempt that was taken back is not counted, and the place does not pass its message."""
    holder = cursor(store)
    await holder.acquire(0, standby=False)
    assert [await holder.begin(1), await holder.begin(1)] == [1, 2]
    holder.interrupt(1)
    holder.reached(5)
    assert holder.position == 0
    assert await holder.begin(1) == 2
    await holder.release()


async def test_messages_that_never_come(store: MemoryStore) -> None:
    """What an owner before had tried and retention has removed does not hold the place for ever."""
    value = Progress(0, attempts={2: 1}).to_bytes()
    await store.put(space("events"), "a", value, version=None)
    holder = cursor(store)
    await holder.acquire(0, standby=False)
    await holder.begin(5)
    holder.finish(5, reached=5)
    assert holder.position == 5
    await holder.release()


async def test_saves_go_together(store: MemoryStore) -> None:
    """A save with nothing new to say writes nothing."""
    holder = cursor(store)
    await holder.acquire(0, standby=False)
    before = await store.get(space("events"), "a")
    await holder.save()
    assert await store.get(space("events"), "a") == before
    await holder.release()
