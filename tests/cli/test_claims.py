"""``sssnbus claim``, ``ack``, ``nack``, ``extend`` and ``dead``."""

import asyncio
import json
from pathlib import Path

import pytest

from sssnbus import Bus
from tests.cli.tools import NOTHING, Run, done, wait_until


def claim(cli: Run, seconds: str = "100") -> tuple[str, str, str]:
    """Claim a message; return its id, its token and its text."""
    code, out, err = cli("claim", "q", "--for", seconds)
    assert (code, err) == (0, "")
    id, token, text = out.rstrip("\n").split("\t")
    return id, token, text


def test_claim_and_ack(cli: Run) -> None:
    """A claimed message is nobody else's, and is consumed by an ack (SB-127)."""
    cli("write", "q", "a")
    id, token, text = claim(cli)
    assert text == "a"
    assert cli("claim", "q", "--for", "1") == cli("read", "q") == cli("peek", "q") == NOTHING
    assert cli("stats", "q") == done("q: 0 (1 total, 1 claimed)\n")
    assert cli("ack", "q", id, token) == done()
    assert cli("stats", "q") == done("q: 0 (1 total, 1 claimed)\n")
    assert cli("--vacuum").err.startswith("Vacuumed 1 ")
    assert cli("claim", "q", "--for", "1") == NOTHING


def test_json(cli: Run) -> None:
    """With ``--json`` the token is a key beside those of a message."""
    cli("write", "q", "a\nb")
    shown = json.loads(cli("claim", "q", "--for", "60", "--json").out)
    assert list(shown) == ["message", "timestamp", "id", "token", "attempt"]
    assert (shown["message"], shown["id"], shown["attempt"]) == ("a\nb", str(shown["timestamp"]), 1)
    assert cli("ack", "q", shown["id"], shown["token"]) == done()


def test_only_time_ends_a_claim(cli: Run) -> None:
    """A claim outlives the command that made it, and ends when its time is over; then the token is void."""
    cli("write", "q", "a")
    id, token, _ = claim(cli, "0.3")
    wait_until(lambda: cli("peek", "q").code == 0)
    for verb in (["ack"], ["nack"], ["extend", "--for", "5"]):
        code, out, err = cli(verb[0], "q", id, token, *verb[1:])
        assert (code, out) == (1, "")
        assert "holds no claim" in err
    again = claim(cli)
    assert again[0] == id
    assert again[1] != token
    assert cli("ack", "q", id, token).code == 1, "an old token settles nothing"
    assert cli("ack", "q", *again[:2]) == done()


def test_extend(cli: Run) -> None:
    """A claim that is extended lasts longer; it can be made shorter as well."""
    cli("write", "q", "a")
    id, token, _ = claim(cli, "100")
    assert cli("extend", "q", id, token, "--for", "200") == done()
    assert cli("read", "q") == NOTHING
    assert cli("extend", "q", id, token, "--for", "0.1") == done()
    wait_until(lambda: cli("read", "q").code == 0)


def test_nack(cli: Run) -> None:
    """A message that failed can be read again at once, or after a pause; its attempts are counted."""
    cli("write", "q", "a")
    id, token, _ = claim(cli)
    assert cli("nack", "q", id, token, "--delay", "1000") == done()
    assert cli("stats", "q") == done("q: 1\n")
    assert cli("read", "q") == NOTHING
    cli("write", "q", "b")
    id, token, text = claim(cli)
    assert text == "b"
    assert cli("nack", "q", id, token) == done()
    assert json.loads(cli("claim", "q", "--for", "9", "--json").out)["attempt"] == 2


