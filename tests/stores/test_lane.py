"""What all group commits have in common: who waits, who goes along, who is given up."""

import asyncio

import pytest

from sssnbus.errors import ClosedError, OutcomeUnknown, StoreTimeout
from sssnbus.stores.lane import Lane, Operation, Stage


class Slow(Lane[Operation]):
    """A lane whose steps a test takes by hand."""

    def __init__(self) -> None:
        super().__init__("test://", 60.0)
        self.woken = 0

    def _wake(self) -> None:
        self.woken += 1

    def begin(self, most: int = 9, most_bytes: int = 1000) -> list[str]:
        """Begin what goes together next; return what it is."""
        self._flying = self._take(most, most_bytes)
        for operation in self._flying:
            operation.stage = Stage.RUNNING
        return [operation.what for operation in self._flying]

    def finish(self, result: object) -> None:
        """End what has begun."""
        for operation in self._flying:
            operation.result = result
            operation.end(operation.error)
        self._flying = []


async def asked(lane: Slow, *operations: Operation) -> "list[asyncio.Task[object]]":
    """Return the tasks that wait for operations."""
    tasks = [asyncio.create_task(lane.perform(operation)) for operation in operations]
    await asyncio.sleep(0)
    return tasks


async def test_what_goes_together() -> None:
    """A step takes what waits in order, within its bounds, and a big one alone."""
    lane = Slow()
    operations = [Operation(name, size) for name, size in (("a", 9), ("b", 2), ("c", 2), ("d", 0))]
    tasks = await asked(lane, *operations)
    assert lane.woken == 4
    assert lane.begin(most_bytes=4) == ["a"]
    lane.finish(1)
    assert lane.begin(most=1) == ["b"]
    lane.finish(2)
    assert lane.begin(most_bytes=4) == ["c", "d"]
    lane.finish(3)
    assert await asyncio.gather(*tasks) == [1, 2, 3, 3]


async def test_a_cancelled_caller() -> None:
    """What waits is given up at once, never taken; what has begun is waited for, its result known."""
    lane = Slow()
    begun, waiting = Operation("begun"), Operation("waiting")
    first, second = await asked(lane, begun, waiting)
    assert lane.begin(most=1) == ["begun"]
    for task in (first, second):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert not first.done(), "however often it is cancelled"
    lane.finish("there")
    with pytest.raises(asyncio.CancelledError):
        await first
    assert begun.result == "there"
    assert lane.begin() == []


async def test_insisting() -> None:
    """An operation that is insisted on is seen through although its task is cancelled; no error is raised."""
    lane = Slow()
    operation = Operation("farewell")
    task = asyncio.create_task(lane.insist(operation, 5.0))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    lane.begin()
    operation.error = StoreTimeout("x", 1.0)
    lane.finish(None)
    await task
    assert isinstance(operation.error, StoreTimeout)


async def test_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has not begun by its deadline is refused and never taken; what has begun is waited for."""
    lane, loop = Slow(), asyncio.get_running_loop()
    begun, soon, later = Operation("begun"), Operation("soon"), Operation("later")
    tasks = [asyncio.create_task(lane.perform(begun, 5.0)), asyncio.create_task(lane.perform(soon, 10.0))]
    tasks += await asked(lane, later)
    lane.begin(most=1)
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + 30.0)
    lane._expire()
    with pytest.raises(StoreTimeout, match="soon did not start within 10 s"):
        await tasks[1]
    assert not tasks[0].done()
    assert lane._timer is not None, "for the one whose time is still to come"
    assert [each.what for each in lane._waiting] == ["later"], "what was given up is kept no longer"
    lane.finish("there")
    assert await tasks[0] == "there"
    assert lane.begin() == ["later"]
    lane.finish("too")
    assert await tasks[2] == "too"


async def test_closing() -> None:
    """A closed lane gives up what waits, cannot say what became of the rest, and takes no more."""
    lane = Slow()
    tasks = await asked(lane, Operation("begun"), Operation("waiting"))
    lane.begin(most=1)
    lane.close()
    with pytest.raises(OutcomeUnknown, match="begun"):
        await tasks[0]
    with pytest.raises(ClosedError):
        await tasks[1]
    with pytest.raises(ClosedError):
        await lane.perform(Operation("late"))


async def test_a_carrier_that_is_cancelled() -> None:
    """Of what was under way, what has begun is told that nobody knows; the rest goes along next time."""
    lane = Slow()
    tasks = await asked(lane, *(Operation(name) for name in ("begun", "chosen", "waiting")))
    lane.begin(most=2)
    lane._flying[1].stage = Stage.WAITING
    lane._interrupt()
    with pytest.raises(OutcomeUnknown, match="begun"):
        await tasks[0]
    assert lane.begin() == ["chosen", "waiting"]
    lane.finish("there")
    assert await asyncio.gather(*tasks[1:]) == ["there", "there"]
