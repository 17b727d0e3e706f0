"""Leases over the life and death of their owners."""

import asyncio
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sssnbus.stores.base import Ack, Lease
from sssnbus.stores.sqlite import SQLiteStore, keeper
from sssnbus.testing import ManualClock
from tests.stores.sqlite.tools import draft, opened, program

WORKER = """
    async def main():
        store = SQLiteStore(path)
        await store.open()
        lease, renew = float(sys.argv[2]), sys.argv[3] == "renew"
        leases = await store.claim("jobs", worker="other", lease=lease, renew=renew)
        print(store.owner, flush=True)
        await asyncio.sleep(60)
    asyncio.run(main())
"""


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for a condition; the limit only fails."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.02)


async def take(store: SQLiteStore) -> Lease | None:
    """Return what a claim gets now."""
    leases = (await store.claim("jobs", worker="w", lease=30.0)).leases
    return leases[0] if leases else None


async def test_the_next_opener_frees_what_a_killed_owner_held(path: Path) -> None:
    """Who opens the file after a kill -9 can claim the message at once, even if it is gone again soon."""
    async with opened(path) as store:
        await store.append([draft()])
    with program(path, WORKER, "600", "renew") as other:
        await asyncio.to_thread(other.line)
        other.process.kill()
        other.process.wait()
        async with opened(path) as store:
            lease = await take(store)
    assert lease is not None
    assert lease.attempt == 2


async def test_a_killed_owner_is_replaced_within_a_second(store: SQLiteStore, path: Path) -> None:
    """After kill -9 of a worker its message is ready long before its lease ends, and counts as tried."""
    await store.append([draft()])
    rung = asyncio.Event()
    store.watch(rung.set)
    with program(path, WORKER, "600", "renew") as other:
        name = await asyncio.to_thread(other.line)
        assert await store.alive(name)
        assert await take(store) is None
        rung.clear()
        other.process.kill()
        # A worker that waits for a bell gets one, from its own process.
        await asyncio.wait_for(rung.wait(), 20)
    assert not await store.alive(name)
    lease = await take(store)
    assert lease is not None
    assert lease.attempt == 2
    assert (await store._read(lambda conn: conn.execute("SELECT count(*) FROM owner").fetchone())) == (1,)


async def test_a_lease_for_a_fixed_time_outlives_its_owner(store: SQLiteStore, path: Path) -> None:
    """A claim without renewing is held until its time is up, whoever died."""
    await store.append([draft()])
    with program(path, WORKER, "600", "fixed") as other:
        name = await asyncio.to_thread(other.line)
        assert await take(store) is None
    await until(lambda: _gone(store, name))
    assert (await store.counts("jobs")).leased == 1
    assert await take(store) is None


async def _gone(store: SQLiteStore, name: str) -> bool:
    number = (int(name.rpartition(":")[2]),)
    sql = "SELECT count(*) FROM owner WHERE number = ?"
    return await store._read(lambda conn: conn.execute(sql, number).fetchone() == (0,))


async def test_a_stopped_owner_loses_its_lease_in_time(store: SQLiteStore, path: Path) -> None:
    """A worker that hangs but lives is replaced when its lease ends; its late ack changes nothing."""
    await store.append([draft()])
    source = """
        async def main():
            store = SQLiteStore(path)
            await store.open()
            (lease,) = (await store.claim("jobs", worker="other", lease=0.6)).leases
            print(store.owner, flush=True)
            sys.stdin.readline()
            print(await store.settle("jobs", [Ack(lease.stored.sequence, lease.token)]), flush=True)
            await store.aclose()
        asyncio.run(main())
    """
    with program(path, source) as other:
        await asyncio.to_thread(other.line)
        other.process.send_signal(signal.SIGSTOP)
        found: list[Lease] = []

        async def taken() -> bool:
            lease = await take(store)
            found.extend([lease] if lease else [])
            return lease is not None

        await until(taken)
        other.process.send_signal(signal.SIGCONT)
        other.say("go on")
        assert await asyncio.to_thread(other.line) == "[False]"
    assert await store.settle("jobs", [Ack(found[0].stored.sequence, found[0].token)]) == [True]


async def test_a_lease_is_renewed_while_the_loop_is_blocked(store: SQLiteStore, path: Path) -> None:
    """A handler that keeps the loop busy past its lease keeps its message."""
    await store.append([draft()])
    (lease,) = (await store.claim("jobs", worker="w", lease=1.0)).leases
    async with opened(path) as second:
        end = time.perf_counter() + 2.0
        while time.perf_counter() < end:
            pass
        assert (await second.claim("jobs", worker="thief", lease=30.0)).leases == []
    assert await store.settle("jobs", [Ack(lease.stored.sequence, lease.token)]) == [True]