@pytest.mark.parametrize("verb", [["ack"], ["nack"], ["extend", "--for", "5"]])
def test_what_is_not_there(cli: Run, verb: list[str]) -> None:
    """A message that is not there is exit code 2; a wrong token is an error, and changes nothing."""
    assert cli(verb[0], "q", "1" * 19, "t", *verb[1:]).code == 2
    cli("write", "q", "a")
    code, out, err = cli(verb[0], "q", "1" * 19, "t", *verb[1:])
    assert (code, out) == (2, "")
    assert "has no message" in err
    id, token, _ = claim(cli)
    assert cli(verb[0], "q", id, token + "0", *verb[1:]).code == 1
    assert "invalid message ID" in cli(verb[0], "q", "a b", "t", *verb[1:]).err
    assert cli("ack", "q", id, token) == done()


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "nan", "inf", "1e10", ""])
def test_bad_seconds(cli: Run, seconds: str, tmp_path: Path) -> None:
    """A time that cannot be meant is refused."""
    for words in (["claim", "q"], ["extend", "q", "1", "t"]):
        code, out, err = cli(*words, f"--for={seconds}")
        assert (code, out) == (1, "")
        assert "argument --for: " in err
    assert cli("claim", "q").code == 1
    assert list(tmp_path.iterdir()) == []


def bury(cli: Run, text: str, error: str = "") -> str:
    """Write a message and let it fail until it is a dead letter; return its id."""
    cli("write", "q", text)
    id = ""
    for _ in range(5):
        id, token, _ = claim(cli)
        assert cli("nack", "q", id, token, "--error", error).code == 0
    return id


def test_dead_letters(cli: Run) -> None:
    """They are listed with their reasons, looked at, sent back and removed."""
    assert cli("dead", "q", "list") == NOTHING
    first, second = bury(cli, "a", "boom"), bury(cli, "b\nc")
    assert cli("dead", "q", "list") == done(f"{first}\tfailed\t5\ta\n{second}\tfailed\t5\tb\nc\n")
    listed = [json.loads(line) for line in cli("dead", "q", "list", "--json").lines]
    assert [entry["id"] for entry in listed] == [first, second]
    assert listed[0]["dead"]["error"] == "boom"
    assert cli("dead", "q", "list", "-m", second, "--json").lines == [json.dumps(listed[1])]
    assert cli("dead", "q", "peek") == done("a\n")
    assert cli("dead", "q", "peek", "-m", second) == done("b\nc\n")
    assert len(cli("dead", "q", "peek", "--all", "--json").lines) == 2
    for action in ("redrive", "purge", "peek", "list"):
        assert cli("dead", "q", action, "-m", "1" * 19) == NOTHING
    assert cli("dead", "q", "redrive", "-m", first) == done()
    assert cli("stats", "q") == done("q: 1\n")
    assert cli("read", "q") == done("a\n")
    assert cli("dead", "q", "purge", "-m", second) == done()
    assert cli("dead", "q", "purge", "--all") == cli("dead", "q", "redrive", "--all") == NOTHING


def test_many_dead_letters(cli: Run, tmp_path: Path) -> None:
    """Page after page, each once; and all of them at once."""

    async def fail() -> None:
        async with Bus(tmp_path / ".sssnbus.db") as bus:
            queue = bus.work_queue("q", max_deliveries=1)
            await queue.write_many("app", [str(number) for number in range(250)])
            taken = await queue.read("w", exclusive=True, limit=250)
            await queue.nack("w", [message.id for message in taken])

    asyncio.run(fail())
    assert cli("dead", "q", "peek", "--all").lines == [str(number) for number in range(250)]
    assert cli("dead", "q", "redrive", "--all") == done()
    assert cli("stats", "q") == done("q: 250\n")
    id, token, _ = claim(cli)
    assert cli("nack", "q", id, token) == done()
    assert cli("dead", "q", "list").out == f"{id}\tfailed\t1\t0\n", "the recorded number of attempts holds"
    assert cli("dead", "q", "purge", "--all") == done()


@pytest.mark.parametrize(
    "words",
    [["redrive"], ["purge"], ["list", "--all", "-m", "1"], ["bury"], [], ["purge", "--all", "--json"]],
)
def test_wrong_words(cli: Run, words: list[str]) -> None:
    """Nothing is sent back or removed unless it is said which."""
    id = bury(cli, "a")
    code, out, err = cli("dead", "q", *words)
    assert (code, out) == (1, "")
    assert err.startswith("sssnbus: error: ")
    assert cli("dead", "q", "list").out.startswith(id)
