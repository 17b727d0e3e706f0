"""Many processes at one database at the same time."""

import json
from pathlib import Path

import pytest

from tests.cli.test_read import fill, ids_of, write_by_library
from tests.cli.tools import CROWD_PATIENCE, Run, at_once, done, shells

pytestmark = pytest.mark.timeout(CROWD_PATIENCE + 10)

FIVE = range(5)


def test_writers(cli: Run, tmp_path: Path) -> None:
    """Five writers with twenty commands each: none lost, doubled or failed (SB-131, SB-265)."""
    loop = "for n in $(seq 20); do sssnbus write q WRITER-$n || exit; done"
    assert set(shells(*(loop.replace("WRITER", str(writer)) for writer in FIVE), cwd=tmp_path)) == {done()}
    expected = {f"{writer}-{number}" for writer in FIVE for number in range(1, 21)}
    shown = [json.loads(line) for line in cli("peek", "q", "--all", "--json").lines]
    assert {message["message"] for message in shown} == expected
    assert len({message["id"] for message in shown}) == len(shown) == 100
    ids = [message["timestamp"] for message in shown]
    assert ids == sorted(ids)


def test_first_creation(cli: Run, tmp_path: Path) -> None:
    """Five processes make one database at the same moment, with different verbs (SB-269)."""
    ended = at_once(
        [("write", "q", "a"), ("init",), ("write", "q", "b"), ("list",), ("write", "r", "c")], cwd=tmp_path
    )
    assert [result.code for result in ended] == [0] * 5, ended
    assert sorted(cli("read", "q", "--all").lines) == ["a", "b"]


def test_movers(cli: Run, tmp_path: Path) -> None:
    """Five movers over a hundred messages: each message moves once (SB-169, SB-267)."""
    write_by_library(tmp_path, *[f"m{number}" for number in range(100)])
    moved: list[str] = []
    for result in shells(*["for n in 1 2; do sssnbus move q dst || exit; done"] * 5, cwd=tmp_path):
        assert (result.code, result.err) == (0, "")
        moved += result.lines
    assert sorted(moved) == sorted(f"m{number}" for number in range(10))
    rest = at_once([("move", "q", "dst", "--all") for _ in range(3)], cwd=tmp_path)
    assert sorted(result.code for result in rest) == [0, 2, 2], "one gets everything, the others nothing"
    assert sorted(len(result.lines) for result in rest) == [0, 0, 90]
    assert cli("stats", "q") == done("q: 0\n")
    assert len(set(ids_of(cli, "dst"))) == 100


@pytest.mark.parametrize("verb", [("read", "q"), ("delete", "q"), ("move", "q", "dst")])
def test_one_id(cli: Run, tmp_path: Path, verb: tuple[str, ...]) -> None:
    """Five processes want one message: one gets it (SB-059, SB-093, SB-267)."""
    ids = fill(cli, "a", "b")
    ended = at_once([(*verb, "-m", ids[0]) for _ in FIVE], cwd=tmp_path)
    assert sorted(result.code for result in ended) == [0, 2, 2, 2, 2], ended
    assert sum(result.out.count("a") for result in ended) == (0 if verb[0] == "delete" else 1)
    assert {result.err for result in ended} == {""}
    assert cli("read", "q", "--all") == done("b\n")


def test_peekers(cli: Run, tmp_path: Path) -> None:
    """Any number of processes may look at one message."""
    (id,) = fill(cli, "a")
    assert set(at_once([("peek", "q", "-m", id) for _ in FIVE], cwd=tmp_path)) == {done("a\n")}


def test_readers(cli: Run, tmp_path: Path) -> None:
    """Messages are shared out among readers: each to one (SB-267)."""
    write_by_library(tmp_path, *[f"m{number}" for number in range(300)])
    env = {"SSSNBUS_READ_COMMIT_INTERVAL": "7"}
    ended = at_once([("read", "q", "--all") for _ in FIVE], cwd=tmp_path, env=env)
    assert {result.code for result in ended} <= {0, 2}
    lines = [line for result in ended for line in result.lines]
    assert sorted(lines) == sorted(f"m{number}" for number in range(300))


def test_broadcast_among_writers(cli: Run, tmp_path: Path) -> None:
    """A broadcast among writers reaches every queue that was there, once (SB-142)."""
    for name in ("a", "b", "c"):
        cli("write", name, "first")
    ended = at_once(
        [("broadcast", "all")] + [("write", name, "more") for name in ("a", "b", "c", "d")], cwd=tmp_path
    )
    assert {result.code for result in ended} == {0}
    for name in ("a", "b", "c"):
        assert sorted(cli("read", name, "--all").lines) == ["all", "first", "more"]
