"""The journal of a queue, and the bodies beside it: what one process writes, and what it hears too late."""

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sssnbus.errors import ClosedError, OutcomeUnknown, PayloadTooLarge
from sssnbus.stores.base import Ack, Counts, Kind, Release
from sssnbus.stores.nats import NATSStore, bodies, fetch
from sssnbus.stores.nats.change import CLAIM, Change
from sssnbus.stores.nats.writer import MAX_CHANGES, parts
from sssnbus.testing import StoreFactory
from sssnbus.testing.bench import draft, value
from tests.channels.tools import until
from tests.stores.nats.places import binary, server_in
from tests.stores.nats.tools import opened, retried, store_at


@pytest.fixture
async def other(place: StoreFactory) -> NATSStore:
    """Give a second store that is not open yet."""
    store = place()
    assert isinstance(store, NATSStore)
    return store


def test_parts() -> None:
    """Changes go in parts that the server takes as one message each, in their order and none twice."""
    changes: list[Change] = [[CLAIM, number, "x" * 500] for number in range(3 * MAX_CHANGES)]
    for limit in (10_000, 1_000_000, 100_000_000):
        divided = parts(changes, limit)
        assert [change for part in divided for change in part] == changes
        assert max(len(part) for part in divided) <= MAX_CHANGES
        assert max(sum(len(change[2]) for change in part) for part in divided) <= limit / 2
    assert parts(changes[:1], 10) == [changes[:1]]
    assert parts([], 10) == []


async def test_changing_nothing(store: NATSStore, other: NATSStore) -> None:
    """A verb that finds nothing to change does not spoil the entry that others have made at the same time."""
    await store.declare("q", Kind.QUEUE)
    ids = [placed.id for placed in await store.append([draft("q", number) for number in range(20)])]
    several = ([id] if number % 2 else ["unknown"] for number, id in enumerate(ids))
    removed = await asyncio.gather(*(store.remove("q", some) for some in several))
    assert removed == [0, 1] * 10
    await other.open()
    assert await other.counts("q") == Counts(ready=10)
    await other.aclose()


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[NATSStore]:
    """Give a store on a server that takes small messages only."""
    if binary() is None:
        pytest.skip("there is no nats-server for this platform")
    with server_in(tmp_path, "max_payload: 64KB") as server:
        store = await opened(store_at(server.port))
        yield store
        await store.aclose()


async def test_texts_of_errors_that_are_large(narrow: NATSStore) -> None:
    """Many settlements with long reports go in several entries; one that no entry can hold is refused."""
    await narrow.append([draft("q", number) for number in range(100)])
    leases = (await narrow.claim("q", worker="w", lease=60, limit=100)).leases
    with pytest.raises(PayloadTooLarge):
        await narrow.settle("q", [Release(1, leases[0].token, error="x" * 70_000)])
    back = [Release(one.stored.sequence, one.token, error="x" * 2000) for one in leases]
    assert await narrow.settle("q", back) == [True] * 100
    again = (await narrow.claim("q", worker="w", lease=60, limit=100)).leases
    assert {(one.attempt, one.error) for one in again} == {(2, "x" * 2000)}


async def test_claim_of_very_many(narrow: NATSStore) -> None:
    """A claim of more than goes into one entry gets all that it asked for."""
    for _ in range(2):
        await narrow.append([draft("q", number) for number in range(700)])
    leases = (await narrow.claim("q", worker="w", lease=60, limit=1300)).leases
    assert [one.stored.sequence for one in leases] == list(range(1, 1301))
    assert (await narrow.counts("q")) == Counts(ready=100, leased=1300)


async def test_a_claim_that_was_passed_over_in_a_snapshot(store: NATSStore, other: NATSStore) -> None:
    """Who lags so far that its own claim is told by a snapshot only, gives it back and goes on."""
    await store.declare("q", Kind.QUEUE)
    await store.append([draft("q", 1), draft("q", 2)])
    assert (await store.counts("q")).ready == 2
    mirror = store._logs["q"].mirror
    assert mirror is not None
    journal = mirror.journal
    assert journal._tail is not None
    # Nothing of the journal comes through any more, while others go on.
    store._link.ignore(journal._tail._name)
    await other.open()
    (held,) = (await other.claim("q", worker="o", lease=60)).leases
    claiming = asyncio.create_task(store.claim("q", worker="w", lease=60, select=None, limit=2))
    theirs = other._logs["q"].mirror
    assert theirs is not None
    await until(lambda: len(theirs.table.leased) == 2)
    await theirs.compact()
    await until(lambda: journal._writer._entry is not None and journal._writer._entry.sequence > 0)
    journal._tail.resume()
    with pytest.raises(OutcomeUnknown):
        await claiming
    await until(lambda: len(theirs.table.leased) == 1)
    (lease,) = (await store.claim("q", worker="w", lease=60, limit=2)).leases
    assert (value(lease.stored), lease.attempt) == (2, 1)
    assert await store.settle("q", [Ack(2, lease.token)]) == [True]
    assert await other.settle("q", [Ack(1, held.token)]) == [True]
    await other.aclose()


