"""What the NATS store costs over the engine's own client: publish, claim and ack, and live latency.

Every ratio is taken within one run, against nats-py doing the same work by hand on a stream with the same
settings: awaited publishes, a pull consumer with awaited acks, and a push consumer. The server is a private
one, from the wheel or the path, with its data in a temporary folder.
"""

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from secrets import token_hex
from typing import Any

import nats
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StreamConfig

from benchmarks.harness import SMOKE, Rows, compare
from sssnbus import Bus, ChannelMessage
from sssnbus.message import encode_content
from sssnbus.stored import Draft, checksum
from sssnbus.stores.base import Ack, Kind
from sssnbus.stores.nats import Access, NATSStore, Settings
from tests.stores.nats.places import server_in

DATA = {"type": "user.login", "user": "carol", "attempt": 1}
COUNT = 50 if SMOKE else 1000
WIDE = 100
"""How many are in flight in the wide cases."""

TYPE, BODY = encode_content(DATA)
Work = Callable[[], Coroutine[Any, Any, float]]


def draft(log: str) -> Draft:
    """Return the message that everybody writes."""
    return Draft(
        log, None, time.time(), "bench", None, TYPE, b"", BODY, checksum("bench", None, TYPE, b"", BODY)
    )


class Raw:
    """The same work by hand."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def run(self, work: Callable[[JetStreamContext, str], Coroutine[Any, Any, float]]) -> float:
        """Give a connection and a stream of its own."""
        client = await nats.connect(f"nats://127.0.0.1:{self.port}")
        js, name = client.jetstream(), f"raw{token_hex(4)}"
        await js.add_stream(StreamConfig(name=name, subjects=[f"{name}.>"], discard=DiscardPolicy.NEW))
        try:
            return await work(js, f"{name}.events")
        finally:
            await js.delete_stream(name)
            await client.close()

    async def publish(self, wide: int) -> float:
        """Publish, ``wide`` at a time, each with its ack."""

        async def work(js: JetStreamContext, subject: str) -> float:
            started = time.perf_counter()
            for _ in range(COUNT // wide):
                await asyncio.gather(*(js.publish(subject, BODY) for _ in range(wide)))
            return time.perf_counter() - started

        return await self.run(work)

    async def claim(self, wide: int) -> float:
        """Fetch and ack, ``wide`` at a time, and wait until the acks are taken."""

        async def work(js: JetStreamContext, subject: str) -> float:
            for _ in range(COUNT // WIDE + 1):
                await asyncio.gather(*(js.publish(subject, BODY) for _ in range(WIDE)))
            pull = await js.pull_subscribe(subject, durable="worker")
            started = time.perf_counter()
            for _ in range(COUNT // wide):
                messages = await pull.fetch(wide)
                await asyncio.gather(*(message.ack_sync() for message in messages))
            return time.perf_counter() - started

        return await self.run(work)

    async def latency(self) -> float:
        """Publish and see it come by a push consumer on another connection; return the median."""

        async def work(js: JetStreamContext, subject: str) -> float:
            client = await nats.connect(f"nats://127.0.0.1:{self.port}")
            came = asyncio.Event()
            stamps: list[float] = []

            async def take(_: object) -> None:
                stamps.append(time.perf_counter())
                came.set()

            await client.jetstream().subscribe(subject, cb=take, ordered_consumer=True)
            spans = []
            for _ in range(COUNT // 2):
                came.clear()
                started = time.perf_counter()
                await js.publish(subject, BODY)
                await came.wait()
                spans.append(stamps[-1] - started)
            await client.close()
            return statistics.median(spans)

        return await self.run(work)


class Ours:
    """The store, and whole channels over it."""

    def __init__(self, port: int) -> None:
        self.server = f"nats://127.0.0.1:{port}"

    async def run(self, work: Callable[[NATSStore], Coroutine[Any, Any, float]]) -> float:
        """Give an open store in a place of its own."""
        settings = Settings(prefix=f"b{token_hex(6)}")
        store = NATSStore(Access(self.server, (self.server,)), settings)
        await store.open()
        await store.declare("a", Kind.LOG)
        await store.declare("q", Kind.QUEUE)
        try:
            return await work(store)
        finally:
            for name in ("a", "q"):
                await store.drop(name)
            await store.aclose()

    async def publish(self, wide: int) -> float:
        """Append, ``wide`` at a time."""

        async def work(store: NATSStore) -> float:
            started = time.perf_counter()
            for _ in range(COUNT // wide):
                await asyncio.gather(*(store.append([draft("a")]) for _ in range(wide)))
            return time.perf_counter() - started

        return await self.run(work)

    async def claim(self, wide: int) -> float:
        """Claim and ack, ``wide`` at a time, each by a task of its own."""

        async def one(store: NATSStore) -> None:
            claimed = await store.claim("q", worker="w", lease=60)
            await store.settle("q", [Ack(each.stored.sequence, each.token) for each in claimed.leases])

        async def work(store: NATSStore) -> float:
            for _ in range(COUNT // WIDE + 1):
                await asyncio.gather(*(store.append([draft("q")]) for _ in range(WIDE)))
            await store.counts("q")
            started = time.perf_counter()
            for _ in range(COUNT // wide):
                await asyncio.gather(*(one(store) for _ in range(wide)))
            return time.perf_counter() - started

        return await self.run(work)

    async def latency(self) -> float:
        """Write and see it come to a subscriber of another bus; return the median."""
        url = f"{self.server}?prefix=b{token_hex(6)}"
        async with Bus(url) as here, Bus(url) as there:
            came = asyncio.Event()
            stamps: list[float] = []

            async def take(_: ChannelMessage) -> None:
                stamps.append(time.perf_counter())
                came.set()

            spans = []
            async with there.broadcast("events").subscribe("a", take):
                events = here.broadcast("events")
                await events.write("bench", DATA)
                await came.wait()
                for _ in range(COUNT // 2):
                    came.clear()
                    started = time.perf_counter()
                    await events.write("bench", DATA)
                    await came.wait()
                    spans.append(stamps[-1] - started)
            return statistics.median(spans)


def timed(work: Callable[[], Coroutine[Any, Any, float]]) -> Callable[[], float]:
    """Return a contender that takes its own time."""
    return lambda: asyncio.run(work())


def main() -> None:
    """Print the table."""
    folder = Path(tempfile.mkdtemp(prefix="sssnbus-bench-"))
    server = server_in(folder)
    server.start()
    raw, ours, rows = Raw(server.port), Ours(server.port), Rows("NATS store, JetStream with files")
    try:
        for wide in (1, WIDE) if not SMOKE else (1, 10):
            contenders = {
                "nats-py by hand": timed(lambda wide=wide: raw.publish(wide)),  # type: ignore[misc]
                "append": timed(lambda wide=wide: ours.publish(wide)),  # type: ignore[misc]
            }
            rows.add(f"messages/s published, {wide} in flight", compare(contenders, COUNT))
        for wide in (1, WIDE) if not SMOKE else (1, 10):
            contenders = {
                "nats-py by hand": timed(lambda wide=wide: raw.claim(wide)),  # type: ignore[misc]
                "claim + settle": timed(lambda wide=wide: ours.claim(wide)),  # type: ignore[misc]
            }
            rows.add(f"claims + acks/s, {wide} in flight", compare(contenders, COUNT))
        contenders = {"push consumer by hand": timed(raw.latency), "subscription": timed(ours.latency)}
        rows.add("live latency, median, as rate: 1/s", compare(contenders, 1))
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    rows.print()


if __name__ == "__main__":
    main()
