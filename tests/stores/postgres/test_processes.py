"""Several processes on a PostgreSQL store, some of which die, and a server that dies too."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from sssnbus import Bus
from tests.processes.actor import CHANNEL, QUEUE
from tests.processes.crew import Crew, crew_at
from tests.processes.test_kill import BATCH, burst_and_kill, stored
from tests.processes.test_torture import BATCH as JOBS
from tests.processes.test_torture import CONCURRENCY, Torture, drain
from tests.servers.postgres import PostgresServer
from tests.stores.postgres.tools import Site

SECONDS = float(os.environ.get("SSSNBUS_TORTURE_SECONDS", "20"))


@pytest.fixture
def crew(site: Site) -> Iterator[Crew]:
    """Start processes on a namespace; those that still run when the test ends are killed."""
    with crew_at(site.url()) as crew:
        yield crew


def write(crew: Crew, channel: str, *items: object) -> None:
    """Write from this process."""

    async def run() -> None:
        async with Bus(crew.url) as bus:
            kind = bus.broadcast if channel == CHANNEL else bus.work_queue
            await kind(channel).write_many("test", items)

    asyncio.run(run())


def test_durable_name_is_inherited(crew: Crew) -> None:
    """A durable name belongs to one process; when that is killed, the next goes on where it was."""
    first = crew.start_ready("follow", name="name")
    crew.start("follow", name="name").expect("refused")
    second = crew.start("follow", name="name", standby=True)
    second.expect("alive")
    write(crew, CHANNEL, "a", "b")
    first.expect("handled", [2, "b"])
    assert second.said("ready") == []
    first.kill()
    second.expect("ready", patience=15.0)
    write(crew, CHANNEL, "c")
    second.expect("handled", [3, "c"])
    # What was handled but not yet noted when the kill came may come again: the last one.
    assert [sequence for sequence, _ in second.said("handled")] in ([3], [2, 3])


def test_kill_a_worker_in_its_handler(crew: Crew) -> None:
    """What a killed worker had in its hands is handled by another, as its second attempt."""
    write(crew, QUEUE, {"act": "hang-victim"})
    victim = crew.start("work", name="victim")
    id, _, attempt = victim.expect("begun")["begun"]
    victim.kill()
    other = crew.start("work", name="other")
    # By its lock: its lease lasts five minutes.
    again, _, second = other.expect("handled")["handled"]
    assert (again, attempt, second) == (id, 1, 2)


@pytest.mark.torture
def test_poison_of_workers(crew: Crew) -> None:
    """A job that kills its worker each time becomes a dead letter."""
    write(crew, QUEUE, {"act": "exit"})
    for _ in range(2):
        crew.start("work", name="w", max_deliveries=2).join(9)
    last = crew.start_ready("work", name="w", max_deliveries=2)
    assert asyncio.run(drain(crew.url)) == (0, 1)
    assert last.said("begun") == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("turns", [2, pytest.param(25, marks=pytest.mark.torture)])
def test_kill_in_a_commit_burst(crew: Crew, turns: int) -> None:
    """SIGKILL of writers: what was acknowledged is there once, in its place, and batches are whole."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201  # to play a failure again
    luck = random.Random(seed)
    acked: dict[str, int] = {}
    for turn in range(turns):
        for writer in burst_and_kill(crew, turn, luck):
            acked |= {id: sequence for _, sequence, id in writer.listed("acked")}
    found = stored(crew.url)
    assert [sequence for sequence, *_ in found] == list(range(1, len(found) + 1))
    places = {id: sequence for sequence, id, *_ in found}
    assert len(places) == len(found)
    assert {id for id, sequence in acked.items() if places.get(id) != sequence} == set()
    counted = Counter((by, batch) for _, _, by, batch in found)
    assert set(counted.values()) == {BATCH}


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("seconds", [2.0, pytest.param(SECONDS, marks=pytest.mark.torture)])
def test_everything_at_once(own_server: PostgresServer, seconds: float) -> None:
    """Publishers, workers and the server are killed at random: nothing acknowledged stays undone."""
    seed = int(os.environ.get("SSSNBUS_TORTURE_SEED", random.randrange(10**6)))
    luck = random.Random(seed)
    site = Site(own_server.url, f"torture_{seed}")
    with crew_at(site.url(timeout=20, connect_timeout=20)) as crew:
        torture = Torture(crew, luck)
        for part in ("publish", "publish", "work", "work", "work"):
            torture.start(part)
        servers, until, next_server = 0, time.monotonic() + seconds, time.monotonic() + 1.5
        # On a slow machine a kill may take as long as all of it should.
        while time.monotonic() < until or not servers:
            if time.monotonic() >= next_server:
                own_server.kill()
                own_server.start()
                servers += 1
                next_server = time.monotonic() + 4.0
            torture.kill_one()
        torture.stop_producers()
        left, dead = asyncio.run(drain(crew.url))
        torture.stop_workers()
    acked, handled = torture.acked(), torture.handled()
    repeated = sum(times - 1 for times in handled.values())
    print(  # noqa: T201  # to play a failure again
        f"seed {seed}: {sum(torture.kills.values())} kills {dict(torture.kills)} and {servers} of the server,"
        f" {len(acked)} acked, {len(handled)} handled, {repeated} repeated"
    )
    assert (left, dead) == (0, 0)
    assert acked - handled.keys() == set(), "an acknowledged job was never handled"
    # A server that dies lets leases go with the locks of all workers: three at a time.
    assert repeated <= (torture.kills["work"] + 3 * servers) * JOBS * CONCURRENCY
