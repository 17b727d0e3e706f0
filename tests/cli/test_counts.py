"""``sssnbus exists``, ``stats`` and ``list``."""

import json

import pytest

from tests.cli.tools import Run, done


def test_exists(cli: Run) -> None:
    """A queue exists while it holds what can be read or was not vacuumed (SB-020, SB-055, SB-103)."""
    assert cli("exists", "q") == (2, "", "")
    assert cli("exists", "q", "--json") == (2, '{"queue": "q", "exists": false}\n', "")
    cli("write", "q", "x")
    assert cli("exists", "q") == done()
    assert cli("exists", "q", "--json") == done('{"queue": "q", "exists": true}\n')
    cli("read", "q")
    assert cli("exists", "q") == done()
    assert cli("--vacuum").code == 0
    assert cli("exists", "q") == (2, "", "")


def test_stats(cli: Run) -> None:
    """Counts of one queue, to the byte (SB-019, SB-056)."""
    assert cli("stats", "missing") == done("missing: 0\n")
    for text in "abc":
        cli("write", "jobs", text)
    assert cli("stats", "jobs") == done("jobs: 3\n")
    cli("read", "jobs")
    assert cli("stats", "jobs") == done("jobs: 2 (3 total, 1 claimed)\n")
    assert json.loads(cli("stats", "jobs", "--json").out) == {
        "queue": "jobs", "pending": 2, "claimed": 1, "total": 3, "exists": True,
    }  # fmt: skip
    assert json.loads(cli("stats", "missing", "--json").out) == {
        "queue": "missing", "pending": 0, "claimed": 0, "total": 0, "exists": False,
    }  # fmt: skip


def test_list(cli: Run) -> None:
    """Queues by name; those with nothing to read only with ``--stats`` (SB-018, SB-021, SB-057, SB-141)."""
    assert cli("list") == cli("list", "--stats") == cli("list", "--json") == done()
    for name in ("jobs.b", "jobs.a", "other", "jobs.a"):
        cli("write", name, "x")
    assert cli("list") == done("jobs.a: 2\njobs.b: 1\nother: 1\n")
    assert cli("list", "--stats") == done("jobs.a: 2\njobs.b: 1\nother: 1\n")
    cli("read", "jobs.b")
    cli("read", "jobs.a")
    assert cli("list") == done("jobs.a: 1\nother: 1\n")
    total = "\nTotal claimed messages: 2/4\n"
    assert cli("list", "--stats") == done(
        "jobs.a: 1 (2 total, 1 claimed)\njobs.b: 0 (1 total, 1 claimed)\nother: 1\n" + total
    )
    assert cli("list", "--prefix", "jobs.", "--stats").lines[:2] == [
        "jobs.a: 1 (2 total, 1 claimed)",
        "jobs.b: 0 (1 total, 1 claimed)",
    ]
    assert [json.loads(line)["queue"] for line in cli("list", "--json").lines] == ["jobs.a", "other"]
    assert [json.loads(line) for line in cli("list", "--json", "--stats", "--prefix=jobs.b").lines] == [
        {"queue": "jobs.b", "pending": 0, "claimed": 1, "total": 1, "exists": True}
    ]


def test_patterns(cli: Run) -> None:
    """A prefix is literal; a pattern has wildcards and minds case (SB-057)."""
    for name in ("alpha", "beta", "weft.jobs.1", "weft.jobs.2", "Alpha"):
        cli("write", name, "x")
    assert cli("list", "-p", "a*") == done("alpha: 1\n")
    assert cli("list", "--pattern", "beta") == done("beta: 1\n")
    assert cli("list", "--pattern", "weft.jobs.*").lines == ["weft.jobs.1: 1", "weft.jobs.2: 1"]
    assert cli("list", "--prefix", "weft.jobs") == cli("list", "--pattern=weft*")
    assert cli("list", "--prefix", "eft") == cli("list", "--pattern", "z*") == done()
    assert "not allowed with argument" in cli("list", "--prefix", "a", "--pattern", "b").err
    assert "Invalid queue prefix" in cli("list", "--prefix", "a*").err


@pytest.mark.parametrize("words", [["exists"], ["stats"], ["list", "q"], ["list", "--cleanup", "-q"]])
def test_wrong_words(cli: Run, words: list[str]) -> None:
    """Words that do not fit are refused, and global options after the command, too (SB-043)."""
    cli("write", "q", "x")
    code, out, err = cli(*words)
    assert (code, out) == (1, "")
    assert err.startswith("sssnbus: error: ")
    assert cli("list") == done("q: 1\n")


def test_dead_letters_are_not_counted(cli: Run) -> None:
    """A dead letter is none of the queue's messages."""
    cli("write", "q", "x")
    id = ""
    for _ in range(5):
        id, token, _ = cli("claim", "q", "--for", "100").out.split("\t")
        assert cli("nack", "q", id, token).code == 0
    assert cli("dead", "q", "list").out.startswith(id)
    assert cli("stats", "q") == done("q: 0\n")
    assert cli("list", "--stats") == done()
    assert cli("exists", "q").code == 2
    assert cli("broadcast", "x").code == 2
    assert cli("--status").lines[0] == "total_messages: 0"
