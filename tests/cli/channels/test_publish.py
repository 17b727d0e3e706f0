"""``sssnbus publish`` and ``sssnbus history``: what goes in, and what is there."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.tools import NOTHING, PATIENCE, Run, done, start


def history(cli: Run, *words: str) -> list[dict[str, Any]]:
    """Return the messages of the channel ``ev`` as JSON."""
    return [json.loads(line) for line in cli("history", "ev", "--json", *words).lines]


def data(cli: Run, *words: str) -> list[Any]:
    """Return the contents of the channel ``ev``."""
    return [message["message"] for message in history(cli, *words)]


def test_publish_and_history(cli: Run) -> None:
    """What is published stays for those who come later (BV-05, BV-34); nothing is printed."""
    assert cli("publish", "ev", "one", "--topic", "a.b") == done()
    assert cli("publish", "--topic", "a.c", "ev", "two\nlines") == done()
    assert cli("publish", "ev", "") == done()
    assert cli("history", "ev") == done("one\ntwo\nlines\n\n")
    first, second, _ = history(cli)
    assert first.keys() == {"message", "timestamp", "id", "channel", "sequence", "sender", "topic"}
    assert (first["topic"], first["sequence"], first["channel"]) == ("a.b", 1, "ev")
    assert int(first["id"]) == first["timestamp"]
    assert second["message"] == "two\nlines"


def test_stdin_is_kept_byte_for_byte(cli: Run) -> None:
    """Without a message, or for ``-``, it is all of stdin, with its last newline."""
    for words in ([], ["-"]):
        assert cli("publish", "ev", *words, stdin="hi\n\t'x'\0\n") == done()
    assert data(cli) == ["hi\n\t'x'\0\n"] * 2
    refused = cli("publish", "ev", stdin=b"\xff")
    assert (refused.code, refused.out) == (1, "")
    assert "not UTF-8" in refused.err


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": 1}', [{"a": 1}]),
        ('{"a": 1}\n', [{"a": 1}]),
        ('{"a": 1}\n\n[2]\n"é"\nnull', [{"a": 1}, [2], "é", None]),
        ('{\n "a":\n 1}\n', [{"a": 1}]),
        ("1\r\n2\r\n", [1, 2]),
    ],
)
def test_json(cli: Run, text: str, values: list[object]) -> None:
    """With ``--json`` stdin is one JSON value, or one a line."""
    assert cli("publish", "ev", "--json", stdin=text) == done()
    assert cli("publish", "ev", "--json", "-", stdin=text) == done()
    assert data(cli) == [*values, *values]


def test_json_operand(cli: Run) -> None:
    """A JSON operand is kept as JSON, wherever the options stand."""
    for words in (
        ["ev", "--json", '{"a": [1]}'],
        ["ev", '{"a": [1]}', "--json"],
        ["--json", "ev", '{"a": [1]}'],
    ):
        assert cli("publish", *words) == done()
    assert data(cli) == [{"a": [1]}] * 3
    assert cli("history", "ev", "--limit", "1") == done('{"a":[1]}\n')


@pytest.mark.parametrize(
    ("text", "kept", "why"),
    [
        ("nonsense", [], "standard input is not JSON"),
        ("", [], "standard input is not JSON"),
        ("1\n2\n{\n4\n", [1, 2], "line 3 of stdin is not JSON"),
        ("1\nNaN\n", [1], "line 2 of stdin is not JSON"),
        ("[1]\n" + "[" * 100_000, [[1]], "line 2 of stdin is not JSON"),
    ],
)
def test_bad_json(cli: Run, text: str, kept: list[object], why: str) -> None:
    """What is not JSON is refused with its line; what came before it is sent, and that is said."""
    result = cli("publish", "ev", "--json", stdin=text)
    assert (result.code, result.out) == (1, "")
    assert why in result.err
    if kept:
        assert f"{len(kept)} messages before it were sent" in result.err
    assert data(cli) == kept


def test_bad_words(cli: Run, tmp_path: Path) -> None:
    """Names, topics and sizes are checked before anything is made; errors are one line on stderr."""
    for words in (
        ["publish"],
        ["publish", ".x", "m"],
        ["publish", "a b", "m"],
        ["publish", "ev", "m", "more"],
        ["publish", "ev", "m", "--what"],
        ["publish", "ev", "x" * 20],
        ["history", "ev", "--limit", "0"],
        ["history", "-x"],
    ):
        result = cli(*words, env={"SSSNBUS_MAX_MESSAGE_SIZE": "10"})
        assert (result.code, result.out) == (1, ""), words
        assert result.err.startswith("sssnbus: error: "), words
        assert result.err.count("\n") == 1
        assert not (tmp_path / ".sssnbus.db").exists(), words
    not_json = cli("publish", "ev", "{", "--json")
    assert "the message is not JSON" in json.loads(not_json.err)["message"]
    assert not (tmp_path / ".sssnbus.db").exists()
    assert "Invalid topic" in cli("publish", "ev", "m", "--topic", "a.*").err
    assert (
        "exceeds maximum size"
        in cli("publish", "ev", stdin="x" * 20, env={"SSSNBUS_MAX_MESSAGE_SIZE": "10"}).err
    )
    assert cli("history", "ev") == NOTHING


def test_which_history(cli: Run) -> None:
    """``--limit`` takes the newest, or the oldest behind ``--after``; ``--topic`` takes what is like it."""
    for number in range(1, 9):
        cli("publish", "ev", str(number), *(["--topic", f"n.{number % 2}"] if number > 2 else []))
    ids = [message["id"] for message in history(cli)]
    assert data(cli, "--limit", "3") == ["6", "7", "8"]
    assert data(cli, "--limit", "100") == [str(number) for number in range(1, 9)]
    assert data(cli, "--after", ids[5]) == ["7", "8"]
    assert data(cli, "--after", ids[1], "--limit", "2") == ["3", "4"]
    assert data(cli, "--topic", "n.0") == ["4", "6", "8"]
    assert data(cli, "--topic", "n.0", "--limit", "3") == ["4", "6", "8"]
    assert data(cli, "--topic", "n.>", "--after", ids[6]) == ["8"]
    assert cli("history", "ev", "--topic", "other") == NOTHING
    assert cli("history", "ev", "--after", ids[-1]) == NOTHING
    unknown = cli("history", "ev", "--after", "1" * 19, "--json")
    assert unknown.code == 1
    assert json.loads(unknown.err)["error"] == "INVALID_ARGUMENT"


def test_looking_makes_nothing(cli: Run) -> None:
    """A channel that is only asked for is not made, and a queue is no channel."""
    assert cli("history", "ev") == NOTHING
    assert cli("subscriptions", "ev") == NOTHING
    assert cli("channels") == done()
    cli("write", "jobs", "x")
    for words in (["history", "jobs"], ["publish", "jobs", "m"], ["subscriptions", "jobs"]):
        result = cli(*words)
        assert (result.code, result.out) == (1, "")
        assert "queue" in result.err


def test_lists(cli: Run) -> None:
    """``channels`` lists everything, ``subscriptions`` how far behind each durable one is."""
    cli("publish", "ev", "1")
    cli("publish", "ev", "2")
    cli("write", "jobs", "x")
    assert cli("subscriptions") == done()
    assert cli("subscribe", "ev", "--name", "mail", "--start", "earliest", "--count", "1") == done("1\n")
    assert cli("channels") == done("ev: 2 (broadcast)\njobs: 1 (work queue)\n")
    assert cli("channels", "--prefix", "j") == done("jobs: 1 (work queue)\n")
    first = json.loads(cli("channels", "--json").lines[0])
    assert (first["name"], first["kind"], first["messages"], first["dead"]) == ("ev", "broadcast", 2, 0)
    assert cli("subscriptions") == done("ev mail: 1 behind (nobody is listening)\n")
    assert cli("subscriptions", "ev").lines == cli("subscriptions").lines
    assert json.loads(cli("subscriptions", "--json").out) == {
        "channel": "ev",
        "name": "mail",
        "position": 1,
        "lag": 1,
        "active": False,
    }


def test_lines_go_out_as_they_come(cli: Run, tmp_path: Path) -> None:
    """A pipe that stays open is published line by line, not when it ends (BV-26)."""
    with start("publish", "log", "--json", cwd=tmp_path, stdin=subprocess.PIPE) as publisher:
        assert publisher.stdin is not None
        for line in ("1\n", "2\n"):
            publisher.stdin.write(line)
            publisher.stdin.flush()
            while cli("history", "log", "--limit", "1").out != line:
                assert publisher.poll() is None
        publisher.communicate(timeout=PATIENCE)
        assert publisher.returncode == 0


def test_a_closed_pipe(process: Run, tmp_path: Path) -> None:
    """Who reads only the beginning of the history gets no error from it."""
    assert (
        process("publish", "ev", "--json", stdin="\n".join(f'"{"x" * 2000}"' for _ in range(500))).code == 0
    )
    reading, writing = os.pipe()
    with start("history", "ev", cwd=tmp_path, stdout=writing) as reader:
        os.close(writing)
        assert os.read(reading, 100) == b"x" * 100
        os.close(reading)
        assert reader.wait(30) in (0, 1)
        assert reader.stderr is not None
        assert "Traceback" not in reader.stderr.read()
