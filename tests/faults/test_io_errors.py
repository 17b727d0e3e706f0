"""Disks that fail: no wrong word to anybody, and the same bus goes on when the disk does."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.disk import CUT, SYNC, UNLINK, WRITE
from tests.faults.tools import run

pytestmark = pytest.mark.timeout(300)

Plan = dict[str, Any]
Report = dict[str, Any]


WAYS = ((WRITE, errno.EIO), (WRITE, errno.ENOSPC), (SYNC, errno.EIO), (CUT | UNLINK, errno.EIO))
"""Which kinds of calls fail, and how."""


def plans(at: str, numbers: Sequence[int]) -> list[Plan]:
    """Return every way to fail in a phase, at each of these calls: once, or from there on."""
    return [
        {"at": at, "kinds": kinds, "nth": nth, "times": times, "errno": error}
        for nth in numbers
        for times in (1, -1)
        for kinds, error in WAYS
    ]


SHORT = (
    plans("work", (1, 2, 9))
    + plans("start", (1, 3))
    + plans("stop", (1,))
    + plans("restart", (1,))
    + plans("serve", (1,))
)
FULL = [
    *plans("work", range(1, 61)),
    *plans("start", range(1, 31)),
    *plans("stop", range(1, 21)),
    *plans("restart", range(1, 11)),
    *plans("serve", range(1, 21)),
]


@pytest.fixture(
    scope="module",
    params=[pytest.param(SHORT, id="short"), pytest.param(FULL, id="full", marks=pytest.mark.torture)],
)
def reports(
    request: pytest.FixtureRequest, shim: str, tmp_path_factory: pytest.TempPathFactory
) -> list[Report]:
    """What a child tells of a disk that failed in each way in turn."""
    folder: Path = tmp_path_factory.mktemp("failing")
    text = json.dumps(request.param)
    lines = run("failing", folder, text, LD_PRELOAD=shim, FAULT_DIR=str(folder)).splitlines()
    found = [json.loads(line) for line in lines]
    assert [report["plan"] for report in found] == request.param
    return found


def test_faults_are_felt(reports: list[Report]) -> None:
    """Most of these faults reach a caller as an error of the store, so the rest of this can fail."""
    felt = [report for report in reports if report["hits"]]
    told = [report for report in felt if report["errors"]]
    assert len(felt) > len(reports) / 3
    assert len(told) > len(felt) / 2


def test_no_wrong_word(reports: list[Report]) -> None:
    """What was acknowledged is there, what was refused is not, and a job that was done is gone."""
    assert [report for report in reports if report["wrong"]] == []


def test_the_same_bus_goes_on(reports: list[Report]) -> None:
    """When the disk is well again the bus object that met the fault writes again."""
    assert [report for report in reports if report["stuck"]] == []


def test_workers_go_on(reports: list[Report]) -> None:
    """When the disk is well again a worker that met the fault does all jobs that are left."""
    assert [report for report in reports if report["left"]] == []


def test_the_file_is_sound(reports: list[Report]) -> None:
    """After a fault and a normal end the file is sound."""
    assert [report for report in reports if report["integrity"] != "ok"] == []


def test_counters_agree(reports: list[Report]) -> None:
    """After a fault the counters of every channel agree with the messages that it holds."""
    assert [report for report in reports if report["counted"] != report["there"]] == []


def test_a_full_disk_is_called_full(reports: list[Report]) -> None:
    """Callers are told of a full disk by an error of its own."""
    full = [report for report in reports if report["plan"]["errno"] == errno.ENOSPC and report["errors"]]
    assert [report for report in full if report["errors"] != ["StoreFull"]] == []
    assert full
