"""What users may hand in that no store has ever given out, and that every store answers alike."""

import sys
from datetime import UTC, datetime

import pytest

from sssnbus import Bus, UnknownMessage
from sssnbus.errors import InvalidOption

STRANGE = ("\ud800", "a\0b", "*", ">", "a b", "a/b", "", "x" * 5000, "a\r\nb", ".", "..")
"""Texts that are no ids. One message's id is ``a.b``."""


async def check_strange_ids(bus: Bus) -> None:
    """A text that cannot be an id names no message."""
    events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
    for channel in (events, jobs):
        await channel.write("me", 1)
        await channel.write("me", 2, id="a.b")
    await bus.work_queue("other").start()
    for id in STRANGE:
        with pytest.raises(UnknownMessage):
            await events.read("c", after=id)
        with pytest.raises(UnknownMessage):
            await events.subscribe("c", start=id)
        assert await jobs.peek(10, ids=[id]) == []
        assert await jobs.read("w", exclusive=True, ids=[id]) == []
        assert await jobs.move("other", ids=[id]) == []
        assert await events.remove([id]) == await jobs.remove([id]) == 0
        assert await events.dead_letters.get(id) is None
        assert await jobs.dead_letters.redrive([id]) == await jobs.dead_letters.purge([id]) == 0
    assert len(await jobs.peek(10, ids=[*STRANGE, "a.b"])) == 1


async def check_far_times(bus: Bus) -> None:
    """Everything is later than the first time there is, and nothing is later than times to come."""
    events = bus.broadcast("events")
    await events.write("me", 1)
    place = await bus.store()
    for year in (1, 1900):
        assert await place.locate("events", datetime(year, 1, 1, tzinfo=UTC).timestamp()) == 0
    for year in (2200, 2290, 2300, 2400, 9999):
        assert await place.locate("events", datetime(year, 1, 1, tzinfo=UTC).timestamp()) == 1
    assert await place.trim("events", older_than=-1e11) == 0
    assert len(await events.read("c")) == 1


async def check_large_limits(bus: Bus) -> None:
    """A limit beyond all numbers of a store means all there is."""
    events, jobs, other = bus.broadcast("events"), bus.work_queue("jobs"), bus.work_queue("other")
    await other.start()
    for limit in (2**31 - 1, 2**31, sys.maxsize, 2**70):
        await events.write("me", 1)
        await jobs.write_many("me", (1, 2))
        assert len(await events.read("c", limit=limit)) == 1
        assert len(await jobs.peek(limit)) == 2
        messages = await jobs.read("w", exclusive=True, limit=limit)
        assert len(messages) == 2
        await jobs.release("w", [message.id for message in messages])
        assert len(await jobs.move("other", limit=limit)) == 2
    with pytest.raises(InvalidOption):
        await jobs.peek(0)


CHECKS = (check_strange_ids, check_far_times, check_large_limits)
