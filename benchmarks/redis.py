"""What the Redis store costs over redis-py doing the same work by hand, against one private server.

By hand: XADD of the same bytes; XREADGROUP of one entry and XACK; XREAD with BLOCK. With 100 in flight there
are two ways by hand: 100 tasks that share a pool of 100 connections, which is the same program as ours, and
pipelines of 100 commands, which is what a program would be written anew for. Ours is measured at the store,
and at the channel, which also encodes, checks and hands out messages.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

from redis.asyncio import BlockingConnectionPool, Redis

from benchmarks.harness import SMOKE, Rows, compare
from sssnbus import Bus
from sssnbus.message import encode_content
from sssnbus.stored import Draft, checksum
from sssnbus.stores.base import Ack, Kind
from sssnbus.stores.redis import Place, RedisStore
from tests.servers.redis import private_server, redis_server

DATA = {"type": "user.login", "user": "carol", "attempt": 1}
KIND, BODY = encode_content(DATA)
FIELDS: Any = {"id": "1700000000000000000", "from": "bench", "type": KIND, "at": "1700000000.5", "body": BODY}
COUNT = 100 if SMOKE else 2000
IN_FLIGHT = 100

Work = Callable[["World"], Awaitable[None]]


def draft(log: str) -> Draft:
    """Return a message as a channel would make it."""
    return Draft(
        log, None, time.time(), "bench", None, KIND, b"", BODY, checksum("bench", None, KIND, b"", BODY)
    )


class World:
    """The clients and stores of one contender's turn."""

    def __init__(self, port: int) -> None:
        self.client = Redis(port=port, protocol=2)
        pool = BlockingConnectionPool(port=port, protocol=2, max_connections=IN_FLIGHT)
        self.pool = Redis(connection_pool=pool)
        self.store = RedisStore(Place(port=port))
        self.bus = Bus(f"redis://127.0.0.1:{port}?prefix=bus")

    async def __aenter__(self) -> Self:
        await self.client.flushall()
        await self.store.open()
        await self.store.declare("events", Kind.LOG)
        await self.store.declare("jobs", Kind.QUEUE)
        await self.bus.start()
        await self.bus.broadcast("events").write("bench", DATA)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bus.stop()
        await self.store.aclose()
        await self.client.aclose()
        await self.pool.aclose()


