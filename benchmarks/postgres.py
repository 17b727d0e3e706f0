"""What the PostgreSQL store costs over the server itself: writes, claims and live messages.

Every ratio is taken within one run, against asyncpg doing the same work by hand on a private server with its
defaults (fsync on): a row in a plain table, a claim by SKIP LOCKED and an update, a deletion, LISTEN and a
read. By hand, tasks share a pool of up to ten connections, each with transactions of its own. By a more
careful hand, one in flight has a connection to itself, for a pool asks the server to reset what it takes
back; and many gather while a statement is under way and go together in the next, as they do here.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.harness import SMOKE, Rows, compare
from sssnbus import Bus, ChannelMessage
from tests.servers.postgres import PostgresServer

DATA = {"type": "user.login", "user": "carol", "attempt": 1}
BODY = json.dumps(DATA).encode()
FEW = 20 if SMOKE else 300
MANY = 200 if SMOKE else 3000
FLIGHT = 100
ROUNDS = 1 if SMOKE else 5

TABLES = """
DROP TABLE IF EXISTS raw_message, raw_job;
CREATE TABLE raw_message (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),
    sender text NOT NULL, type text NOT NULL, body bytea NOT NULL
);
CREATE TABLE raw_job (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL,
    state int NOT NULL DEFAULT 0, attempts int NOT NULL DEFAULT 0, until timestamptz, worker text
);
CREATE INDEX raw_ready ON raw_job (sequence) WHERE state = 0;
"""
INSERT = "INSERT INTO raw_message (sender, type, body) VALUES ($1, $2, $3) RETURNING sequence"
TELL = (
    "WITH new AS (INSERT INTO raw_message (sender, type, body) VALUES ($1, $2, $3) RETURNING sequence)"
    " SELECT pg_notify('raw', sequence::text) FROM new"
)
CLAIM = (
    "UPDATE raw_job SET state = 1, attempts = attempts + 1, until = now() + interval '60 s', worker = $1"
    " WHERE sequence = (SELECT sequence FROM raw_job WHERE state = 0 ORDER BY sequence LIMIT 1"
    " FOR UPDATE SKIP LOCKED) RETURNING sequence, body, attempts"
)
INSERT_MANY = (
    "INSERT INTO raw_message (sender, type, body) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])"
    " RETURNING sequence"
)
CLAIM_MANY = (
    "UPDATE raw_job SET state = 1, attempts = attempts + 1, until = now() + interval '60 s', worker = $1"
    " WHERE sequence = ANY (ARRAY(SELECT sequence FROM raw_job WHERE state = 0 ORDER BY sequence LIMIT $2"
    " FOR UPDATE SKIP LOCKED)) RETURNING sequence, body, attempts"
)
ACK_MANY = "DELETE FROM raw_job WHERE sequence = ANY ($1) AND state = 1 RETURNING sequence"
ACK = "DELETE FROM raw_job WHERE sequence = $1 AND state = 1"


async def in_flight(count: int, width: int, step: Callable[[], Awaitable[object]]) -> float:
    """Run a step so often, so many at once; return the seconds it took."""

    async def go() -> None:
        for _ in range(count // width):
            await step()

    await step()
    started = time.perf_counter()
    await asyncio.gather(*(go() for _ in range(width)))
    return time.perf_counter() - started


@asynccontextmanager
async def by_hand(url: str, width: int, pooled: bool) -> AsyncIterator[Any]:
    """Give what so many in flight run their statements with."""
    if pooled:
        async with asyncpg.create_pool(url, min_size=min(width, 10), max_size=10) as pool:
            yield pool
    else:
        connection = await asyncpg.connect(url)
        yield connection
        await connection.close()


async def raw_publish(url: str, count: int, width: int, pooled: bool = True) -> float:
    """Insert by hand."""
    async with by_hand(url, width, pooled) as pool:
        await pool.execute(TABLES)
        return await in_flight(count, width, lambda: pool.fetchval(INSERT, "bench", "json", BODY))


class Together:
    """Does in one statement what many ask for while another is under way."""

    def __init__(self, run: Callable[[list[Any]], Awaitable[list[Any]]]) -> None:
        self._run = run
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, item: object) -> Any:
        """Return what the statement gives for this item."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            results = await self._run([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)
            await asyncio.sleep(0)


async def batched_publish(url: str, count: int, width: int) -> float:
    """Insert by hand, many rows in a statement."""
    connection = await asyncpg.connect(url)

    async def insert(items: list[Any]) -> list[Any]:
        rows: list[Any] = await connection.fetch(INSERT_MANY, *map(list, zip(*items, strict=True)))
        return rows

    await connection.execute(TABLES)
    together = Together(insert)
    elapsed = await in_flight(count, width, lambda: together.ask(("bench", "json", BODY)))
    await connection.close()
    return elapsed


async def batched_work(url: str, count: int, width: int) -> float:
    """Claim and delete by hand, many rows in a statement."""
    claims, acks = await asyncpg.connect(url), await asyncpg.connect(url)
    await claims.execute(TABLES)
    await claims.execute(
        "INSERT INTO raw_job (body) SELECT $1 FROM generate_series(1, $2)", BODY, count + 200
    )

    async def claim(workers: list[Any]) -> list[Any]:
        rows: list[Any] = await claims.fetch(CLAIM_MANY, workers[0], len(workers))
        return rows

    async def ack(sequences: list[Any]) -> list[Any]:
        rows: list[Any] = await acks.fetch(ACK_MANY, sequences)
        return rows

    claiming, acking = Together(claim), Together(ack)

    async def step() -> None:
        row = await claiming.ask("w")
        await acking.ask(row["sequence"])

    elapsed = await in_flight(count, width, step)
    await claims.close()
    await acks.close()
    return elapsed