async def test_a_cancelled_claim_of_one(store: NATSStore) -> None:
    """A claim of one message that is cancelled on its way leaves the message as it was, whenever that is."""
    await store.declare("q", Kind.QUEUE)
    await store.append([draft("q", 1)])
    assert (await store.counts("q")).ready == 1
    for rounds in range(30):
        claiming = asyncio.create_task(store.claim("q", worker="w", lease=60))
        for _ in range(rounds):
            await asyncio.sleep(0)
        claiming.cancel()
        (result,) = await asyncio.gather(claiming, return_exceptions=True)
        if not isinstance(result, asyncio.CancelledError):
            assert not isinstance(result, BaseException)
            await store.settle("q", [Release(1, result.leases[0].token, counted=False)])
    (lease,) = (await store.claim("q", worker="w", lease=60)).leases
    assert lease.attempt == 1


async def test_closing_while_a_claim_waits_for_its_message(
    store: NATSStore, other: NATSStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that has its entry and waits for the message ends when the store is closed."""
    await store.declare("q", Kind.QUEUE)
    await store.append([draft("q", 1)])
    await other.open()
    assert (await other.counts("q")).ready == 1
    mirror = other._logs["q"].mirror
    assert mirror is not None
    fetching = asyncio.Event()

    async def stuck(*_: Any) -> None:
        fetching.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(mirror.bodies, "_fetch", stuck)
    claiming = asyncio.create_task(other.claim("q", worker="w", lease=60))
    await fetching.wait()
    await until(lambda: mirror.table.leased == {1})
    async with asyncio.timeout(10):
        await other.aclose(grace=0.5)
        with pytest.raises(ClosedError):
            await claiming
    assert (await retried(lambda: store.claim("q", worker="w", lease=60))).leases[0].attempt == 1


async def test_changes_that_nobody_waits_for_any_more(store: NATSStore) -> None:
    """A change that fails after its caller has gone, as a farewell does, is no complaint of the loop's."""
    await store.declare("q", Kind.QUEUE)
    await store.append([draft("q", 1)])
    assert (await store.counts("q")).ready == 1
    mirror = store._logs["q"].mirror
    assert mirror is not None
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    mirror.journal._writer.stop()
    mirror.journal.commit([[CLAIM, 1]])
    gc.collect()
    assert complaints == []


async def test_bodies_are_read_ahead(store: NATSStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that are claimed one by one are read a few at a time, and large ones when they are claimed."""
    await store.declare("q", Kind.QUEUE)
    await store.append([draft("q", number) for number in range(40)])
    await store.append([draft("q", "x" * bodies.AHEAD_BYTES) for _ in range(3)])
    real, asked = fetch.several, list[Sequence[int]]()

    async def counted(link: Any, stream: Any, sequences: Sequence[int], *rest: Any) -> Any:
        asked.append(list(sequences))
        return await real(link, stream, sequences, *rest)

    monkeypatch.setattr(bodies, "several", counted)
    for number in range(40):
        (lease,) = (await store.claim("q", worker="w", lease=60)).leases
        assert (lease.stored.sequence, value(lease.stored)) == (number + 1, number)
    assert asked == [list(range(1, 34)), list(range(34, 41))]
    asked.clear()
    for number in (41, 42, 43):
        await store.claim("q", worker="w", lease=60)
        assert asked.pop() == [number]


async def test_what_was_read_ahead_is_bounded(store: NATSStore) -> None:
    """What was read ahead in vain does not pile up."""
    await store.declare("q", Kind.QUEUE)
    await store.append([draft("q", number, priority=number) for number in range(600)])
    for _ in range(60):
        # Always the last one; what lies behind it is there no more, and in front nobody reads.
        await store.claim("q", worker="w", lease=60, limit=1)
        mirror = store._logs["q"].mirror
        assert mirror is not None
        assert len(mirror.bodies._ahead) <= bodies._KEPT


async def test_trimming_by_size_reads_what_stays(store: NATSStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """To keep few bytes of many, few messages are read, also where most were removed one by one."""
    await store.declare("a", Kind.LOG)
    for start in range(0, 3000, 1000):
        await store.append([draft("a", f"{number:04}") for number in range(start, start + 1000)])
    real, reads = store._link.collect, 0

    async def counted(*args: Any, **named: Any) -> Any:
        nonlocal reads
        reads += 1
        return await real(*args, **named)

    monkeypatch.setattr(store._link, "collect", counted)
    (newest,) = (await store.read("a", after=2999, limit=1)).messages
    reads = 0
    assert await store.trim("a", max_bytes=100 * len(newest.body)) == 2900
    assert reads <= 3
    assert [s.sequence for s in (await store.read("a", after=0, limit=999)).messages][:1] == [2901]
    log = store._logs["a"]
    for sequence in range(2902, 3000):
        body = {"seq": sequence, "no_erase": True}
        await store._link.api(f"STREAM.MSG.DELETE.{log.stream}", body, deadline=store._deadline())
    assert await store.trim("a", max_bytes=len(newest.body)) == 1
    assert await store.trim("a", max_bytes=0) == 1
