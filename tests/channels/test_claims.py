"""Claims: holding one message, settling it, losing it."""

import asyncio

import pytest

from sssnbus import (
    Bus,
    BusTimeout,
    ClaimLost,
    ClosedError,
    InvalidOption,
    Retry,
    StateError,
    StoreTimeout,
    WorkQueueChannel,
)
from sssnbus.channels import models
from sssnbus.stores import MemoryStore
from sssnbus.stores.base import Settlement
from sssnbus.testing import ManualClock
from tests.channels.test_work_queue import counts
from tests.channels.tools import cancelled, data, quiet


async def test_claim_acks(bus: Bus) -> None:
    """A block that ends normally acks its message."""
    queue = bus.work_queue("jobs")
    await queue.write("service", 1)
    async with queue.claim("w") as claim:
        assert (data(claim.message), claim.attempt, claim.worker) == (1, 1, "w")
        assert await counts(queue) == (0, 0, 1, 0)
    assert await counts(queue) == (0, 0, 0, 0)


async def test_exception_nacks(bus: Bus) -> None:
    """A block that raises gives its message another attempt, and the error reaches the caller."""
    queue = bus.work_queue("jobs", retry=Retry(initial=0))
    await queue.write("service", 1)
    with pytest.raises(ZeroDivisionError):
        async with queue.claim("w"):
            raise ZeroDivisionError
    async with queue.claim("w") as claim:
        assert claim.attempt == 2
        assert claim.message.metadata["last_error"] == "ZeroDivisionError: "


