"""Group commit: what goes together, what fails alone, what is given up."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sssnbus.errors import MessageConflict, StoreError, StoreTimeout
from sssnbus.stores.base import Ack
from sssnbus.stores.sqlite import SQLiteStore, sql
from sssnbus.stores.sqlite.transaction import Transaction
from sssnbus.stores.sqlite.writer import Operation
from tests.stores.sqlite.tools import draft, opened, program


def statements(store: SQLiteStore) -> list[str]:
    """Return the list that every statement of the writer is added to from now on."""
    seen: list[str] = []
    store._connection.raw.set_trace_callback(seen.append)
    return seen


async def test_what_is_written_at_once_is_committed_at_once(store: SQLiteStore) -> None:
    """A thousand tasks that each append one message need one transaction."""
    seen = statements(store)
    placed = await asyncio.gather(*[store.append([draft("events")]) for _ in range(1000)])
    assert seen.count(sql.COMMIT) == 1
    assert [place.sequence for (place,) in placed] == list(range(1, 1001))


async def test_results_come_in_the_order_of_the_commit(store: SQLiteStore) -> None:
    """Tasks go on in the order in which their messages stand in the log, over all kinds of operations."""
    order: list[int] = []

    async def write(number: int) -> None:
        if number % 3:
            await store.append([draft("events")])
        else:
            await store.put("space", str(number), b"", version=None)
        order.append(number)

    await asyncio.gather(*[write(number) for number in range(30)])
    assert order == list(range(30))


async def test_a_bad_operation_fails_alone(store: SQLiteStore) -> None:
    """An operation that the database refuses takes none of its neighbours along."""
    bad = draft("events", b"x")._replace(timestamp=float("nan"))
    results = await asyncio.gather(
        store.append([draft("events", b"a")]),
        store.append([draft("events", b"b"), bad]),
        store.append([draft("events", b"c")]),
        store.put("space", "name", b"v", version=None),
        return_exceptions=True,
    )
    assert isinstance(results[1], StoreError)
    assert [isinstance(result, BaseException) for result in results] == [False, True, False, False]
    bodies = [stored.body for stored in (await store.read("events", after=0, limit=9)).messages]
    assert bodies == [b"a", b"c"]
    assert (await store.get("space", "name")) is not None


async def test_an_operation_that_breaks_half_way_is_undone(store: SQLiteStore) -> None:
    """Whatever an operation wrote before it raised is gone, even if what it raised is our own error."""

    def half(transaction: Transaction) -> None:
        transaction.conn.execute(sql.PUT, ("space", "half", b"", 1))
        raise MessageConflict("c", "id", "x")

    results = await asyncio.gather(
        store._writer.perform(Operation("half", half)),
        store.append([draft("events")]),
        return_exceptions=True,
    )
    assert isinstance(results[0], MessageConflict)
    assert await store.get("space", "half") is None
    assert (await store.last(["events"]))["events"] == 1


async def test_a_refusal_costs_the_batch_nothing(store: SQLiteStore) -> None:
    """An append that is refused before it wrote anything does not make its neighbours run twice."""
    await store.append([draft("events", b"1", id="a")])
    seen = statements(store)
    results = await asyncio.gather(
        store.append([draft("events", b"x")]),
        store.append([draft("events", b"y"), draft("events", b"2", id="a")]),
        store.append([draft("events", b"z")]),
        return_exceptions=True,
    )
    assert isinstance(results[1], MessageConflict)
    assert sql.ROLLBACK not in seen
    bodies = [stored.body for stored in (await store.read("events", after=0, limit=9)).messages]
    assert bodies == [b"1", b"x", b"z"]


async def test_an_id_that_a_writer_took_is_passed_over(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer may give the very id that the store would make next; the store then makes another."""
    moment = time.time()
    monkeypatch.setattr(store._clock, "time", lambda: moment)
    ((first,), (second,)) = [await store.append([draft("events")]) for _ in range(2)]
    assert int(second.id) == int(first.id) + 1
    taken = str(int(second.id) + 2)
    await store.append([draft("events", id=taken)])
    placed = await store.append([draft("events"), draft("events"), draft("events")])
    ids = {place.id for place in placed} | {taken, first.id, second.id}
    assert len(ids) == 6
    assert [place.sequence for place in placed] == [4, 5, 6]


