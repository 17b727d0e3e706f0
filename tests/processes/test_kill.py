"""Writers killed in the middle of their commits."""

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from sssnbus import Bus
from tests.processes.actor import CHANNEL
from tests.processes.crew import Actor, Crew, crew_at

WRITERS, TASKS, BATCH = 2, 4, 5


def stored(url: str) -> list[tuple[int, str, str, int]]:
    """Return sequence, id, writer and batch of every message, in order."""

    async def read() -> list[tuple[int, str, str, int]]:
        found = []
        async with Bus(url) as bus:
            events = bus.broadcast(CHANNEL)
            while page := await events.read("check", limit=1000):
                for message in page:
                    data = message.content.data
                    found.append((message.sequence, message.id, data["by"], data["batch"]))
        return found

    return asyncio.run(read())


def is_sound(path: Path) -> bool:
    """Let SQLite itself look at the whole file."""
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]
    finally:
        connection.close()


def burst_and_kill(crew: Crew, turn: int, luck: random.Random) -> list[Actor]:
    """Let two writers write as fast as they can, and kill both at a random moment."""
    writers = [
        crew.start_ready("publish", name=f"{turn}-{n}", batch=BATCH, tasks=TASKS) for n in range(WRITERS)
    ]
    for writer in writers:
        writer.tell()
    for _ in range(luck.randrange(1, 60)):
        luck.choice(writers).expect("acked")
    for writer in writers:
        writer.kill()
    return writers


@pytest.mark.timeout(600)
@pytest.mark.parametrize("durability", ["disk", "process"])
@pytest.mark.parametrize("turns", [3, pytest.param(20, marks=pytest.mark.torture)])
def test_kill_in_a_commit_burst(turns: int, durability: str, path: Path) -> None:
    """SIGKILL of writers: what was acknowledged is there once, batches are whole, the file is sound (BV-09).

    It cannot tell the two durabilities apart, only a power cut can; both must keep this promise.
    """
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201  # to play a failure again
    luck = random.Random(seed)
    url = f"sqlite:///{path}?durability={durability}"
    acked: dict[str, int] = {}
    with crew_at(url) as crew:
        for turn in range(turns):
            for writer in burst_and_kill(crew, turn, luck):
                acked |= {id: sequence for _, sequence, id in writer.listed("acked")}
            assert is_sound(path)
    found = stored(url)
    assert [sequence for sequence, *_ in found] == list(range(1, len(found) + 1))
    places = {id: sequence for sequence, id, *_ in found}
    assert len(places) == len(found)
    assert {id for id, sequence in acked.items() if places.get(id) != sequence} == set()
    # Each batch is there as a whole, in one piece.
    batches = [(by, batch) for _, _, by, batch in found]
    for start in range(0, len(batches), BATCH):
        assert len(set(batches[start : start + BATCH])) == 1
    assert len(set(batches)) * BATCH == len(batches)
