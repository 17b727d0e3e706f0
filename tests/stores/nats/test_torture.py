"""Everything at once on NATS: producers, workers and the server itself die at random."""

import asyncio
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.processes.crew import Crew, crew_at
from tests.processes.test_torture import BATCH, CONCURRENCY, DRAIN, Torture, drain
from tests.servers.process import Server
from tests.stores.nats.places import url_of

SECONDS = float(os.environ.get("SSSNBUS_TORTURE_SECONDS", "20"))
WORKERS = 3


@pytest.fixture
def crew(server: Server) -> Iterator[Crew]:
    """Give a crew on it. Its dead are noticed soon, and a restart takes less than an operation may."""
    with crew_at(url_of(server, owner_timeout=2, timeout=30)) as crew:
        yield crew


def everything_at_once(crew: Crew, server: Server, seconds: float) -> None:
    """Kill for a while, drain, and count: rows 1 to 4 of the faults to survive, and the server with them."""
    seed = int(os.environ.get("SSSNBUS_TORTURE_SEED", random.randrange(10**6)))
    torture, restarts = Torture(crew, random.Random(seed)), 0
    for part in ("publish", "publish", *["work"] * WORKERS):
        torture.start(part)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(3):
            torture.kill_one()
        server.kill()
        server.start()
        restarts += 1
    torture.stop_producers()
    left, dead = asyncio.run(drain(crew.url))
    torture.stop_workers()
    acked, handled = torture.acked(), torture.handled()
    repeated = sum(times - 1 for times in handled.values())
    print(  # noqa: T201  # to play a failure again
        f"seed {seed}: {dict(torture.kills)}, {restarts} restarts, {len(acked)} acked,"
        f" {len(handled)} handled, {repeated} repeated"
    )
    assert (left, dead) == (0, 0)
    assert acked - handled.keys() == set(), "an acknowledged job was never handled"
    # While the server is away nobody is heard of, so that the living may be taken for dead as well.
    assert repeated <= (torture.kills["work"] + restarts * WORKERS) * BATCH * CONCURRENCY
    stored = defaultdict(set)
    for actor in torture._dead:
        for id, data, _ in actor.said("handled"):
            stored[json.dumps(data)].add(id)
    assert [data for data, ids in stored.items() if len(ids) > 1] == [], "a job was stored twice"


@pytest.mark.torture
@pytest.mark.timeout(SECONDS + 4 * DRAIN)
def test_everything_at_once(crew: Crew, server: Server) -> None:
    """Nothing acknowledged stays undone or is stored twice, whoever dies."""
    everything_at_once(crew, server, SECONDS)