def block(store: SQLiteStore) -> tuple[threading.Event, threading.Event]:
    """Stop the writer inside its next transaction; return what tells that it is there, and what ends it."""
    there, go = threading.Event(), threading.Event()

    def wait(_: Transaction) -> None:
        there.set()
        go.wait(20.0)

    store._writer._submit(Operation("block", wait), 20.0)
    store._writer._wake()
    return there, go


async def until(event: threading.Event) -> None:
    """Wait for an event of a thread."""
    assert await asyncio.to_thread(event.wait, 20.0)


async def test_a_waiting_operation_that_is_cancelled_is_never_applied(store: SQLiteStore) -> None:
    """What had not begun when its task was cancelled does not happen later either."""
    there, go = block(store)
    await until(there)
    task = asyncio.create_task(store.append([draft("events")]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await store.append([draft("events", b"after")])
    assert [m.body for m in (await store.read("events", after=0, limit=9)).messages] == [b"after"]


async def test_a_running_operation_ends_before_the_cancellation_leaves(store: SQLiteStore) -> None:
    """Cancelled over and over in the midst of its transaction, a call ends only when that is committed."""
    there, go = threading.Event(), threading.Event()

    def put(transaction: Transaction) -> str:
        there.set()
        go.wait(20.0)
        transaction.conn.execute(sql.PUT, ("space", "name", b"", 1))
        return "done"

    operation = Operation("put", put)
    task = asyncio.create_task(store._writer.perform(operation))
    await until(there)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert operation.result == "done"
    assert await store.get("space", "name") is not None


async def outcome_of_append(store: SQLiteStore, step: Callable[[Any], Any]) -> None:
    """Cancel an append at some step: it is applied as a whole by then, or never."""
    await step(store.append([draft("events", b"a"), draft("jobs", b"b")]))
    after = await store.last(["events", "jobs"])
    assert after["events"] == after["jobs"]
    await store.put("space", "more", b"", version=None)
    await store.delete("space", "more")
    assert await store.last(["events", "jobs"]) == after


async def outcome_of_claim(store: SQLiteStore, step: Callable[[Any], Any]) -> None:
    """Cancel a claim at some step: nothing stays leased, and no attempt is counted."""
    (place,) = await store.append([draft("jobs")])
    leases = await step(store.claim("jobs", worker="w", lease=30.0))
    if leases is None:
        assert (await store.counts("jobs")).leased == 0
        leases = await store.claim("jobs", worker="w", lease=30.0)
    ((stored, token, attempt, _, _),) = leases.leases
    assert (stored.id, attempt) == (place.id, 1)
    assert await store.settle("jobs", [Ack(stored.sequence, token)]) == [True]


async def outcome_of_settle(store: SQLiteStore, step: Callable[[Any], Any]) -> None:
    """Cancel an ack at some step: the message is gone as a whole, or its lease is as good as before."""
    await store.append([draft("jobs")])
    (lease,) = (await store.claim("jobs", worker="w", lease=30.0)).leases
    ack = Ack(lease.stored.sequence, lease.token)
    await step(store.settle("jobs", [ack]))
    left = await store.counts("jobs")
    assert (left.ready, left.delayed, left.done) == (0, 0, 0)
    assert await store.settle("jobs", [ack]) == [left.leased == 1]


async def check_nothing_is_open(store: SQLiteStore, path: Path) -> None:
    """Check that anybody can write at once, and that nothing is held."""
    assert not store._connection.in_transaction
    assert store._holds.all() == []
    other = sqlite3.connect(path, timeout=0.0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.close()


OUTCOMES = [outcome_of_append, outcome_of_claim, outcome_of_settle]


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_cancelled_at_any_step_of_the_loop(path: Path, outcome: Callable[..., Any]) -> None:
    """Whenever the loop strikes, no transaction stays open and no lease is stranded."""
    async with opened(path, durability="process") as store:
        for steps in range(41):

            async def strike(call: Any, steps: int = steps) -> Any:
                task = asyncio.ensure_future(call)
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                result = (await asyncio.gather(task, return_exceptions=True))[0]
                return None if isinstance(result, asyncio.CancelledError) else result

            await outcome(store, strike)
            await check_nothing_is_open(store, path)


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_cancelled_at_any_statement(path: Path, outcome: Callable[..., Any]) -> None:
    """At whichever statement of its transaction a call is cancelled, it ends whole and gives back."""
    loop = asyncio.get_running_loop()
    async with opened(path, durability="process") as store:
        for number in range(1, 40):
            struck = False

            async def strike(call: Any, number: int = number) -> Any:
                nonlocal struck
                count, cancelled = 0, threading.Event()

                def cancel() -> None:
                    task.cancel()
                    loop.call_soon(cancelled.set)

                def trace(_: str) -> None:
                    nonlocal count, struck
                    count += 1
                    if count == number:
                        struck = True
                        loop.call_soon_threadsafe(cancel)
                        cancelled.wait(5.0)

                # In the thread: from here it would wait for a statement that waits for the GIL.
                raw = store._connection.raw
                await store._connection.run(lambda: raw.set_trace_callback(trace))
                task = asyncio.ensure_future(call)
                result = (await asyncio.gather(task, return_exceptions=True))[0]
                await store._connection.run(lambda: raw.set_trace_callback(None))
                return None if isinstance(result, asyncio.CancelledError) else result

            await outcome(store, strike)
            await check_nothing_is_open(store, path)
            if not struck:
                break
        assert number > 4


HOLD_TICKET = """
import fcntl
ticket = open(path + ".wlock")
fcntl.flock(ticket, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


async def test_a_held_ticket_times_writers_out(path: Path) -> None:
    """While another process sits on the ticket a write raises at its limit, and is not applied later."""
    async with opened(path, write_timeout=0.3) as store:
        with program(path, HOLD_TICKET) as other:
            assert await asyncio.to_thread(other.line) == "held"
            writing = [store.append([draft("events")]) for _ in range(20)]
            for error in await asyncio.gather(*writing, return_exceptions=True):
                assert isinstance(error, StoreTimeout)
            with pytest.raises(StoreTimeout):
                await store.append([draft("events")], timeout=0.01)
            # Reads need no ticket.
            assert await store.last(["events"]) == {"events": 0}
            other.process.kill()
        placed = await store.append([draft("events")])
        assert placed[0].sequence == 1
        assert len((await store.read("events", after=0, limit=99)).messages) == 1


async def test_a_foreign_lock_is_waited_for(path: Path, store: SQLiteStore) -> None:
    """A program that knows no ticket and locks the database is waited for."""
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("BEGIN EXCLUSIVE")
    task = asyncio.create_task(store.append([draft("events")]))
    await asyncio.wait([task], timeout=0.2)
    assert not task.done()
    foreign.execute("ROLLBACK")
    foreign.close()
    assert (await task)[0].sequence == 1


async def test_a_foreign_lock_times_out(path: Path) -> None:
    """A foreign lock that stays makes a write raise at its limit."""
    async with opened(path, write_timeout=0.2) as store:
        foreign = sqlite3.connect(path, isolation_level=None)
        foreign.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreTimeout):
            await store.append([draft("events")])
        foreign.execute("ROLLBACK")
        foreign.close()


async def test_large_batches_are_cut(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction takes more bytes than its bound, unless a single append brings them."""
    monkeypatch.setattr("sssnbus.stores.sqlite.writer.MAX_BATCH_BYTES", 1000)
    seen = statements(store)
    await asyncio.gather(*[store.append([draft("events", b"x" * 400)]) for _ in range(10)])
    assert seen.count(sql.COMMIT) == 5
    await store.append([draft("events", b"x" * 4000)])
