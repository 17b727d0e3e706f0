"""``sssnbus delete`` and ``sssnbus broadcast``."""

import pytest

from tests.cli.test_read import fill, ids_of
from tests.cli.tools import NOTHING, Run, done


def test_queue(cli: Run) -> None:
    """A queue goes with everything in it; one that is not there is no error (SB-058)."""
    fill(cli, "a", "b")
    fill(cli, "x", queue="other")
    cli("read", "q")
    assert cli("delete", "q") == done()
    assert cli("delete", "never") == done()
    assert cli("exists", "q").code == 2
    assert cli("list", "--stats") == done("other: 1\n")
    fill(cli, "c")
    assert cli("read", "q", "--all") == done("c\n")


def test_all(cli: Run) -> None:
    """``--all`` removes every queue; aliases stay (SB-060)."""
    for name in "abc":
        cli("write", name, "x")
    cli("alias", "add", "z", "a")
    assert cli("delete", "--all") == done()
    assert cli("list", "--stats") == done()
    assert cli("alias", "list") == done("z -> a\n")
    assert cli("delete", "--all") == done()


def test_one_message(cli: Run) -> None:
    """``-m`` consumes one message; its row stays until vacuum (SB-059, SB-126)."""
    ids = fill(cli, "a", "b", "c")
    other = fill(cli, "x", queue="other")[0]
    assert cli("delete", "q", "-m", ids[1]) == done()
    assert cli("stats", "q") == done("q: 2 (3 total, 1 claimed)\n")
    for id in (ids[1], other, "1" * 19):
        assert cli("delete", "q", "-m", id) == NOTHING
    assert cli("read", "q", "--all") == done("a\nc\n")
    cli("--vacuum")
    assert cli("exists", "q").code == 2


def test_wrong_words(cli: Run) -> None:
    """One of queue and ``--all`` is needed, and only one; nothing is removed else (SB-061)."""
    fill(cli, "a")
    assert cli("delete") == (1, "", "sssnbus: error: one of the arguments queue --all is required\n")
    assert "not allowed with argument" in cli("delete", "q", "--all").err
    assert "not allowed with argument" in cli("delete", "--all", "-m", "1" * 19).err
    assert cli("stats", "q") == done("q: 1\n")


def test_broadcast(cli: Run) -> None:
    """Every queue gets a copy of its own, also one that was read to its end (SB-022, SB-062, SB-142)."""
    assert cli("broadcast", "x") == NOTHING
    assert cli("list", "--stats") == done()
    fill(cli, "a", queue="one")
    fill(cli, "b", queue="two")
    cli("read", "two")
    assert cli("broadcast", "hello") == done()
    assert cli("peek", "one", "--all") == done("a\nhello\n")
    assert cli("peek", "two", "--all") == done("hello\n")
    ids = ids_of(cli, "one") + ids_of(cli, "two")
    assert len(set(ids)) == 3
    assert min(ids) == ids[0]


def test_broadcast_by_pattern(cli: Run) -> None:
    """A pattern chooses queues by their names, never aliases (SB-023, SB-062, SB-082)."""
    for name in ("jobs-a", "jobs-b", "other"):
        cli("write", name, "x")
    cli("alias", "add", "nick", "other")
    for words in (["--pattern", "jobs-*"], ["-p", "jobs-*"], ["--pattern=jobs-*"]):
        assert cli("broadcast", *words, "hey") == done()
    for pattern in ("nick", "JOBS-*", "none*"):
        assert cli("broadcast", "-p", pattern, "hey") == NOTHING
    assert cli("list") == done("jobs-a: 4\njobs-b: 4\nother: 1\n")


@pytest.mark.parametrize("text", ["--cleanup", "-x", "--", "--all", "a b", ""])
def test_broadcast_of_what_looks_like_an_option(cli: Run, text: str) -> None:
    """The message is data; ``--`` may stand before it (SB-120)."""
    cli("write", "q", "x")
    assert cli("broadcast", *([text] if text != "--" else ["--", "--"])) == done()
    assert cli("read", "q", "--all") == done(f"x\n{text}\n")


def test_broadcast_words(cli: Run) -> None:
    """Stdin needs ``-``, and there is one message (SB-062)."""
    cli("write", "q", "x")
    assert cli("broadcast", "-", stdin="in\n") == done()
    assert "required: message" in cli("broadcast").err
    assert "expected one argument" in cli("broadcast", "-p").err
    assert "unrecognized arguments" in cli("broadcast", "a", "b").err
    assert cli("broadcast", "--help").out.startswith("usage: sssnbus broadcast")
    assert cli("broadcast", "--", "--help") == done()
    assert cli("read", "q", "--all").out == "x\nin\n\n--help\n"
