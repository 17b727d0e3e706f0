"""A way to a server that is cut at each of its steps, and what a program must make of that."""

import asyncio
from collections.abc import Callable

from sssnbus import Bus
from tests.servers.proxy import Proxy

PATIENCE = 60.0
"""Seconds for one run; nothing but a program that hangs needs them."""


async def whole(url: str) -> None:
    """Do a little of everything, and see that it is as it should be."""
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
        assert {channel.name for channel in await bus.channels()} == {"events", "jobs"}


async def check_cuts(proxy: Proxy, url: Callable[[int], str], every: int) -> None:
    """Cut the way once in each run, each time a few answers later, and see that no run notices.

    Args:
        proxy: The way.
        url: Returns a place by way of the proxy, a fresh one for each number.
        every: Which cuts to try: 1 for all.
    """
    before = proxy.pieces
    await whole(url(0))
    count = proxy.pieces - before
    assert count > 10, "it is asked and answered"
    for number in range(1, count + 1, every):
        proxy.sever(number)
        async with asyncio.timeout(PATIENCE):
            await whole(url(number))
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
