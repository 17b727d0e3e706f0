"""The same program on several hosts: a server on one, publishers, subscribers and workers on others."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.hosts import Host, hosts
from tests.servers.postgres import PostgresServer, programs
from tests.servers.process import Server, free_port
from tests.servers.redis import redis_server
from tests.stores.nats.places import binary

MESSAGES = 50

# What the hosts have in common is the program and a URL.
PROGRAM = """
import asyncio, json, sys
from sssnbus import Bus

MESSAGES = int(sys.argv[3])


async def publish(bus):
    events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
    for number in range(MESSAGES):
        await events.write("publisher", number, topic="number")
        await jobs.write("publisher", number)
    answer = await events.request("publisher", "how many?", topic="question", timeout=20)
    return [answer.content.data]


async def listen(bus):
    events, seen = bus.broadcast("events"), []
    async with events.subscribe("listener", start="earliest", topic=["number", "question"]) as subscription:
        async for message in subscription:
            if message.topic == "question":
                await events.reply(message, "listener", len(seen))
                return seen
            seen.append(message.content.data)


async def work(bus):
    jobs, done = bus.work_queue("jobs"), []
    while len(done) < MESSAGES // 2:
        async with jobs.claim("worker") as claim:
            done.append(claim.message.content.data)
    return done


async def main():
    async with asyncio.timeout(60), Bus(sys.argv[1]) as bus:
        print(json.dumps(await globals()[sys.argv[2]](bus)))


asyncio.run(main())
"""

KNOCK = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"


def redis_words(folder: Path, address: str, port: int) -> list[str] | None:
    """Return what runs a Redis that other hosts may use."""
    program = redis_server()
    options = ["--bind", address, "--protected-mode", "no", "--dir", str(folder), "--save", ""]
    return None if program is None else [program, "--port", str(port), *options]


def nats_words(folder: Path, address: str, port: int) -> list[str] | None:
    """Return what runs a NATS server with JetStream."""
    program = binary()
    return None if program is None else [program, "-js", "-sd", str(folder), "-a", address, "-p", str(port)]


def postgres_words(folder: Path, address: str, port: int) -> list[str] | None:
    """Return what runs a PostgreSQL that other hosts may use."""
    if programs() is None:
        return None
    server = PostgresServer(folder)
    with (server.data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    return [*server.command, "-c", f"port={port}", "-c", f"listen_addresses={address}"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that the user of any server may enter."""
    with tempfile.TemporaryDirectory(prefix="sssnbus-hosts-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def places() -> Iterator[list[Host]]:
    """Give a host for the server and two for programs."""
    with hosts(3) as found:
        yield found


def run(host: Host, *words: str) -> "subprocess.Popen[str]":
    """Start the program on a host."""
    command = host.command([sys.executable, "-c", PROGRAM, *words])
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("redis://{}:{}", redis_words),
        ("nats://{}:{}", nats_words),
        pytest.param(
            f"postgresql://postgres:{PostgresServer.password}@{{}}:{{}}/postgres",
            postgres_words,
            marks=pytest.mark.torture,
        ),
    ],
    ids=["redis", "nats", "postgresql"],
)
def test_one_program_on_several_hosts(
    place: str, words: Callable[[Path, str, int], list[str] | None], places: list[Host], folder: Path
) -> None:
    """Broadcast, queue and request go between hosts as they go between processes of one."""
    home, one, two = places
    port = free_port()
    command = words(folder, home.address, port)
    if command is None:
        pytest.skip("there is no such server for this platform")

    def ready() -> bool:
        knock = home.command([sys.executable, "-c", KNOCK, home.address, str(port)])
        return subprocess.run(knock, capture_output=True, check=False).returncode == 0

    server = Server(home.command(command), port, folder / "server.log", ready)
    server.start()
    running = {}
    try:
        url = place.format(home.address, port)
        for name, host, role in (
            ("listener", one, "listen"),
            ("worker of one", one, "work"),
            ("worker of two", two, "work"),
            ("publisher", two, "publish"),
        ):
            running[name] = run(host, url, role, str(MESSAGES))
        ended = {name: process.communicate(timeout=90) for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
        server.stop()
    assert {name: error for name, (_, error) in ended.items()} == dict.fromkeys(running, "")
    results = {name: json.loads(output) for name, (output, _) in ended.items()}
    assert results["listener"] == list(range(MESSAGES))
    assert results["publisher"] == [MESSAGES]
    assert sorted(results["worker of one"] + results["worker of two"]) == list(range(MESSAGES))
