"""``sssnbus move``."""

import json
from pathlib import Path

import pytest

from tests.cli.test_read import fill, ids_of
from tests.cli.tools import NOTHING, Run, done


def test_one(cli: Run) -> None:
    """The oldest message is moved and printed; its id stays (SB-016, SB-054)."""
    ids = fill(cli, "a", "b", queue="src")
    assert cli("move", "src", "dst") == done("a\n")
    assert cli("stats", "src") == done("src: 1\n")
    assert ids_of(cli, "dst") == ids[:1]
    assert cli("move", "src", "dst", "--json") == done(
        f'{{"message": "b", "timestamp": {ids[1]}, "id": "{ids[1]}"}}\n'
    )
    assert cli("move", "src", "dst") == NOTHING
    assert cli("move", "never", "dst", "--all", "--json") == NOTHING
    assert cli("read", "dst", "--all", "-t") == done(f"{ids[0]}\ta\n{ids[1]}\tb\n")


def test_all(cli: Run) -> None:
    """``--all`` moves what can be read, in order; what was consumed stays (SB-017, SB-090, SB-149)."""
    ids = fill(cli, *"abcd", queue="src")
    assert cli("read", "src") == done("a\n")
    moved = cli("move", "src", "dst", "--all", "--json")
    assert [json.loads(line)["message"] for line in moved.lines] == [*"bcd"]
    assert [json.loads(line)["id"] for line in moved.lines] == ids[1:]
    assert cli("stats", "src") == done("src: 0 (1 total, 1 claimed)\n")
    assert cli("read", "dst", "--all") == done("b\nc\nd\n")


def test_bounds(cli: Run) -> None:
    """Bounds choose among the messages, one or all of them (SB-094, SB-095, SB-096, SB-097)."""
    ids = fill(cli, *"abcde", queue="src")
    assert cli("move", "src", "dst", "--after", ids[2]) == done("d\n")
    assert cli("move", "src", "dst", "--after", ids[0], "--before", ids[4], "--all") == done("b\nc\n")
    assert cli("move", "src", "dst", "--before", ids[0]) == NOTHING
    assert cli("read", "src", "--all") == done("a\ne\n")


def test_by_id(cli: Run) -> None:
    """``-m`` moves a message that can be read, or that was consumed; it can be read again then (SB-098)."""
    ids = fill(cli, "a", "b", queue="src")
    assert cli("read", "src") == done("a\n")
    for id, text in zip(ids, "ab", strict=True):
        assert cli("move", "src", "dst", "-m", id) == done(f"{text}\n")
        assert cli("move", "src", "dst", "-m", id) == NOTHING
    assert cli("exists", "src").code == 2
    assert cli("read", "dst", "--all") == done("a\nb\n")


def test_held_message_stays(cli: Run) -> None:
    """What somebody holds is not moved, not even by its id."""
    (id,) = fill(cli, "a", queue="src")
    assert cli("claim", "src", "--for", "100").code == 0
    assert cli("move", "src", "dst", "-m", id) == NOTHING
    assert cli("move", "src", "dst", "--all") == NOTHING
    assert cli("stats", "src") == done("src: 0 (1 total, 1 claimed)\n")


def test_same_queue(cli: Run, tmp_path: Path) -> None:
    """Source and destination must differ, also behind an alias (SB-054)."""
    text = "Source and destination queues cannot be the same"
    assert cli("alias", "add", "x", "src") == done()
    for dest in ("src", "@x"):
        assert cli("move", "src", dest) == (1, "", f"sssnbus: error: {text}\n")
    assert cli("move", "src", "src", "--json") == (
        1,
        "",
        f'{{"error": "INVALID_ARGUMENT", "message": "{text}", "retryable": false}}\n',
    )


@pytest.mark.parametrize("more", [["--all"], ["--before", "5s"], ["--after", "5s"]])
def test_exclusions(cli: Run, more: list[str]) -> None:
    """``-m`` goes with no other selection (SB-098)."""
    code, out, err = cli("move", "a", "b", "-m", "1" * 19, *more)
    assert (code, out) == (1, "")
    assert "error: --message cannot be used with --all, --after, or --before" in err


@pytest.mark.parametrize("words", [[], ["a"]])
def test_missing_operands(cli: Run, words: list[str]) -> None:
    """Both queues are required."""
    code, out, err = cli("move", *words)
    assert (code, out) == (1, "")
    assert "required" in err


def test_newline_warning(cli: Run) -> None:
    """Several messages in plain form warn of newlines inside one (SB-114)."""
    fill(cli, "a\nb", queue="src")
    assert "newline characters" in cli("move", "src", "dst", "--all").err
