"""A cluster of three servers, of which one after the other is killed."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sssnbus import BusError
from sssnbus.stored import Stored
from sssnbus.stores.base import Ack, Kind
from sssnbus.stores.nats import Access, NATSStore, Settings
from sssnbus.testing.bench import draft, value
from tests.servers.process import Server, free_port
from tests.stores.nats.places import binary, prefix, server_in

KILLS = 3


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[Server]]:
    """Give three servers that keep everything three times."""
    if binary() is None:
        pytest.skip("there is no nats-server for this platform")
    routes = [free_port() for _ in range(3)]
    others = ", ".join(f"nats-route://127.0.0.1:{port}" for port in routes)
    servers = []
    for number, port in enumerate(routes):
        (folder := tmp_path / str(number)).mkdir()
        lines = f"cluster {{ name: c, listen: 127.0.0.1:{port}, routes: [{others}] }}"
        servers.append(server_in(folder, f"server_name: n{number}", lines))
    try:
        # None of them is ready before it has met another.
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
        yield servers
    finally:
        for server in servers:
            await asyncio.to_thread(server.kill)


async def opened(servers: list[Server], place: str) -> NATSStore:
    """Return an open store of the cluster; until there is a leader it is asked again."""
    hosts = tuple(f"nats://127.0.0.1:{server.port}" for server in servers)
    async with asyncio.timeout(30):
        while True:
            access = Access(hosts[0], hosts, timeout=20, connect_timeout=10)
            store = NATSStore(access, Settings(prefix=place, replicas=3))
            try:
                await store.open()
                await store.declare("a", Kind.LOG)
                await store.declare("q", Kind.QUEUE)
            except BusError:
                await store.aclose(0.5)
                continue
            return store


@pytest.mark.torture
@pytest.mark.timeout(120)
async def test_one_server_after_the_other_dies_for_long(cluster: list[Server]) -> None:
    """While two of three servers live nothing acked is lost, doubled or out of order."""
    place = prefix()
    writer, worker = await opened(cluster, place), await opened(cluster, place)
    acked: list[tuple[str, int]] = []
    jobs: list[str] = []
    done: set[str] = set()
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            (one,) = await writer.append([draft("a", len(acked))])
            acked.append((one.id, one.sequence))
            jobs.extend(p.id for p in await writer.append([draft("q", n) for n in range(3)]))

    async def work() -> None:
        while not stop.is_set() or len(done) < len(jobs):
            leases = (await worker.claim("q", worker="w", lease=60, limit=10)).leases
            settled = await worker.settle("q", [Ack(one.stored.sequence, one.token) for one in leases])
            done.update(one.stored.id for one, good in zip(leases, settled, strict=True) if good)

    async def harm() -> None:
        for _ in range(KILLS):
            before = len(acked)
            victim = random.choice(cluster)
            await asyncio.to_thread(victim.kill)
            while len(acked) < before + 5:  # noqa: ASYNC110  # what is waited for has no event
                await asyncio.sleep(0.02)
            await asyncio.to_thread(victim.start)
            before = len(acked)
            while len(acked) < before + 5:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.02)
        stop.set()

    async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
        for part in (write, work, harm):
            tasks.create_task(part())
    found: list[Stored] = []
    while page := (await worker.read("a", after=len(found), limit=1000)).messages:
        found += page
    assert [(stored.id, stored.sequence) for stored in found] == acked
    assert [value(stored) for stored in found] == list(range(len(acked)))
    assert done == set(jobs)
    await writer.aclose()
    await worker.aclose()
