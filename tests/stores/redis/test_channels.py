"""Channels over a store on Redis do what they do over any other."""

import asyncio

import pytest

from sssnbus import Bus, ChannelMessage
from sssnbus.errors import SubscriptionInUse
from sssnbus.stores.redis.url import from_url
from tests.servers.proxy import Proxy
from tests.stores.redis.tools import line, program, until


async def test_late_joiner(url: str) -> None:
    """A late subscriber of another bus gets the history, then what is live: no gap, no double."""
    async with Bus(url) as one, Bus(url) as two:
        events = one.broadcast("events")
        for number in range(20):
            await events.write("me", number, topic="even" if number % 2 == 0 else "odd")
        async with (
            two.broadcast("events").subscribe("all", start="earliest") as everything,
            two.broadcast("events").subscribe("even", start="earliest", topic="even") as even,
        ):
            for number in range(20, 40):
                await events.write("me", number, topic="even" if number % 2 == 0 else "odd")
            async with asyncio.timeout(20):
                got = [(await anext(everything)).content.data for _ in range(40)]
                some = [(await anext(even)).content.data for _ in range(20)]
    assert got == list(range(40))
    assert some == list(range(0, 40, 2))


async def test_live_between_processes(url: str) -> None:
    """What another process writes arrives by its hint, in order, also what is too long for one (SB-274)."""
    source = """
    from sssnbus import Bus
    async def main():
        async with Bus(url) as bus:
            events = bus.broadcast("events")
            sys.stdin.readline()
            for number in range(30):
                await events.write("other", {"n": number, "text": "x" * (100_000 if number % 10 == 0 else 1)})
    asyncio.run(main())
    """
    # Without hints this would take a minute to look.
    async with Bus(f"{url}&poll_interval=60") as bus:
        async with bus.broadcast("events").subscribe("s") as subscription:
            with program(url, source) as process:
                assert process.stdin is not None
                await asyncio.sleep(0)
                process.stdin.write("\n")
                process.stdin.flush()
                async with asyncio.timeout(30):
                    got = [(await anext(subscription)).content.data["n"] for _ in range(30)]
    assert got == list(range(30))


async def test_live_through_a_cut(url: str) -> None:
    """A live subscription that was cut off gets what others wrote meanwhile, in order and once."""
    seen: list[object] = []

    async def note(message: ChannelMessage) -> None:
        seen.append(message.content.data)

    async def all_seen() -> bool:
        return len(seen) >= 12

    port = from_url(url, None)._place.port
    async with Proxy("127.0.0.1", port) as proxy:
        # The look that it takes by itself would come too late.
        far = url.replace(f":{port}", f":{proxy.port}") + "&poll_interval=60"
        async with Bus(url) as one, Bus(far) as two:
            events = one.broadcast("events")
            await two.broadcast("events").subscribe("s", note)
            await events.write("me", 0)
            proxy.cut()
            await events.write_many("me", range(1, 11))
            proxy.mend()
            await events.write("me", 11)
            await until(all_seen)
    assert seen == list(range(12))


async def test_durable_subscription(url: str) -> None:
    """A durable subscription has one owner among all processes; the next one goes on where it stopped."""
    source = """
    from sssnbus import Bus
    async def main():
        async with Bus(url) as bus:
            async with bus.broadcast("events").subscribe("d", durable=True, start="earliest") as subscription:
                async for message in subscription:
                    print(message.content.data, flush=True)
                    if message.content.data == 2:
                        break
            sys.stdin.readline()
    asyncio.run(main())
    """
    async with Bus(url) as bus:
        events = bus.broadcast("events")
        for number in range(2):
            await events.write("me", number)
        with program(url, source) as process:
            assert [await asyncio.to_thread(line, process) for _ in range(2)] == ["0", "1"]
            with pytest.raises(SubscriptionInUse):
                await events.subscribe("d", durable=True)
            await events.write("me", 2)
            assert await asyncio.to_thread(line, process) == "2"

            async def free() -> bool:
                try:
                    async with events.subscribe("d", durable=True) as subscription:
                        await events.write("me", 3)
                        assert (await anext(subscription)).content.data == 3
                        return True
                except SubscriptionInUse:
                    return False

            await until(free)


async def test_work_queue(url: str) -> None:
    """Workers of two buses share a queue; what fails too often becomes a dead letter and can come back."""
    handled: list[object] = []
    async with Bus(url) as one, Bus(url) as two:
        jobs = one.work_queue("jobs", max_deliveries=2)

        async def work(message: ChannelMessage) -> None:
            if message.content.data == "poison":
                raise ValueError("no")
            handled.append(message.content.data)

        await jobs.subscribe("a", work, concurrency=2)
        await two.work_queue("jobs", max_deliveries=2).subscribe("b", work)
        await jobs.write_many("me", [*range(50), "poison"])

        async def done() -> bool:
            statistics = await jobs.statistics()
            return len(handled) == 50 and statistics.dead == 1

        await until(done)
    assert sorted(str(item) for item in handled) == sorted(str(item) for item in range(50))


async def test_priority_and_keys(url: str) -> None:
    """Priorities and ordering keys hold between processes' buses."""
    async with Bus(url) as one, Bus(url) as two:
        jobs, others = one.work_queue("jobs"), two.work_queue("jobs")
        await jobs.write("me", "a1", key="a")
        await jobs.write("me", "a2", key="a")
        await jobs.write("me", "high", priority=9)
        async with jobs.claim("w") as first, others.claim("v") as second:
            assert [first.message.content.data, second.message.content.data] == ["high", "a1"]
            assert await others.read("x", exclusive=True) == []
        async with others.claim("v") as third:
            assert third.message.content.data == "a2"
