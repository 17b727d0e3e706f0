"""Stopping a bus whose server is away."""

import asyncio
import logging

import pytest

from sssnbus import Bus
from sssnbus.message import ChannelMessage
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.stores.redis.tools import draft, opened

GUARD = 20.0
"""Seconds after which a test fails; the stores here would wait for a minute."""


@pytest.mark.parametrize("how", ["black hole", "killed"])
async def test_server_away(server: Server, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """Stopping takes the grace and little more, tells what was left, and loses nothing acknowledged."""
    handling, taken, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(message: ChannelMessage) -> None:
        handling.set()
        await asyncio.sleep(1e6)

    async def take(message: ChannelMessage) -> None:
        taken.set()

    async def answer(message: ChannelMessage) -> None:
        await release.wait()
        await events.write("s", "late", confirm="stored")

    async with Proxy("127.0.0.1", server.port) as proxy:
        bus = Bus(f"redis://127.0.0.1:{proxy.port}?timeout=60&connect_timeout=60")
        await bus.start()
        events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
        await jobs.write_many("s", range(4))
        async with jobs.claim("w"):
            pass
        await jobs.read("reader", exclusive=True)
        await jobs.subscribe("w", work)
        await handling.wait()
        await bus.work_queue("idle").subscribe("w", work)
        await events.subscribe("durable", take, durable=True)
        await events.subscribe("live", answer)
        await events.write("s", 1, confirm="stored")
        await taken.wait()
        if how == "killed":
            await asyncio.to_thread(server.kill)
        else:
            proxy.hold()
        release.set()
        writing = asyncio.create_task(events.write("s", 2))
        async with asyncio.timeout(GUARD):
            await bus.stop(grace=0.5)
            await asyncio.wait([writing])
        assert writing.exception() is not None
    assert asyncio.all_tasks() == {asyncio.current_task()}
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert any("The place of subscription 'durable'" in text for text in told), told
    assert any("Queue 'jobs' did not give back" in text for text in told), told
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno > 30]
    if how == "killed":
        await asyncio.to_thread(server.start)
    async with Bus(f"redis://127.0.0.1:{server.port}") as other:
        standing = await other.work_queue("jobs").statistics()
        assert standing.ready + standing.leased == 3
        assert len(await other.broadcast("events").read("r")) >= 1


async def test_cancelled_read(server: Server) -> None:
    """A read that is cancelled ends at once, though the server does not answer; the next one is answered."""
    async with Proxy("127.0.0.1", server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}?timeout=60"
        async with opened(url) as store:
            await store.append([draft("events")])
            proxy.hold()
            reading = [asyncio.create_task(store.last(["events"])) for _ in range(3)]
            while not store._reader._flying:  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0)
            for task in reading:
                task.cancel()
            async with asyncio.timeout(GUARD):
                await asyncio.wait(reading)
            assert all(task.cancelled() for task in reading)
            proxy.mend()
            assert await store.last(["events"]) == {"events": 1}


async def test_timer_of_an_idle_lane(url: str) -> None:
    """The time of operations that were answered long ago ends nothing: the connection stays."""
    async with opened(url) as store:
        wire = store._writer._wire
        store._writer._expire()
        store._reader._expire()
        await store.append([draft("events")])
        assert store._writer._wire is wire
        assert await store.last(["events"]) == {"events": 1}
