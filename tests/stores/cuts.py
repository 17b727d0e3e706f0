"""A way to a server that is cut at each of its steps, and what a program must make of that."""

import asyncio
from collections.abc import Callable

from sssnbus import Bus, ChannelMessage
from tests.servers.proxy import Proxy

PATIENCE = 60.0
"""Seconds for one run; nothing but a program that hangs needs them."""


async def work(url: str) -> None:
    """Write, read and claim, and see that all is as it should be."""
    async with Bus(url) as bus:
        events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
        async with events.subscribe("reader", start="earliest") as subscription:
            await events.write("me", "event")
            message = await anext(aiter(subscription))
            assert message.content.data == "event"
        first, second = await jobs.write_many("me", ("first", "second"))
        async with jobs.claim("worker") as claim:
            assert claim.message.id == first
        (message,) = await jobs.read("worker", exclusive=True)
        assert message.id == second
        await jobs.acknowledge("worker", [message.id])
        now = await jobs.statistics()
        assert (now.ready, now.leased, now.dead) == (0, 0, 0)
        assert [each.content.data for each in await events.read("reader")] == ["event"]


async def keep(url: str) -> None:
    """Follow durably, hold a job over time, move, look round and clean up; all is as it should be."""
    async with Bus(url) as bus:
        events, jobs, other = bus.broadcast("events"), bus.work_queue("jobs"), bus.work_queue("other")
        handled = asyncio.Event()

        async def handle(message: ChannelMessage) -> None:
            handled.set()

        await events.subscribe("follower", handle, durable=True, start="earliest")
        await events.write("me", "event")
        await handled.wait()
        await jobs.write_many("me", range(3))
        await other.start()
        assert len(await jobs.move("other", limit=1)) == 1
        held = await jobs.hold("worker", 60.0)
        assert held is not None
        await (await jobs.resume(held.message.id, held.token)).ack()
        (message,) = await jobs.read("worker", exclusive=True)
        await jobs.release("worker", [message.id])
        assert len(await jobs.peek(10)) == len(await other.peek(10)) == 1
        await bus.usage()
        assert [each.name for each in await bus.subscriptions()] == ["follower"]
        assert len([line async for line in bus.dump()]) > 3
        await bus.vacuum()
        assert await bus.delete("other")
        assert {channel.name for channel in await bus.channels()} == {"events", "jobs"}


async def check_cuts(proxy: Proxy, url: Callable[[str], str], every: int) -> None:
    """Cut the way once in each run, each time a few answers later, and see that no run notices.

    Args:
        proxy: The way.
        url: Returns a place by way of the proxy, an empty one for each name.
        every: Which cuts to try: 1 for all.
    """
    for program in (work, keep):
        name, before = program.__name__, proxy.pieces
        await program(url(name))
        count = proxy.pieces - before
        assert count > 10, "it is asked and answered"
        for number in range(1, count + 1, every):
            proxy.sever(number)
            async with asyncio.timeout(PATIENCE):
                await program(url(f"{name}_{number}"))
            proxy.mend()


async def check_late_server(proxy: Proxy, url: str) -> None:
    """Open a bus before its server is there: it waits for that, as long as connecting may take."""
    proxy.cut()
    bus = Bus(url)
    starting = asyncio.create_task(bus.start())
    async with asyncio.timeout(PATIENCE):
        await proxy.refused.wait()
        proxy.mend()
        await starting
        await bus.stop()
