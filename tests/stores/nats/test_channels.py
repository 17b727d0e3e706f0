"""Channels over NATS: the same program as on every other store."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from sssnbus import BroadcastChannel, Bus, GenericContent, StoreReset, SubscriptionInUse
from sssnbus.stores.nats import Access, NATSStore, Settings
from tests.channels.tools import Recorder, until
from tests.stores.nats.places import jetstream, prefix

ROOT = Path(__file__).parents[3]

WORKER = """
import asyncio, os, sys
from sssnbus import Bus

async def main():
    async with Bus(sys.argv[1]) as bus:
        claim = await bus.work_queue("jobs").claim("doomed").__aenter__()
        print(claim.message.id, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def url(address: str) -> str:
    """Return the URL of an empty place."""
    return f"nats://{address}?prefix={prefix()}&owner_timeout=1"


async def test_history_then_live_between_processes(url: str) -> None:
    """A late subscriber gets what was written before and after it came, each once, in order (BV-04)."""
    async with Bus(url) as here, Bus(url) as there:
        recorder = Recorder()
        for number in range(5):
            await here.broadcast("events").write("service", number)
        async with there.broadcast("events").subscribe("late", recorder, start="earliest"):
            for number in range(5, 40):
                await here.broadcast("events").write("service", number)
            await until(lambda: len(recorder.seen) == 40)
        assert recorder.seen == list(range(40))


async def test_writers_on_both_sides(url: str) -> None:
    """Subscribers of two processes see one order, whoever writes, and writers wait for their callbacks."""
    async with Bus(url) as here, Bus(url) as there:
        seen = [Recorder(), Recorder()]
        buses = [here, there]
        async with (
            here.broadcast("events").subscribe("a", seen[0], start="earliest"),
            there.broadcast("events").subscribe("b", seen[1], start="earliest"),
        ):

            async def write(bus: Bus, side: int) -> None:
                for number in range(30):
                    await bus.broadcast("events").write("service", [side, number])
                    assert [side, number] in seen[side].seen

            await asyncio.gather(*(write(bus, side) for side, bus in enumerate(buses)))
            await until(lambda: len(seen[0].seen) == len(seen[1].seen) == 60)
        assert seen[0].seen == seen[1].seen


async def test_topics(url: str) -> None:
    """A pattern gets its topics, and a tool of NATS finds them in the subjects."""
    async with Bus(url) as bus:
        recorder = Recorder()
        channel = bus.broadcast("events")
        async with channel.subscribe("a", recorder, topic="user.*"):
            await channel.write("service", 1, topic="user.login")
            await channel.write("service", 2, topic="order.paid")
            await channel.write("service", 3)
        assert recorder.seen == [1]
        store = await bus.store()
        assert isinstance(store, NATSStore)
        async with jetstream(url) as js:
            info = await js.find_stream_name_by_subject(f"{store._names.prefix}.m.*.*.user.>")
        assert "_m_" in info


async def test_durable_subscription_moves_between_processes(url: str) -> None:
    """One owner at a time, and the next one goes on where the last one stopped (FX-06)."""
    async with Bus(url) as here, Bus(url) as there:
        first, second = Recorder(), Recorder()
        channel = here.broadcast("events")
        async with channel.subscribe("a", first, durable=True):
            await channel.write("service", 1)
            with pytest.raises(SubscriptionInUse):
                await there.broadcast("events").subscribe("a", second, durable=True)
        await channel.write("service", 2)
        async with there.broadcast("events").subscribe("a", second, durable=True):
            await channel.write("service", 3)
            await until(lambda: len(second.seen) == 2)
        assert (first.seen, second.seen) == ([1], [2, 3])


async def test_work_queue(url: str) -> None:
    """Priority, keys, delays and dead letters work over two processes, as everywhere."""
    async with Bus(url) as here, Bus(url) as there:
        jobs = here.work_queue("jobs", max_deliveries=1)
        await jobs.write("w", "low")
        await jobs.write("w", "high", priority=5)
        await jobs.write("w", "k1", key="k", priority=1)
        await jobs.write("w", "k2", key="k", priority=1)
        remote = there.work_queue("jobs", max_deliveries=1)
        order = []
        for _ in range(4):
            async with remote.claim("worker", timeout=20) as claim:
                assert isinstance(claim.message.content, GenericContent)
                order.append(claim.message.content.data)
        assert order == ["high", "k1", "k2", "low"]
        waiting = asyncio.create_task(remote.claim("worker", timeout=20).__aenter__())
        await jobs.write("w", "late", delay=0.2)
        claim = await waiting
        await claim.nack(error="bad")
        (dead,) = await jobs.dead_letters.list()
        assert dead.id == claim.message.id
        assert dead.metadata["dead"]["reason"] == "failed"
        assert await remote.dead_letters.redrive() == 1
        async with jobs.claim("worker", timeout=20) as again:
            assert again.message.id == dead.id


async def test_killed_worker(url: str) -> None:
    """What a killed process held is handed out again soon, with the attempt counted (row 46)."""
    async with Bus(url) as bus:
        jobs = bus.work_queue("jobs", claim_timeout=3600)
        receipt = await jobs.write("w", 1)
        process = await asyncio.to_thread(
            subprocess.Popen, [sys.executable, "-c", WORKER, url], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            assert process.stdout is not None
            held = (await asyncio.to_thread(process.stdout.readline)).strip()
            assert held == receipt
            process.kill()
            async with jobs.claim("heir", timeout=25) as claim:
                assert (claim.message.id, claim.attempt) == (receipt, 2)
        finally:
            process.kill()
            await asyncio.to_thread(process.communicate)


async def test_blocked_loop_keeps_its_leases(url: str, address: str) -> None:
    """A handler that blocks its loop for longer than others wait for its owner loses nothing (row 43)."""
    async with Bus(url) as bus:
        receipt = await bus.work_queue("jobs").write("w", 1)
        process = await asyncio.to_thread(
            subprocess.Popen,
            [
                sys.executable,
                "-c",
                WORKER.replace("await asyncio.sleep(60)", "import time; time.sleep(60)"),
                url,
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            assert process.stdout is not None
            assert (await asyncio.to_thread(process.stdout.readline)).strip() == receipt
            # Time itself is what is tested here: three of the times after which an owner counts as dead.
            await asyncio.sleep(3)
            assert await bus.work_queue("jobs").read("thief", exclusive=True) == []
        finally:
            process.kill()
            await asyncio.to_thread(process.communicate)


async def test_lost_data_is_told(address: str) -> None:
    """A stream that somebody emptied and made anew ends its subscriptions with StoreReset (row 65)."""
    name = prefix()
    store = NATSStore(Access(f"nats://{address}", (f"nats://{address}",)), Settings(prefix=name))
    ended: list[BaseException] = []
    async with Bus(store) as bus:
        channel: BroadcastChannel = bus.broadcast("events")
        await channel.write("service", 1)
        subscription = channel.subscribe("a", start="earliest")
        async with subscription:

            async def listen() -> None:
                try:
                    async for _ in subscription:
                        pass
                except StoreReset as error:
                    ended.append(error)

            listening = asyncio.create_task(listen())
            await channel.write("service", 2)
            async with jetstream(f"nats://{address}") as js:
                for info in await js.streams_info():
                    if str(info.config.name).startswith(f"{name}_m_"):
                        await js.delete_stream(str(info.config.name))
            await until(lambda: bool(ended))
            await listening
        assert "lost data" in str(ended[0])
    await store.aclose()