async def at_once(work: Callable[[], Awaitable[object]]) -> None:
    """Let a hundred tasks do their share of the work."""

    async def share() -> None:
        for _ in range(COUNT // IN_FLIGHT):
            await work()

    await asyncio.gather(*(share() for _ in range(IN_FLIGHT)))


async def one_by_one(work: Callable[[], Awaitable[object]]) -> None:
    """Do the work in one task."""
    for _ in range(COUNT):
        await work()


async def pipelined(world: World) -> None:
    """Add entries by hand, a hundred in each pipeline."""
    for _ in range(COUNT // IN_FLIGHT):
        async with world.client.pipeline(transaction=False) as pipe:
            for _ in range(IN_FLIGHT):
                pipe.xadd("raw", FIELDS)
            await pipe.execute()


async def take_by_hand(client: Any, count: int = 1) -> None:
    """Read entries of a group and acknowledge them."""
    (found,) = await client.xreadgroup("group", "bench", {"raw": ">"}, count=count)
    await client.xack("raw", "group", *[id for id, _ in found[1]])


async def take(store: RedisStore, limit: int = 1) -> None:
    """Claim messages and acknowledge them."""
    leases = (await store.claim("jobs", worker="bench", lease=60, limit=limit)).leases
    await store.settle("jobs", [Ack(lease.stored.sequence, lease.token) for lease in leases])


async def fill(world: World) -> None:
    """Put into both queues what a turn takes out."""
    await world.client.xgroup_create("raw", "group", mkstream=True)
    await pipelined(world)
    for _ in range(COUNT // IN_FLIGHT):
        await world.store.append([draft("jobs")] * IN_FLIGHT)


async def connect_all(world: World) -> None:
    """Make the connections of the pool, which is no part of the work."""
    await asyncio.gather(*(world.pool.ping() for _ in range(IN_FLIGHT)))


async def fill_and_connect(world: World) -> None:
    """Prepare for a hundred tasks that work by hand."""
    await fill(world)
    await connect_all(world)


def turn(port: int, work: Work, prepare: Work | None = None) -> Callable[[], float]:
    """Return a contender that takes its time itself."""

    async def go() -> float:
        async with World(port) as world:
            if prepare is not None:
                await prepare(world)
            started = time.perf_counter()
            await work(world)
            return time.perf_counter() - started

    return lambda: asyncio.run(go())


def publishing(port: int, rows: Rows) -> None:
    """Compare the ways to write."""
    write: Work = lambda w: one_by_one(lambda: w.bus.broadcast("events").write("bench", DATA))  # noqa: E731
    cases: dict[str, Work] = {
        "xadd by hand": lambda w: one_by_one(lambda: w.client.xadd("raw", FIELDS)),
        "store.append": lambda w: one_by_one(lambda: w.store.append([draft("events")])),
        "channel.write": write,
    }
    rows.add("publish/s, 1 in flight", compare({n: turn(port, c) for n, c in cases.items()}, COUNT))
    cases = {
        "100 tasks by hand": lambda w: at_once(lambda: w.pool.xadd("raw", FIELDS)),
        "pipelines by hand": pipelined,
        "100 tasks, store.append": lambda w: at_once(lambda: w.store.append([draft("events")])),
        "100 tasks, channel.write": lambda w: at_once(lambda: w.bus.broadcast("events").write("bench", DATA)),
    }
    rows.add(
        "publish/s, 100 in flight", compare({n: turn(port, c, connect_all) for n, c in cases.items()}, COUNT)
    )


def working(port: int, rows: Rows) -> None:
    """Compare the ways to claim and acknowledge."""
    cases: dict[str, Work] = {
        "by hand": lambda w: one_by_one(lambda: take_by_hand(w.client)),
        "store": lambda w: one_by_one(lambda: take(w.store)),
    }
    rows.add("claim + ack/s, 1 in flight", compare({n: turn(port, c, fill) for n, c in cases.items()}, COUNT))
    cases = {
        "100 tasks by hand": lambda w: at_once(lambda: take_by_hand(w.pool)),
        "100 tasks, store": lambda w: at_once(lambda: take(w.store)),
    }
    rows.add(
        "claim + ack/s, 100 in flight",
        compare({n: turn(port, c, fill_and_connect) for n, c in cases.items()}, COUNT),
    )
    cases = {
        "by hand": lambda w: batches(lambda: take_by_hand(w.client, IN_FLIGHT)),
        "store": lambda w: batches(lambda: take(w.store, IN_FLIGHT)),
    }
    rows.add(
        "claim + ack/s, 100 at a time", compare({n: turn(port, c, fill) for n, c in cases.items()}, COUNT)
    )


async def batches(work: Callable[[], Awaitable[object]]) -> None:
    """Do the work a hundred at a time."""
    for _ in range(COUNT // IN_FLIGHT):
        await work()


async def raw_latency(port: int, count: int) -> list[float]:
    """Return how old entries are when a blocked XREAD brings them."""
    ages: list[float] = []
    async with Redis(port=port, protocol=2) as writer, Redis(port=port, protocol=2) as reader:

        async def listen() -> None:
            last: Any = "$"
            while len(ages) < count:
                found: Any = await reader.xread({"live": last}, block=1000)
                for _, entries in found:
                    last = entries[-1][0]
                    ages.extend(time.perf_counter() - float(fields[b"at"]) for _, fields in entries)

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0.2)
        while not listening.done():
            await writer.xadd("live", {"at": repr(time.perf_counter())})
            await asyncio.sleep(0.003)
    return ages


async def our_latency(port: int, count: int) -> list[float]:
    """Return how old messages are when a subscription of another bus brings them."""
    ages: list[float] = []
    url = f"redis://127.0.0.1:{port}?prefix=live"
    async with Bus(url) as one, Bus(url) as two, two.broadcast("live").subscribe("s") as subscription:
        writing = one.broadcast("live")

        async def listen() -> None:
            async for message in subscription:
                ages.append(time.perf_counter() - message.content.data["at"])
                if len(ages) >= count:
                    return

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0.2)
        while not listening.done():
            await writing.write("bench", {"at": time.perf_counter()})
            await asyncio.sleep(0.003)
    return ages


def latency(port: int, rows: Rows) -> None:
    """Compare how long a message takes from one connection to another."""
    count = 20 if SMOKE else 300
    halves: dict[str, list[float]] = {"XREAD by hand": [], "subscription": []}
    for _ in range(1 if SMOKE else 5):
        halves["XREAD by hand"].append(statistics.median(asyncio.run(raw_latency(port, count))) * 1e6)
        halves["subscription"].append(statistics.median(asyncio.run(our_latency(port, count))) * 1e6)
    base = statistics.median(halves["XREAD by hand"])
    rows.add(
        "live latency, p50 µs",
        {name: (m := statistics.median(found), m / base) for name, found in halves.items()},
    )


def main() -> None:
    """Print the table."""
    if redis_server() is None:
        raise SystemExit("No redis-server: install the 'test' dependency group, or put one on the PATH.")
    rows = Rows("Redis store, one server, nothing on the disk")
    with tempfile.TemporaryDirectory(prefix="sssnbus-bench-") as folder:
        server = private_server(Path(folder))
        server.start()
        try:
            publishing(server.port, rows)
            working(server.port, rows)
            latency(server.port, rows)
        finally:
            server.stop()
    rows.print()


if __name__ == "__main__":
    main()