async def test_one_renewal_serves_all_leases(store: SQLiteStore) -> None:
    """However many messages a worker holds, they are renewed in one transaction."""
    await store.append([draft() for _ in range(50)])
    await store.claim("jobs", worker="w", lease=0.3, limit=50)
    kept = store._keeper
    assert kept is not None
    await until(lambda: asyncio.sleep(0, kept._connection and kept._connection.total_changes))
    assert kept._connection is not None
    assert kept._connection.total_changes % 50 == 0


async def test_extending_ends_the_renewing(store: SQLiteStore) -> None:
    """A hold whose user set its end is not moved again by the keeper."""
    await store.append([draft()])
    (lease,) = (await store.claim("jobs", worker="w", lease=0.3)).leases
    assert await store.extend("jobs", [(lease.stored.sequence, lease.token)], 0.5) == [True]
    assert store._holds.shortest() is None
    await until(lambda: take(store))


async def test_closing_gives_back(path: Path) -> None:
    """What a store holds when it closes is ready at once, as if it had never been handed out."""
    async with opened(path) as store:
        await store.append([draft(), draft()])
        async with opened(path) as second:
            await second.claim("jobs", worker="w", lease=600.0)
            await second.claim("jobs", worker="w", lease=600.0, renew=False)
        lease = await take(store)
        assert lease is not None
        assert (lease.stored.sequence, lease.attempt) == (1, 1)
        assert await take(store) is None


async def test_a_reboot_ends_every_lease(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases and owners of an earlier boot mean nothing: their clock began anew."""
    async with opened(path) as store:
        await store.append([draft()])
        await store.claim("jobs", worker="w", lease=1e9, renew=False)
        old = store.owner
    monkeypatch.setattr("sssnbus.stores.sqlite.opened.boot_id", lambda: "another boot")
    async with opened(path) as store:
        assert not await store.alive(old)
        assert await take(store) is not None


async def test_a_worker_that_slept_with_the_machine_keeps_its_message(path: Path) -> None:
    """When time jumps, a store renews its own holds before it looks for ended ones."""
    clock = ManualClock()
    async with opened(path, clock=clock) as store:
        await store.append([draft()])
        (lease,) = (await store.claim("jobs", worker="w", lease=30.0)).leases
        assert store._keeper is not None
        # The keeper wakes up no sooner than the claim does.
        store._keeper.stop()
        await store._keeper.ended
        clock.advance(3600.0)
        assert await take(store) is None
        assert await store.settle("jobs", [Ack(lease.stored.sequence, lease.token)]) == [True]


async def test_owners_are_known_across_stores(path: Path, store: SQLiteStore) -> None:
    """A store knows itself and others that are open, and takes no nonsense for an owner."""
    async with opened(path) as second:
        assert await store.alive(second.owner)
        assert await second.alive(store.owner)
        name = second.owner
    assert not await store.alive(name)
    for nonsense in ("", ":", "x:1", store.owner + "0", store.owner.rpartition(":")[0] + ":x"):
        assert not await store.alive(nonsense)


async def test_without_locks_on_bytes_only_time_ends_leases(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a system cannot tell who is alive, an owner counts as alive while it is listed."""
    monkeypatch.setattr("sssnbus.stores.sqlite.lock._SET", None)
    monkeypatch.setattr("sssnbus.stores.sqlite.lock._GET", None)
    async with opened(path) as store:
        async with opened(path) as second:
            await store.append([draft()])
            await second.claim("jobs", worker="w", lease=600.0)
            assert await store.alive(second.owner)
            await asyncio.sleep(keeper.LOOK_EVERY * 1.5)
            assert await take(store) is None
            name = second.owner
        assert not await store.alive(name)


async def test_the_keeper_survives_errors(
    store: SQLiteStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong in the thread is told once, and renewing goes on when it can."""
    failures = 0

    def fail(*_: object) -> None:
        nonlocal failures
        failures += 1
        raise sqlite3.OperationalError("made up")

    await store.append([draft()])
    with monkeypatch.context() as patch:
        patch.setattr(keeper, "renew", fail)
        (lease,) = (await store.claim("jobs", worker="w", lease=0.3)).leases
        await until(lambda: asyncio.sleep(0, failures > 2))
    await store.extend("jobs", [(lease.stored.sequence, lease.token)], 30.0)
    assert [record.name for record in caplog.records].count(keeper.__name__) == 1
    assert store._keeper is not None
    assert store._keeper._thread.is_alive()
