"""Everything at once: publishers, workers and the server die at random, and nothing acknowledged is lost."""

import asyncio
import os
import random
import time
from collections.abc import Iterator

import pytest

from sssnbus import Bus
from tests.processes.actor import QUEUE
from tests.processes.crew import Crew, crew_at
from tests.processes.test_torture import BATCH, CONCURRENCY, DRAIN, Torture, drain
from tests.servers.process import Server

SECONDS = float(os.environ.get("SSSNBUS_TORTURE_SECONDS", "20"))

CALM = 8
"""How many clients die between two deaths of the server: all must have found it again by then."""


@pytest.fixture
def crew(server: Server) -> Iterator[Crew]:
    """Give a crew on that server; what one of them holds is free soon after its death."""
    with crew_at(f"redis://127.0.0.1:{server.port}?timeout=30") as crew:
        yield crew


async def whole(url: str) -> list[int]:
    """Return the places of what the queue holds, when every worker has left it: none."""
    async with Bus(url) as bus:
        store = await bus.store()
        return [stored.sequence for stored in (await store.read(QUEUE, after=0, limit=1000)).messages]


def everything_at_once(crew: Crew, server: Server, seconds: float) -> None:
    """Kill producers, workers and the server at random for a while, drain, and count."""
    seed = int(os.environ.get("SSSNBUS_TORTURE_SEED", random.randrange(10**6)))
    torture = Torture(crew, random.Random(seed))
    for part in ("publish", "publish", "work", "work", "work"):
        torture.start(part)
    until = time.monotonic() + seconds
    crashes = 0
    while time.monotonic() < until:
        for _ in range(CALM):
            torture.kill_one()
        server.kill()
        server.start()
        crashes += 1
    torture.stop_producers()
    left, dead = asyncio.run(drain(crew.url))
    torture.stop_workers()
    acked, handled = torture.acked(), torture.handled()
    repeated = sum(times - 1 for times in handled.values())
    print(  # noqa: T201  # to play a failure again
        f"seed {seed}: {sum(torture.kills.values())} kills {dict(torture.kills)} and {crashes} of the server,"
        f" {len(acked)} acked, {len(handled)} handled, {repeated} repeated"
    )
    assert (left, dead) == (0, 0)
    assert acked - handled.keys() == set(), "an acknowledged job was never handled"
    assert repeated <= torture.kills["work"] * BATCH * CONCURRENCY
    assert asyncio.run(whole(crew.url)) == []


@pytest.mark.torture
@pytest.mark.timeout(SECONDS + 4 * DRAIN)
def test_everything_at_once(crew: Crew, server: Server) -> None:
    """Nothing acknowledged stays undone, and repeats are no more than what the dead had in their hands."""
    everything_at_once(crew, server, SECONDS)
