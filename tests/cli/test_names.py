"""Names of queues and ids of messages on the command line."""

from pathlib import Path

import pytest

from tests.cli.tools import NOTHING, Run, done

HOSTILE = [
    *(f"a{sign}b" for sign in "@# /\\:;|&*?[]{}!$%^+=<>\n\t\0é`'\""),
    ".", "..", ".x", "-x", "--", "'; DROP TABLE messages; --", "../../../etc/passwd", "${HOME}", "$(whoami)",
    "`id`", "a" * 513,
]  # fmt: skip

VERBS: list[tuple[str, ...]] = [
    ("write", "{}", "m"), ("read", "{}"), ("peek", "{}"), ("delete", "{}"), ("move", "{}", "b"),
    ("move", "a", "{}"), ("exists", "{}"), ("stats", "{}"), ("watch", "{}"), ("watch", "a", "--move", "{}"),
    ("claim", "{}", "--for", "1"), ("ack", "{}", "1", "t"), ("dead", "{}", "list"), ("read", "{}", "--json"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["a", "7", "_", "a.b-c_d", "0-9", "Q" * 512, "a" * 512])
def test_good_names(cli: Run, name: str) -> None:
    """Letters, digits, periods, underscores and hyphens name a queue, up to 512 of them (SB-121)."""
    assert cli("write", name, "x") == done()
    assert cli("list") == done(f"{name}: 1\n")
    assert cli("read", name) == done("x\n")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: "-".join(verb))
def test_hostile_names(cli: Run, verb: tuple[str, ...], tmp_path: Path) -> None:
    """Anything else is refused by every verb, before a store is looked for or made (SB-121, SB-123)."""
    for name in HOSTILE:
        if (verb[0], name) == ("write", "--"):
            continue  # It may stand before the operands.
        words = [name if word == "{}" else word for word in verb]
        code, out, err = cli(*words)
        assert (code, out) == (1, ""), name
        if name.startswith("-") and words[0] != "write":
            assert "error" in err, name  # It may as well have been meant as an option.
        else:
            assert "Invalid queue name" in err, name
        if len(name) > 512:
            assert "exceeds 512" in err
        assert err.count("\n") == 1, name
    assert list(tmp_path.iterdir()) == []


def test_name_with_a_minus_sign(cli: Run) -> None:
    """A name that looks like an option is told to be no name (SB-121)."""
    for verb in (["read"], ["peek"], ["move", "a"], ["delete"]):
        assert "Invalid queue name" in cli(*verb, "-x").err
        assert "Invalid queue name" in cli(*verb, "--", "-x").err


@pytest.mark.parametrize("verb", [["read"], ["peek"], ["delete"], ["move", "a"], ["write"], ["exists"]])
def test_empty_name(cli: Run, verb: list[str]) -> None:
    """The empty name is an error (SB-121)."""
    code, out, err = cli(*verb, "", *(["m"] if verb == ["write"] else []))
    assert (code, out) == (1, "")
    assert err.startswith("sssnbus: error: ")


@pytest.mark.parametrize("verb", [["read", "q"], ["peek", "q"], ["delete", "q"], ["move", "q", "r"]])
def test_ids(cli: Run, verb: list[str], tmp_path: Path) -> None:
    """An id is 19 digits below 2**63: nothing else is taken for one (SB-059, SB-093)."""
    bad = [
        "", "1", "123456789012345678", "12345678901234567890", "123456789012345678x", "-123456789012345678",
        " 123456789012345678", "9223372036854775808", "2024-01-15T00:00:00", "1705329000s", "\u0661" * 19,
    ]  # fmt: skip
    for id in bad:
        code, out, err = cli(*verb, f"--message={id}")
        assert (code, out) == (1, ""), id
        assert "invalid message ID" in err
    assert list(tmp_path.iterdir()) == [], "the format is checked before the store is touched"
    for id in ("0" * 19, "9223372036854775807", "1" * 19):
        assert cli(*verb, "-m", id) == NOTHING, id


def test_bad_id_in_json(cli: Run) -> None:
    """With ``--json`` a bad id is an object under a code of its own (SB-093)."""
    code, out, err = cli("read", "q", "-m", "12", "--json")
    assert (code, out) == (1, "")
    assert err == (
        '{"error": "INVALID_MESSAGE_ID", "message": "invalid message ID: expected exactly 19 digits", '
        '"retryable": false}\n'
    )


def test_looking_makes_no_queue(cli: Run) -> None:
    """Looking for a queue that is not there leaves its name free for a channel."""
    for words in (["read", "x"], ["peek", "x", "--all"], ["move", "x", "y"], ["claim", "x", "--for", "1"]):
        assert cli(*words) == NOTHING
    for words in (["exists", "x"], ["dead", "x", "list"], ["read", "x", "-m", "1" * 19]):
        assert cli(*words) == NOTHING
    assert cli("stats", "x") == done("x: 0\n")
    assert cli("publish", "x", "news").code == 0


def test_channels_are_no_queues(cli: Run) -> None:
    """A name that belongs to a broadcast channel is refused by the verbs of queues."""
    assert cli("publish", "news", "hello").code == 0
    for words in (["read", "news"], ["write", "news", "x"], ["exists", "news"], ["stats", "news"],
                  ["delete", "news"], ["move", "news", "q"], ["peek", "news"]):  # fmt: skip
        code, out, err = cli(*words)
        assert (code, out) == (1, ""), words
        assert "broadcast" in err
    assert cli("list", "--stats") == done()
    assert cli("broadcast", "x") == NOTHING
    assert cli("delete", "--all") == done()
    assert cli("history", "news").out.strip() == "hello"
