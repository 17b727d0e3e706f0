"""``sssnbus alias``, and aliases in place of queues."""

import pytest

from tests.cli.tools import NOTHING, Run, done


def test_life(cli: Run) -> None:
    """Aliases are kept in the store, listed, found by target, removed (SB-064, SB-070, SB-075, SB-076)."""
    assert cli("alias", "list") == done()
    assert cli("alias", "add", "b", "jobs") == done()
    assert cli("alias", "add", "a", "jobs", "-q") == done()
    assert cli("alias", "add", "c", "other") == done()
    assert cli("alias", "list") == done("a -> jobs\nb -> jobs\nc -> other\n")
    assert cli("alias", "list", "--target", "jobs") == done("a -> jobs\nb -> jobs\n")
    assert cli("alias", "list", "--target", "none") == NOTHING
    assert cli("alias", "list", "--target", "none", "--json") == NOTHING
    shown = '{"alias": "c", "target": "other"}\n'
    assert cli("alias", "list", "--target", "other", "--json") == done(shown)
    assert cli("alias", "remove", "b") == done()
    assert cli("alias", "list", "--target", "jobs") == done("a -> jobs\n")


def test_in_place_of_queues(cli: Run) -> None:
    """``@name`` means the target, a plain name only itself (SB-071, SB-072, SB-081)."""
    cli("alias", "add", "j", "jobs")
    cli("alias", "add", "d", "archive")
    assert cli("write", "@j", "a") == cli("write", "@j", "b") == cli("write", "@j", "c") == done()
    assert cli("write", "j", "literal") == done()
    assert cli("list") == done("j: 1\njobs: 3\n")
    assert cli("peek", "@j") == cli("read", "@j") == done("a\n")
    assert cli("move", "@j", "@d") == done("b\n")
    assert cli("stats", "@d") == done("archive: 1\n")
    assert cli("exists", "@j", "--json") == done('{"queue": "jobs", "exists": true}\n')
    assert cli("claim", "@j", "--for", "9").code == 0
    assert cli("dead", "@j", "list") == NOTHING
    assert cli("delete", "@j") == done()
    assert cli("list", "--stats") == done("archive: 1\nj: 1\n")


def test_removal_keeps_messages(cli: Run) -> None:
    """Messages belong to the queue, not to the alias (SB-080)."""
    cli("alias", "add", "j", "jobs")
    cli("write", "@j", "a")
    assert cli("alias", "remove", "j") == done()
    assert cli("read", "jobs") == done("a\n")


@pytest.mark.parametrize(
    "words", [["read", "@x"], ["write", "@x", "m"], ["move", "q", "@x"], ["delete", "@x"], ["watch", "@x"]]
)
def test_undefined(cli: Run, words: list[str]) -> None:
    """What was never defined is an error, not a queue (SB-073)."""
    cli("write", "x", "m")
    code, out, err = cli(*words)
    assert (code, out) == (1, "")
    assert "Alias 'x' is not defined" in err
    assert "Alias name cannot be empty" in cli("read", "@").err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["add", "taken", "q"], "Alias 'taken' already exists"),
        (["add", "new", "taken"], "Cannot target another alias"),
        (["add", "q", "q"], "Alias and target must differ"),
        (["add", "@new", "q"], "without @"),
        (["add", "new", "@taken"], "without @"),
        (["add", "a b", "q"], "Invalid alias name"),
        (["add", "new", "a b"], "Invalid queue name"),
        (["remove", "unknown"], "alias 'unknown' does not exist"),
        (["add", "new"], "required"),
        (["list", "x"], "unrecognized"),
        ([], "required"),
        (["rename"], "invalid choice"),
    ],
)
def test_refusals(cli: Run, words: list[str], why: str) -> None:
    """What would be ambiguous is refused, and changes nothing (SB-074, SB-077, SB-078, SB-079)."""
    cli("alias", "add", "taken", "jobs")
    code, out, err = cli("alias", *words)
    assert (code, out) == (1, "")
    assert why in err
    assert err.startswith("sssnbus: error: ")
    assert cli("alias", "list") == done("taken -> jobs\n")


def test_no_circles(cli: Run) -> None:
    """No chain of aliases can be made, and so no circle (SB-077)."""
    assert cli("alias", "add", "a", "b") == done()
    assert cli("alias", "add", "b", "a").code == 1


def test_name_of_a_queue(cli: Run) -> None:
    """A queue of the same name is worth a warning, unless quiet is asked for (SB-072)."""
    cli("write", "jobs", "x")
    assert "warning" in cli("alias", "add", "jobs", "other").err
    cli("alias", "remove", "jobs")
    assert cli("alias", "add", "jobs", "other", "-q") == done()
    assert cli("read", "jobs") == done("x\n")
