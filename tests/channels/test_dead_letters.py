"""Dead letters: messages that could not be handled."""

from typing import Any

import pytest

from sssnbus import Bus, Retry, WorkQueueChannel
from sssnbus.testing import ManualClock
from tests.channels.test_work_queue import counts, until_empty
from tests.channels.tools import Failing, Recorder, data, until


async def with_letters(bus: Bus, count: int = 3, **options: Any) -> WorkQueueChannel:
    """Return a queue whose messages 0, 1 and so on are dead."""
    queue = bus.work_queue("jobs", max_deliveries=1, **options)
    await queue.write_many("service", range(count), topic="a.b", metadata={"k": "v"})
    for message in await queue.read("w", limit=count, exclusive=True):
        await queue.nack("w", [message.id], error="no good")
    return queue


async def test_what_a_letter_tells(timed: Bus, clock: ManualClock) -> None:
    """A dead letter keeps its id and content, and says why, after how many attempts and when (SN-46)."""
    queue = timed.work_queue("jobs", max_deliveries=2)
    id = await queue.write("service", {"n": 1}, topic="a.b", metadata={"k": "v"})
    for error in ("first", "second"):
        (message,) = await queue.read("w", exclusive=True)
        await queue.nack("w", [message.id], error=error)
    (letter,) = await queue.dead_letters.list()
    assert (letter.id, data(letter), letter.topic) == (id, {"n": 1}, "a.b")
    assert letter.metadata["k"] == "v"
    assert letter.metadata["dead"] == {
        "reason": "failed",
        "attempts": 2,
        "error": "second",
        "time": clock.time(),
    }
    assert await queue.dead_letters.get(id) == letter
    assert await queue.dead_letters.get("unknown") is None


async def test_attempts_that_ended_without_a_word(timed: Bus, clock: ManualClock) -> None:
    """A message that always takes its worker with it goes to the dead letters (SN-46)."""
    queue = timed.work_queue("jobs", max_deliveries=2)
    await queue.write("service", 1)
    for _ in range(2):
        (message,) = await queue.read("w", exclusive=True)
        await queue.extend("w", [message.id], 1)
        clock.advance(2)
    assert await queue.read("w", exclusive=True) == []
    (letter,) = await queue.dead_letters.list()
    assert (letter.metadata["dead"]["reason"], letter.metadata["dead"]["attempts"]) == ("died", 2)


async def test_dead_are_out_of_sight(bus: Bus) -> None:
    """Dead letters are not claimed again, are counted, and survive a clear."""
    queue = await with_letters(bus)
    assert await queue.read("w", exclusive=True) == []
    assert await counts(queue) == (0, 0, 0, 3)
    await queue.clear()
    assert await counts(queue) == (0, 0, 0, 3)


async def test_pages(bus: Bus) -> None:
    """Dead letters are listed oldest first, page by page."""
    queue = await with_letters(bus, 5)
    first = await queue.dead_letters.list(limit=3)
    rest = await queue.dead_letters.list(after=first[-1].sequence)
    assert [[data(m) for m in page] for page in (first, rest)] == [[0, 1, 2], [3, 4]]


async def test_redrive(bus: Bus) -> None:
    """Redriven letters are at the end of their queue again, with their ids and no attempts counted."""
    queue = await with_letters(bus)
    ids = [letter.id for letter in await queue.dead_letters.list()]
    assert await queue.dead_letters.redrive([ids[1], "unknown"]) == 1
    (message,) = await queue.read("w", exclusive=True)
    assert (message.id, data(message)) == (ids[1], 1)
    assert "retries" not in message.metadata
    assert await queue.dead_letters.redrive() == 2
    assert await counts(queue) == (2, 0, 1, 0)


async def test_redrive_wakes_workers(bus: Bus) -> None:
    """Workers that wait get what is redriven."""
    queue, recorder = await with_letters(bus), Recorder()
    await queue.subscribe("w", recorder)
    await queue.dead_letters.redrive()
    await recorder.reach(3)
    await until_empty(queue)


async def test_dead_again(bus: Bus) -> None:
    """A redriven message that fails again is dead again, with its new reason."""
    queue = await with_letters(bus, 1)
    await queue.dead_letters.redrive()
    (message,) = await queue.read("w", exclusive=True)
    await queue.nack("w", [message.id], error="still bad")
    (letter,) = await queue.dead_letters.list()
    assert letter.metadata["dead"]["error"] == "still bad"
    assert letter.id == message.id


async def test_purge(bus: Bus) -> None:
    """Purging removes letters for good, some or all."""
    queue = await with_letters(bus)
    ids = [letter.id for letter in await queue.dead_letters.list()]
    assert await queue.dead_letters.purge([ids[0], "unknown"]) == 1
    assert [letter.id for letter in await queue.dead_letters.list()] == ids[1:]
    assert await queue.dead_letters.purge() == 2
    assert await queue.dead_letters.list() == []
    assert await queue.dead_letters.purge() == 0


async def test_broadcast_letters(bus: Bus) -> None:
    """A broadcast channel's letters can be redriven too: every subscriber gets them."""
    channel, other = bus.broadcast("events"), Recorder()
    failing = Failing(times=2)
    await channel.subscribe("a", failing, durable=True, retry=Retry(initial=0), max_deliveries=2)
    await channel.write("service", 1)
    await until(lambda: len(failing.messages) == 2)
    await channel.subscribe("other", other)
    while not await channel.dead_letters.redrive():
        pass
    await other.reach(1)
    await failing.reach(3)
    assert (other.seen, failing.seen) == ([1], [1, 1, 1])


@pytest.mark.parametrize("limit", [None, 7])
async def test_limit_is_recorded(store_url: str, limit: int | None) -> None:
    """max_deliveries is recorded in the store: the last one given wins, five is the default (SN-46)."""
    async with Bus(store_url) as bus:
        store = await bus.store()
        if limit is not None:
            async with WorkQueueChannel("jobs", store=store, max_deliveries=limit):
                pass
        async with WorkQueueChannel("jobs", store=store, retry=Retry(initial=0)) as queue:
            failing = Failing()
            await queue.subscribe("w", failing)
            await queue.write("service", 1)
            await until_empty(queue)
            assert len(failing.messages) == (limit or 5)