async def our_publish(url: str, count: int, width: int) -> float:
    """Write to a channel."""
    async with Bus(url) as bus:
        events = bus.broadcast("events")
        return await in_flight(count, width, lambda: events.write("bench", DATA))


async def raw_work(url: str, count: int, width: int, pooled: bool = True) -> float:
    """Claim and delete by hand."""
    async with by_hand(url, width, pooled) as pool:
        await pool.execute(TABLES)
        await pool.execute(
            "INSERT INTO raw_job (body) SELECT $1 FROM generate_series(1, $2)", BODY, count + 200
        )

        async def step() -> None:
            row = await pool.fetchrow(CLAIM, "w")
            await pool.execute(ACK, row["sequence"])

        return await in_flight(count, width, step)


async def our_work(url: str, count: int, width: int) -> float:
    """Claim and acknowledge on a queue."""
    async with Bus(url) as bus:
        jobs = bus.work_queue("jobs")
        await jobs.write_many("bench", [DATA] * (count + 200))

        async def step() -> None:
            (message,) = await jobs.read("w", exclusive=True, limit=1)
            await jobs.acknowledge("w", [message.id])

        elapsed = await in_flight(count, width, step)
        await jobs.clear()
        return elapsed


async def raw_live(url: str, count: int) -> list[float]:
    """Note how long a row takes from its insert to who listens and reads it."""
    ages: list[float] = []
    arrived, news = asyncio.Event(), asyncio.Event()
    writer, listener = await asyncpg.connect(url), await asyncpg.connect(url)
    await writer.execute(TABLES)
    await listener.add_listener("raw", lambda *_: news.set())

    async def read() -> None:
        last = 0
        while True:
            await news.wait()
            news.clear()
            query = "SELECT sequence, body FROM raw_message WHERE sequence > $1 ORDER BY sequence LIMIT 100"
            for row in await listener.fetch(query, last):
                last = row["sequence"]
                ages.append(time.monotonic() - json.loads(row["body"])["at"])
                arrived.set()

    reading = asyncio.create_task(read())
    for _ in range(count):
        arrived.clear()
        await writer.execute(TELL, "bench", "json", json.dumps({"at": time.monotonic()}).encode())
        await arrived.wait()
    reading.cancel()
    await asyncio.wait([reading])
    await writer.close()
    await listener.close()
    return ages


async def our_live(url: str, count: int) -> list[float]:
    """Note how long a message takes from the write in one bus to the callback in another."""
    ages: list[float] = []
    arrived = asyncio.Event()

    async def on_message(message: ChannelMessage) -> None:
        ages.append(time.monotonic() - message.content.data["at"])
        arrived.set()

    async with Bus(url) as one, Bus(url) as two:
        writer = one.broadcast("events")
        await two.broadcast("events").subscribe("s", on_message)
        # The first ones find out that somebody listens.
        for number in range(count + 5):
            arrived.clear()
            await writer.write("bench", {"at": time.monotonic()})
            await arrived.wait()
            if number == 4:
                ages.clear()
    return ages


def rates(rows: Rows, url: str) -> None:
    """Compare writes and claims, one and many in flight."""
    for title, raw, batched, ours in (
        ("publish/s", raw_publish, batched_publish, our_publish),
        ("claim + ack/s", raw_work, batched_work, our_work),
    ):
        for count, width in ((FEW, 1), (MANY, FLIGHT)):
            contenders = {
                "asyncpg by hand": timed(raw, url, count, width),
                "sssnbus": timed(ours, f"{url}?namespace=bench", count, width),
            }
            if width > 1:
                contenders["asyncpg by hand, batched"] = timed(batched, url, count, width)
            else:
                contenders["asyncpg by hand, alone"] = timed(partial(raw, pooled=False), url, count, width)
            rows.add(f"{title}, {width} in flight", compare(contenders, count, rounds=ROUNDS))


def timed(
    run: Callable[[str, int, int], Coroutine[Any, Any, float]], url: str, count: int, width: int
) -> Callable[[], float]:
    """Return a contender."""
    return lambda: asyncio.run(run(url, count, width))


def live(rows: Rows, url: str) -> None:
    """Compare the median age of live messages, in microseconds."""
    medians: dict[str, list[float]] = {"LISTEN and SELECT by hand": [], "sssnbus": []}
    for _ in range(ROUNDS):
        by_hand = asyncio.run(raw_live(url, FEW))
        ours = asyncio.run(our_live(f"{url}?namespace=bench", FEW))
        for name, ages in zip(medians, (by_hand, ours), strict=True):
            medians[name].append(statistics.median(ages) * 1e6)
    base = medians["LISTEN and SELECT by hand"]
    rows.add(
        "live message, p50 in µs",
        {
            name: (statistics.median(its), statistics.median(a / b for a, b in zip(its, base, strict=True)))
            for name, its in medians.items()
        },
    )


def main() -> None:
    """Print the table. ``SSSNBUS_TEST_POSTGRES_URL`` names another server to measure on."""
    rows = Rows("PostgreSQL store")
    given = os.environ.get("SSSNBUS_TEST_POSTGRES_URL")
    with tempfile.TemporaryDirectory(prefix="sssnbus-pg-") as folder:
        os.chmod(folder, 0o755)
        server = None if given else PostgresServer(Path(folder))
        try:
            if server is not None:
                server.start()
            url = given or (server.url if server is not None else "")
            if "--live" not in sys.argv:
                rates(rows, url)
            live(rows, url)
        finally:
            if server is not None:
                server.kill()
    rows.print()


if __name__ == "__main__":
    main()
