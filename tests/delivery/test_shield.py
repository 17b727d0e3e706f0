"""Steps that are taken to their end."""

import asyncio

import pytest

from sssnbus import ForkedProcess, StoreReadOnly, StoreTimeout
from sssnbus.delivery.shield import Turns, complete, insist
from sssnbus.testing import ManualClock, run_until_idle


async def test_result_and_error() -> None:
    """Without a cancellation the work's result or error comes out as it is."""

    async def fine() -> int:
        return 5

    async def bad() -> int:
        raise ZeroDivisionError

    assert await complete(fine()) == 5
    with pytest.raises(ZeroDivisionError):
        await complete(bad())


@pytest.mark.parametrize("cancellations", [1, 2, 5])
async def test_cancelled_caller(cancellations: int) -> None:
    """Work is finished however often its caller is cancelled, and then the cancellation is raised."""
    gate, done = asyncio.Event(), list[int]()

    async def work() -> None:
        await gate.wait()
        done.append(1)

    task = asyncio.ensure_future(complete(work()))
    for _ in range(cancellations):
        await asyncio.sleep(0)
        task.cancel()
    await run_until_idle()
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]


async def test_failure_after_a_cancellation() -> None:
    """If the work fails after its caller was cancelled, its error is chained to the cancellation."""
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()
        raise ZeroDivisionError

    task = asyncio.ensure_future(complete(work()))
    await asyncio.sleep(0)
    task.cancel()
    await run_until_idle()
    gate.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_cancelled_work() -> None:
    """Work that is cancelled itself raises that."""

    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await complete(work())


async def test_insist() -> None:
    """A step that fails in a way that passes is repeated after a pause; any other failure comes out."""
    clock, errors = ManualClock(), [StoreTimeout("It", 1), StoreTimeout("It", 1)]

    async def step() -> int:
        if errors:
            raise errors.pop()
        return 5

    task = asyncio.ensure_future(insist(step, clock))
    await run_until_idle()
    assert not task.done()
    while not task.done():
        clock.advance(1)
        await run_until_idle()
    assert (task.result(), errors) == (5, [])

    async def hopeless() -> int:
        raise StoreReadOnly("x")

    with pytest.raises(StoreReadOnly):
        await insist(hopeless, clock)


def test_turns_in_two_loops() -> None:
    """One after the other holds in each loop, though a lock belongs to one."""
    turns, order = Turns("It"), list[str]()

    async def use(name: str) -> None:
        async with turns.next():
            order.append(f"in {name}")
            await asyncio.sleep(0)
            order.append(f"out {name}")

    async def both() -> None:
        await asyncio.gather(use("a"), use("b"))

    for _ in range(2):
        order.clear()
        asyncio.run(both())
        assert order == ["in a", "out a", "in b", "out b"]


def test_turns_without_a_loop() -> None:
    """A coroutine that is driven without a running loop, as in a forked child, is told so."""
    with pytest.raises(ForkedProcess, match="It was started before this process was forked"):
        Turns("It").next()
