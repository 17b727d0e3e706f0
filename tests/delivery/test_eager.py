"""Callbacks that are begun at once, in the writer's step, on behalf of the task that runs them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from sssnbus import BroadcastChannel, BusError, ChannelMessage, DeliveryTimeout, WorkQueueChannel
from sssnbus.testing import run_until_idle


@pytest.fixture
async def channel() -> AsyncIterator[BroadcastChannel]:
    """Return a started channel in memory."""
    async with BroadcastChannel("events") as started:
        yield started


def number(message: ChannelMessage) -> int:
    """Return what the test has written."""
    found: int = message.content.data
    return found


async def test_two_wait_for_one_future(channel: BroadcastChannel) -> None:
    """Callbacks may wait for the same future, as any two tasks may."""
    gate, seen = asyncio.get_running_loop().create_future(), list[str]()
    for name in ("a", "b"):

        async def handler(message: ChannelMessage, name: str = name) -> None:
            await gate
            seen.append(name)

        await channel.subscribe(name, handler)
    await run_until_idle()
    writing = asyncio.ensure_future(channel.write("service", 1))
    await run_until_idle()
    gate.set_result(None)
    await writing
    assert sorted(seen) == ["a", "b"]


async def test_time_out_that_has_passed(channel: BroadcastChannel) -> None:
    """A time-out inside a callback that is over at once belongs to the callback, not to its task."""
    seen = []

    async def handler(message: ChannelMessage) -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append(number(message))

    subscription = await channel.subscribe("a", handler)
    await run_until_idle()
    for n in (1, 2):
        await channel.write("service", n)
    assert (seen, subscription.error) == ([1, 2], None)


async def test_task_is_its_own(channel: BroadcastChannel) -> None:
    """To a callback it looks as if its own task ran it, before and after its first wait."""
    tasks: list[object] = []

    async def handler(message: ChannelMessage) -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    await channel.subscribe("a", handler)
    await run_until_idle()
    await channel.write("service", 1)
    assert tasks[0] is tasks[1] is not asyncio.current_task()


async def test_subscribe_from_inside(channel: BroadcastChannel) -> None:
    """Who subscribes from inside a callback, from its message on, gets that message."""
    seen = []

    async def second(message: ChannelMessage) -> None:
        seen.append(number(message))

    async def first(message: ChannelMessage) -> None:
        if number(message) == 1:
            await channel.subscribe("b", second, start=message.sequence)

    await channel.subscribe("a", first)
    await run_until_idle()
    for n in (1, 2):
        await channel.write("service", n)
    await run_until_idle()
    assert seen == [1, 2]


async def test_replaced_from_inside(channel: BroadcastChannel) -> None:
    """A callback that replaces itself hands over after the message in hand: none is doubled."""
    seen = []

    async def second(message: ChannelMessage) -> None:
        seen.append(("second", number(message)))

    async def first(message: ChannelMessage) -> None:
        seen.append(("first", number(message)))
        await channel.subscribe("a", second)

    await channel.subscribe("a", first)
    await run_until_idle()
    for n in (1, 2):
        await channel.write("service", n)
    await run_until_idle()
    assert seen == [("first", 1), ("second", 2)]


async def test_blocking_one_is_closed_from_inside(channel: BroadcastChannel) -> None:
    """A writer does not wait for a blocking subscriber that an earlier callback has ended."""

    async def closing(message: ChannelMessage) -> None:
        await channel.unsubscribe("b")

    async def nothing(message: ChannelMessage) -> None: ...

    await channel.subscribe("a", closing)
    await channel.subscribe("b", nothing, on_full="block")
    await run_until_idle()
    await channel.write("service", 1, timeout=5)


async def test_lost_subscription_holds_nobody_up(channel: BroadcastChannel) -> None:
    """Writers do not wait for a durable subscription that was taken away."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def slow(message: ChannelMessage) -> None:
        entered.set()
        await gate.wait()

    await channel.subscribe("a", slow, durable=True)
    writing = [asyncio.ensure_future(channel.write("service", n, timeout=5)) for n in range(3)]
    await entered.wait()
    await channel.forget("a")
    gate.set()
    await asyncio.gather(*writing)


async def test_successor_of_a_dead_one(channel: BroadcastChannel) -> None:
    """Who subscribes again after a callback has ended its own task gets what was left."""
    seen = []

    async def suicidal(message: ChannelMessage) -> None:
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def successor(message: ChannelMessage) -> None:
        seen.append(message.sequence)

    subscription = await channel.subscribe("a", suicidal)
    await channel.write_many("service", [1, 2, 3], confirm="stored")
    await run_until_idle()
    assert isinstance(subscription.error, BusError)
    await channel.subscribe("a", successor)
    await run_until_idle()
    assert seen == [2, 3]


async def test_settled_at_the_last_moment(channel: BroadcastChannel) -> None:
    """A callback that settles just when the time is over is either in time or late; nothing else."""

    async def handler(message: ChannelMessage) -> None:
        await asyncio.sleep(0.001)

    await channel.subscribe("a", handler)
    for n in range(100):
        with suppress(DeliveryTimeout):
            await channel.write("service", n, timeout=0.001)
        await asyncio.sleep(0)


async def test_generator_exit(channel: BroadcastChannel) -> None:
    """Whatever a callback raises is its own failure."""

    async def handler(message: ChannelMessage) -> None:
        raise GeneratorExit

    subscription = await channel.subscribe("a", handler)
    await run_until_idle()
    for n in range(2):
        await channel.write("service", n)
    assert subscription.statistics().failed == 2


async def test_worker_that_ends_itself() -> None:
    """A queue's handler that cancels its own task ends its worker aloud, and the attempt counts."""
    async with WorkQueueChannel("jobs") as queue:

        async def suicidal(message: ChannelMessage) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        workers = await queue.subscribe("w", suicidal)
        await queue.write("service", 1)
        await run_until_idle()
        assert isinstance(workers.error, BusError)
        async with queue.claim("other") as claim:
            assert claim.attempt == 2
        await queue.drain(timeout=5)
