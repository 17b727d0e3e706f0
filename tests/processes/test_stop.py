"""A process that stands still while it holds what all need."""

import asyncio
import signal

import pytest

from sssnbus import Bus, StoreTimeout
from tests.processes.actor import CHANNEL
from tests.processes.crew import Actor, Crew


async def stop_in_commit(victim: Actor, bus: Bus) -> list[str]:
    """Stop a busy writer until it stands still with the write lock; return what was written meanwhile."""
    written: list[str] = []
    for number in range(200):
        victim.signal(signal.SIGSTOP)
        try:
            written.append(
                await bus.broadcast(CHANNEL).write("test", number, id=f"try-{number}", timeout=0.2)
            )
        except StoreTimeout:
            return written
        victim.signal(signal.SIGCONT)
        await asyncio.to_thread(victim.expect, "acked")
    pytest.fail("The writer never held the lock when it was stopped.")


@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGKILL])
async def test_stopped_with_the_write_lock(number: signal.Signals, crew: Crew) -> None:
    """A write ends by its time-out and is never applied; when the holder moves or dies, writes go on."""
    victim = await asyncio.to_thread(crew.start_ready, "publish", name="victim", tasks=4)
    victim.tell()
    await asyncio.to_thread(victim.expect, "acked")
    async with Bus(crew.url) as bus:
        written = await stop_in_commit(victim, bus)
        # The event loop is not blocked, and reads go on.
        events = bus.broadcast(CHANNEL)
        assert await events.read("reader", limit=1)
        victim.signal(number)
        after = await events.write("test", "after", id="after", timeout=5.0)
        await asyncio.to_thread(victim.kill)
        history = await events.read("all", limit=1_000_000)
    ours = [message.id for message in history if message.sender_id == "test"]
    assert ours == [*written, after]