async def test_cancellation_releases(bus: Bus) -> None:
    """A block that is cancelled gives its message back, with no attempt counted."""
    queue, entered = bus.work_queue("jobs"), asyncio.Event()
    await queue.write("service", 1)

    async def hold() -> None:
        async with queue.claim("w"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(hold())
    await entered.wait()
    await cancelled(task)
    assert task.cancelled()
    async with queue.claim("w") as claim:
        assert claim.attempt == 1


async def test_settled_by_hand(bus: Bus) -> None:
    """A claim can be settled inside the block, once."""
    queue = bus.work_queue("jobs")
    await queue.write_many("service", range(3))
    async with queue.claim("w") as claim:
        await claim.ack()
        with pytest.raises(StateError, match="settled"):
            await claim.nack()
        with pytest.raises(StateError, match="settled"):
            await claim.extend(5)
    async with queue.claim("w") as claim:
        await claim.release()
    async with queue.claim("w") as claim:
        assert claim.attempt == 1
        await claim.nack(delay=3600, error="later")
    assert await counts(queue) == (1, 1, 0, 0)


async def test_entered_once(bus: Bus) -> None:
    """One claim() is for one message."""
    queue = bus.work_queue("jobs")
    await queue.write_many("service", range(2))
    claiming = queue.claim("w")
    async with claiming:
        with pytest.raises(StateError):
            await claiming.__aenter__()


async def test_waits_for_a_message(bus: Bus) -> None:
    """A claim waits until a message is there."""
    queue = bus.work_queue("jobs")

    async def one() -> int:
        async with queue.claim("w") as claim:
            return int(data(claim.message))

    waiting = asyncio.ensure_future(one())
    await quiet(bus)
    assert not waiting.done()
    await queue.write("service", 7)
    assert await waiting == 7


async def test_times_out(timed: Bus, clock: ManualClock) -> None:
    """A claim gives up after its time-out, and leaves nothing behind that waits."""
    queue = timed.work_queue("jobs")
    for _ in range(3):
        entering = asyncio.ensure_future(queue.claim("w", timeout=5).__aenter__())
        await quiet(timed)
        clock.advance(5)
        with pytest.raises(BusTimeout, match="'jobs'"):
            await entering
    await queue.write("service", 1)
    assert await counts(queue) == (1, 0, 0, 0)
    assert queue._running is not None
    assert not queue._running.desk._waiters
    with pytest.raises(InvalidOption):
        queue.claim("w", timeout=-1)


async def test_every_waiter_is_served(bus: Bus) -> None:
    """As many waiters as there are messages get one each."""
    queue = bus.work_queue("jobs")

    async def one() -> int:
        async with queue.claim("w") as claim:
            return int(data(claim.message))

    waiting = [asyncio.ensure_future(one()) for _ in range(8)]
    await quiet(bus)
    await queue.write_many("service", range(5))
    await queue.write("service", 5)
    await queue.write_many("service", range(6, 8))
    assert sorted(await asyncio.gather(*waiting)) == list(range(8))


async def test_expired_claim(timed: Bus, clock: ManualClock) -> None:
    """A claim that ended by time is available to the next read, of anybody (SN-44)."""
    queue = timed.work_queue("jobs")
    await queue.write("service", 1)
    (message,) = await queue.read("a", exclusive=True)
    await queue.extend("a", [message.id], 30)
    clock.advance(29)
    assert await queue.read("b", exclusive=True) == []
    clock.advance(2)
    (again,) = await queue.read("b", exclusive=True)
    assert (again.id, again.metadata["retries"]) == (message.id, 1)


async def test_expiry_wakes_who_waits(timed: Bus, clock: ManualClock) -> None:
    """Whoever waits gets a message whose claim has ended, though no bell rings for that (SN-44)."""
    queue = timed.work_queue("jobs")
    await queue.write("service", 1)
    (message,) = await queue.read("a", exclusive=True)
    await queue.extend("a", [message.id], 30)
    waiting = asyncio.ensure_future(queue.claim("b").__aenter__())
    await quiet(timed)
    clock.advance(31)
    claim = await waiting
    assert claim.attempt == 2


async def test_stale_token(timed: Bus, clock: ManualClock) -> None:
    """An ack that comes too late changes nothing and says so; the new holder keeps the message (SN-43)."""
    queue = timed.work_queue("jobs")
    await queue.write("service", 1)
    with pytest.raises(ClaimLost, match="'a'"):  # noqa: PT012  # the block is what raises
        async with queue.claim("a") as claim:
            await claim.extend(10)
            clock.advance(11)
            async with queue.claim("b") as other:
                assert other.message.id == claim.message.id
                with pytest.raises(ClaimLost):
                    await claim.extend(10)
                assert await counts(queue) == (0, 0, 1, 0)
    assert await counts(queue) == (0, 0, 0, 0)


async def test_stale_among_good(timed: Bus, clock: ManualClock) -> None:
    """If one claim of a list had ended by time, the others are done, and the lost one is named."""
    queue = timed.work_queue("jobs")
    await queue.write_many("service", range(3))
    ids = [m.id for m in await queue.read("a", limit=3, exclusive=True)]
    await queue.extend("a", [ids[1]], 10)
    clock.advance(11)
    with pytest.raises(ClaimLost) as caught:
        await queue.acknowledge("a", ids)
    assert caught.value.ids == (ids[1],)
    assert await counts(queue) == (1, 0, 0, 0)


async def test_lost_claim_does_not_hide_the_error(timed: Bus, clock: ManualClock) -> None:
    """A block that raises lets its own error out, even if the claim was lost meanwhile."""
    queue = timed.work_queue("jobs")
    await queue.write("service", 1)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # the block is what raises
        async with queue.claim("a") as claim:
            await claim.extend(10)
            clock.advance(11)
            raise ZeroDivisionError


async def test_renewed_by_itself(timed: Bus, clock: ManualClock) -> None:
    """A claim that is at work is renewed for as long as it takes; nobody else gets the message (SN-44)."""
    queue = timed.work_queue("jobs", claim_timeout=30)
    await queue.write("service", 1)
    async with queue.claim("a"):
        for _ in range(10):
            clock.advance(9)
            await quiet(timed)
            await asyncio.sleep(0.02)
        assert await queue.read("b", exclusive=True) == []
    assert await counts(queue) == (0, 0, 0, 0)


class Moody(MemoryStore):
    """A store that cannot settle for a while."""

    failures = 0

    async def settle(self, log: str, settlements: "list[Settlement]") -> list[bool]:  # type: ignore[override]  # the tests pass lists
        if self.failures:
            self.failures -= 1
            raise StoreTimeout("Settling", 5)
        return await super().settle(log, settlements)


async def test_settling_again() -> None:
    """What a busy store did not settle is still held, and can be settled again."""
    store = Moody()
    async with WorkQueueChannel("jobs", store=store) as queue:
        await queue.write_many("service", range(2))
        (message,) = await queue.read("a", exclusive=True)
        store.failures = 1
        with pytest.raises(StoreTimeout):
            await queue.acknowledge("a", [message.id])
        await queue.acknowledge("a", [message.id])
        async with queue.claim("a") as claim:
            store.failures = 1
            with pytest.raises(StoreTimeout):
                await claim.ack()
            await claim.ack()
        assert await counts(queue) == (0, 0, 0, 0)
    await store.aclose()


async def test_workers_settle_again(clock: ManualClock) -> None:
    """A failed ack is not a lost message: workers settle again until it is done."""
    store, done = Moody(clock=clock), list[int]()
    async with WorkQueueChannel("jobs", store=store, clock=clock) as queue:

        async def handler(message: object) -> None:
            done.append(1)

        await queue.subscribe("w", handler)
        store.failures = 3
        await queue.write("service", 1)
        while store.failures or (await counts(queue))[2]:
            clock.advance(1)
            await asyncio.sleep(0)
        assert done == [1]
        assert await counts(queue) == (0, 0, 0, 0)
    await store.aclose()


async def test_stopping_while_the_first_use_imports(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that is stopped while its first reader waits for the models to be imported says so."""
    queue = bus.work_queue("jobs")
    await queue.start()
    monkeypatch.setattr(models, "loaded", lambda: False)
    monkeypatch.setattr(models, "load", queue.stop)
    with pytest.raises(ClosedError):
        await queue.read("a", exclusive=True)


async def test_stop_gives_claims_back(store_url: str) -> None:
    """Stopping gives back what is claimed, at once and with no attempt counted (SN-48)."""
    async with Bus(store_url) as bus:
        queue = bus.work_queue("jobs")
        await queue.write_many("service", range(2))
        await queue.read("a", exclusive=True)
        await queue.claim("b").__aenter__()
        await queue.stop()
        other = WorkQueueChannel("jobs", store=await bus.store())
        async with other:
            messages = await other.read("c", limit=2, exclusive=True)
            assert [message.metadata for message in messages] == [{}, {}]
