"""The clock of the machine, the clock of a test, and waiting until nothing is left to do."""

import asyncio
import time
from collections.abc import Callable

import pytest

from sssnbus.clock import Clock, SystemClock
from sssnbus.testing import ManualClock, run_until_idle


def test_system_time_is_the_machines() -> None:
    """Wall time is Unix time; elapsed time only goes forward."""
    clock = SystemClock()
    assert abs(clock.time() - time.time()) < 5
    before = clock.elapsed()
    assert clock.elapsed() >= before


async def test_system_timers() -> None:
    """A timer of the machine fires on the loop, unless it is cancelled."""
    clock, fired = SystemClock(), asyncio.Event()
    clock.call_later(0, pytest.fail).cancel()
    clock.call_later(0.001, fired.set)
    async with asyncio.timeout(10):
        await fired.wait()
        await clock.sleep(0.001)


def test_manual_time_stands_still() -> None:
    """Both hands stand where they were set and move together."""
    clock = ManualClock(time=100.0, elapsed=7.0)
    assert (clock.time(), clock.elapsed()) == (100.0, 7.0)
    clock.advance(1.5)
    assert (clock.time(), clock.elapsed()) == (101.5, 8.5)
    with pytest.raises(ValueError, match="time does not go back"):
        clock.advance(-1)


def test_stepping_the_wall_clock() -> None:
    """A step of the wall clock moves nothing else and fires no timer."""
    clock = ManualClock(elapsed=7.0)
    clock.call_later(10, pytest.fail)
    clock.set_time(5.0)
    assert (clock.time(), clock.elapsed()) == (5.0, 7.0)
    clock.set_time(1e9)
    clock.advance(1)
    assert (clock.time(), clock.elapsed()) == (1e9 + 1, 8.0)


def test_timers_fire_in_order_at_their_times() -> None:
    """Timers fire by time, then by age, each at its own moment; later ones wait."""
    clock = ManualClock(elapsed=0.0)
    fired: list[tuple[str, float]] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: fired.append((name, clock.elapsed()))

    clock.call_later(3, note("c"))
    clock.call_later(1, note("a"))
    clock.call_later(1, note("b"))
    clock.call_later(9, note("later"))
    clock.call_later(2, note("cancelled")).cancel()
    clock.advance(5)
    assert fired == [("a", 1.0), ("b", 1.0), ("c", 3.0)]
    assert clock.elapsed() == 5.0


def test_timers_that_set_timers() -> None:
    """A timer set by a timer fires in the same advance if its time falls into it."""
    clock = ManualClock(elapsed=0.0)
    fired: list[float] = []

    def again() -> None:
        fired.append(clock.elapsed())
        clock.call_later(2, again)

    clock.call_later(2, again)
    clock.advance(7)
    assert fired == [2.0, 4.0, 6.0]


async def test_timers_without_a_delay_need_no_advance() -> None:
    """What is due now runs by itself."""
    clock = ManualClock()
    fired = asyncio.Event()
    clock.call_later(0, fired.set)
    clock.call_later(-1, pytest.fail).cancel()
    await run_until_idle()
    assert fired.is_set()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_sleeping(cancelled: bool) -> None:
    """A sleeper wakes when the time has come, and leaves nothing behind when it is cancelled."""
    clock: Clock = ManualClock()
    assert isinstance(clock, ManualClock)
    sleeper = asyncio.create_task(clock.sleep(60))
    await run_until_idle()
    clock.advance(59)
    await run_until_idle()
    assert not sleeper.done()
    if cancelled:
        sleeper.cancel()
    else:
        clock.advance(1)
    await run_until_idle()
    assert sleeper.done()
    assert sleeper.cancelled() is cancelled
    clock.advance(60)


async def test_idle_after_chains() -> None:
    """Idle means that chains of tasks and callbacks have come to their ends."""
    loop = asyncio.get_running_loop()
    steps: list[int] = []

    def step(left: int) -> None:
        steps.append(left)
        if left:
            loop.call_soon(step, left - 1)

    async def chain(length: int) -> None:
        for _ in range(length):
            await asyncio.sleep(0)
        step(50)

    task = asyncio.create_task(chain(50))
    await run_until_idle()
    assert task.done()
    assert steps[-1] == 0


async def test_never_idle() -> None:
    """A loop that never comes to rest is told, after as many turns as are allowed."""

    loop = asyncio.get_running_loop()
    rounds = iter(range(1000))

    def busy() -> None:
        if next(rounds, None) is not None:
            loop.call_soon(busy)

    busy()
    with pytest.raises(TimeoutError, match="still busy after 200 turns"):
        await run_until_idle(max_turns=200)
    await run_until_idle()


async def test_idle_on_other_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loop that hides what is ready, many turns have to do."""

    class Hidden:
        """A loop of another make."""

    monkeypatch.setattr("sssnbus.testing.idle.asyncio.get_running_loop", Hidden)
    done = asyncio.create_task(asyncio.sleep(0))
    await run_until_idle()
    assert done.done()
