"""Power cuts, simulated: what a disk may hold at a random moment is laid out, opened and counted."""

import asyncio
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sssnbus import BusError, ChannelMessage
from tests.channels.tools import data
from tests.faults.disk import ACKS, SYNC, WRITE, calls_in, image, lay, said
from tests.faults.tools import contents, integrity, run, seed

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Cut:
    """What was found after one power cut."""

    point: int
    """How many calls came before it."""
    lost: int = 0
    """Acknowledged messages that are gone."""
    halves: int = 0
    """Batches of which only a part is there."""
    prefix: bool = True
    """Whether nothing is missing before something that is there."""
    remade: bool = False
    """Whether the schema had been made and was gone."""
    damage: str = "ok"
    """What is wrong with the file, or why it could not be opened."""


@dataclass(frozen=True)
class Trial:
    """Many power cuts of one run."""

    seed: int
    cuts: list[Cut]

    def __str__(self) -> str:
        return f"seed {self.seed}"


def trial(shim: str, folder: Path, durability: str, points: int, rounds: int) -> Trial:
    """Let a child write under the shim, then cut its power at random points."""
    luck = random.Random(number := seed())
    live, log = folder / "live", folder / "log"
    live.mkdir()
    watched = {"LD_PRELOAD": shim, "FAULT_DIR": str(live), "FAULT_LOG": str(log)}
    run("writing", live, durability, 2, rounds, number, **watched)
    # The first has crashed; the second begins with what that has left.
    run("writing", live, durability, 1, rounds, number, **watched)
    calls = calls_in(log)
    kinds = Counter(call.kind for call in calls if call.name != ACKS)
    assert kinds[WRITE] > rounds, "the shim saw nothing of it"
    assert kinds[SYNC], "the shim saw nothing of it"
    made = next(index for index, call in enumerate(calls) if call.name == ACKS)
    making = min(made, points // 5)
    born = birth(live / "bus.db")
    cuts = []
    with asyncio.Runner() as runner:
        for point in sorted(luck.sample(range(len(calls)), points) + luck.sample(range(made), making)):
            here = folder / "image"
            lay(image(calls[:point], luck), here)
            cuts.append(examine(runner, here / "bus.db", point, said(calls[:point]), born))
            shutil.rmtree(here)
    return Trial(number, cuts)


def examine(runner: asyncio.Runner, path: Path, point: int, lines: Sequence[Any], born: float) -> Cut:
    """Open an image with the product, and compare it with what was acknowledged."""
    try:
        found = runner.run(contents(path))
    except BusError as error:
        return Cut(point, damage=repr(error))
    acked = {(line["channel"], id) for line in lines if "ids" in line for id in line["ids"]}
    there = {(channel, message.id) for channel, messages in found.items() for message in messages}
    sizes = [data(message) for messages in found.values() for message in messages]
    counts = Counter(item["batch"] for item in sizes)
    return Cut(
        point,
        lost=len(acked - there),
        halves=len({item["batch"] for item in sizes if counts[item["batch"]] != item["of"]}),
        prefix=all(is_prefix(messages) for messages in found.values()),
        remade=bool(lines) and birth(path) != born,
        damage=integrity(path),
    )


def birth(path: Path) -> float:
    """Return when the schema in a database was made."""
    with closing(sqlite3.connect(path)) as connection:
        return float(connection.execute("SELECT applied FROM migration").fetchone()[0])


def is_prefix(messages: Sequence[ChannelMessage]) -> bool:
    """Return whether messages are the first of their channel."""
    return [message.sequence for message in messages] == list(range(1, len(messages) + 1))


SHORT = {"disk": (30, 60), "process": (30, 60)}
FULL = {"disk": (240, 150), "process": (120, 150)}
"""How many power cuts, and how many rounds of writing before them."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(SHORT, id="short"), pytest.param(FULL, id="full", marks=pytest.mark.torture)],
)
def trials(
    request: pytest.FixtureRequest, shim: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Trial]:
    """Power cuts while a child writes, with each durability."""
    return {
        durability: trial(shim, tmp_path_factory.mktemp(durability), durability, points, rounds)
        for durability, (points, rounds) in request.param.items()
    }


@pytest.fixture(params=["disk", "process"])
def either(request: pytest.FixtureRequest, trials: dict[str, Trial]) -> Trial:
    """Power cuts with one durability or the other."""
    return trials[request.param]


def test_disk_loses_nothing_acknowledged(trials: dict[str, Trial]) -> None:
    """With durability "disk" every message that was acknowledged before a power cut is there after it."""
    assert [cut for cut in trials["disk"].cuts if cut.lost] == [], trials["disk"]


def test_process_may_lose_the_newest(trials: dict[str, Trial]) -> None:
    """With durability "process" the same count finds lost messages, so it would find them with "disk"."""
    assert [cut for cut in trials["process"].cuts if cut.lost] != [], trials["process"]


def test_every_image_is_sound(either: Trial) -> None:
    """Whatever the moment of a power cut, also while the file is made, the store opens and is sound."""
    assert [cut for cut in either.cuts if cut.damage != "ok"] == [], either


def test_batches_are_whole(either: Trial) -> None:
    """A power cut leaves all messages of a batch or none."""
    assert [cut for cut in either.cuts if cut.halves] == [], either


def test_a_prefix_is_kept(either: Trial) -> None:
    """What a power cut takes away is the end of a channel, never something before what it leaves."""
    assert [cut for cut in either.cuts if not cut.prefix] == [], either


def test_the_schema_is_kept(either: Trial) -> None:
    """Once a bus has started, a power cut leaves the schema that it made."""
    assert [cut for cut in either.cuts if cut.remade] == [], either
