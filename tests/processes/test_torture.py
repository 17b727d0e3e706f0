"""Everything at once: producers and workers that die at random, and a queue that must lose nothing."""

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from sssnbus import Bus
from tests.processes.actor import QUEUE
from tests.processes.crew import Actor, Crew

SECONDS = float(os.environ.get("SSSNBUS_TORTURE_SECONDS", "15"))
BATCH, TASKS, CONCURRENCY = 10, 2, 2
DRAIN = 60.0
"""Seconds that the survivors get for what is left."""


class Torture:
    """A crew in which somebody dies all the time."""

    def __init__(self, crew: Crew, luck: random.Random) -> None:
        self.kills: Counter[str] = Counter()
        self._crew, self._luck, self._count = crew, luck, 0
        self._alive: list[Actor] = []
        self._dead: list[Actor] = []

    def start(self, part: str) -> None:
        """Let one more producer or worker begin."""
        self._count += 1
        name = f"{part}-{self._count}"
        if part == "publish":
            actor = self._crew.start(part, name=name, kind="queue", batch=BATCH, tasks=TASKS)
            actor.tell()
        else:
            # Nobody is to be given up here: a message may meet many that die.
            actor = self._crew.start(
                part, name=name, batch=BATCH, concurrency=CONCURRENCY, max_deliveries=1000
            )
        self._alive.append(actor)

    def kill_one(self) -> None:
        """Kill somebody who is at work, and put another in the place."""
        victim = self._luck.choice(self._alive)
        victim.expect("acked" if victim.part == "publish" else "begun")
        self._alive.remove(victim)
        victim.kill()
        self._dead.append(victim)
        self.kills[victim.part] += 1
        self.start(victim.part)

    def stop_producers(self) -> None:
        """Let those that write finish."""
        for actor in [actor for actor in self._alive if actor.part == "publish"]:
            actor.tell("stop")
            actor.join(patience=DRAIN)
            self._alive.remove(actor)
            self._dead.append(actor)

    def stop_workers(self) -> None:
        """End the workers in order."""
        for actor in self._alive:
            if not actor.said("ready"):
                actor.expect("ready")
            actor.signal(signal.SIGTERM)
        for actor in self._alive:
            actor.join(patience=DRAIN)
        self._dead += self._alive
        self._alive = []

    def acked(self) -> set[str]:
        """Return the ids of all jobs of which a producer was told that they are stored."""
        return {id for actor in self._dead for _, _, id in actor.listed("acked")}

    def handled(self) -> Counter[str]:
        """Return how often each job was handled to the end."""
        return Counter(id for actor in self._dead for id, _, _ in actor.said("handled"))


async def drain(url: str) -> tuple[int, int]:
    """Wait until the queue is empty; return how many jobs are left, and how many are dead."""
    deadline = time.monotonic() + DRAIN
    async with Bus(url) as bus:
        queue = bus.work_queue(QUEUE)
        while True:
            now = await queue.statistics()
            left = now.ready + now.delayed + now.leased
            if not left or time.monotonic() > deadline:
                return left, now.dead
            await asyncio.sleep(0.1)


def everything_at_once(crew: Crew, path: Path, seconds: float) -> None:
    """Kill producers and workers at random for a while, drain, and count."""
    seed = int(os.environ.get("SSSNBUS_TORTURE_SEED", random.randrange(10**6)))
    torture = Torture(crew, random.Random(seed))
    for part in ("publish", "publish", "work", "work", "work"):
        torture.start(part)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        torture.kill_one()
    torture.stop_producers()
    left, dead = asyncio.run(drain(crew.url))
    torture.stop_workers()
    acked, handled = torture.acked(), torture.handled()
    repeated = sum(times - 1 for times in handled.values())
    print(  # noqa: T201  # to play a failure again
        f"seed {seed}: {sum(torture.kills.values())} kills {dict(torture.kills)}, {len(acked)} acked,"
        f" {len(handled)} handled, {repeated} repeated"
    )
    assert (left, dead) == (0, 0)
    assert acked - handled.keys() == set(), "an acknowledged job was never handled"
    assert repeated <= torture.kills["work"] * BATCH * CONCURRENCY
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.torture
@pytest.mark.timeout(SECONDS + 4 * DRAIN)
def test_everything_at_once(crew: Crew, path: Path) -> None:
    """Nothing acknowledged stays undone, and repeats are no more than what the dead had in their hands."""
    everything_at_once(crew, path, SECONDS)


@pytest.mark.timeout(120)
def test_a_little_of_everything(crew: Crew, path: Path) -> None:
    """The same for a moment."""
    everything_at_once(crew, path, 2.0)
