"""``sssnbus read`` and ``sssnbus peek``: which messages, and in what form."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sssnbus import Bus, BytesContent, MessageContent
from tests.cli.tools import NOTHING, Run, done


class Parcel(MessageContent):
    """A typed payload that only the library can write."""

    number: int
    note: str


def ids_of(cli: Run, queue: str = "q") -> list[str]:
    """Return the ids of a queue's messages, oldest first."""
    return [json.loads(line)["id"] for line in cli("peek", queue, "--all", "--json").lines]


def fill(cli: Run, *messages: str, queue: str = "q") -> list[str]:
    """Write messages and return the ids of all in the queue."""
    for message in messages:
        assert cli("write", queue, message) == done()
    return ids_of(cli, queue)


def test_one_after_the_other(cli: Run) -> None:
    """``read`` takes the oldest message, ``peek`` looks at it; empty is code 2 (SB-052, SB-053, SB-112)."""
    fill(cli, "a", "b")
    for _ in range(3):
        assert cli("peek", "q") == done("a\n")
    assert cli("read", "q") == done("a\n")
    assert cli("peek", "q") == done("b\n")
    assert cli("read", "q") == done("b\n")
    for verb in ("read", "peek"):
        for words in ([], ["--all"], ["--json"], ["-t"], ["--all", "--json"], ["--after", "0"]):
            assert cli(verb, "q", *words) == NOTHING
            assert cli(verb, "never", *words) == NOTHING


def test_all(cli: Run) -> None:
    """``--all`` is every message in the order of writing (SB-014, SB-015, SB-090)."""
    messages = [f"m{number}" for number in range(12)]
    fill(cli, *messages)
    assert cli("peek", "q", "--all").lines == messages
    assert cli("read", "q", "--all").lines == messages
    assert cli("stats", "q") == done("q: 0 (12 total, 12 claimed)\n")


@pytest.mark.parametrize("interval", ["1", "5", "100"])
def test_interval(cli: Run, interval: str) -> None:
    """How many messages are acknowledged at a time changes nothing that can be seen (SB-213, SB-224)."""
    messages = [f"m{number}" for number in range(12)]
    fill(cli, *messages)
    env = {"SSSNBUS_READ_COMMIT_INTERVAL": interval}
    assert cli("read", "q", "--all", env=env).lines == messages
    assert cli("stats", "q") == done("q: 0 (12 total, 12 claimed)\n")


@pytest.mark.parametrize("verb", ["read", "peek"])
def test_forms(cli: Run, verb: str) -> None:
    """Plain, with ids, and JSON, whose id is a number and a text (SB-091, SB-092, SB-133, SB-136).

    In JSON a message is one line whatever it holds, and ``-t`` adds nothing.
    """
    text = 'zwei\nZeilen\t"ü" \\ 🚀'
    (id,) = fill(cli, text)
    plain = cli("peek", "q")
    assert plain == done(text + "\n")
    assert cli("peek", "q", "-t") == done(f"{id}\t{text}\n")
    as_json = cli(verb, "q", "--json", *(["-t"] if verb == "read" else []))
    assert as_json == done(
        '{"message": "zwei\\nZeilen\\t\\"ü\\" \\\\ 🚀", "timestamp": ' + id + ', "id": "' + id + '"}\n'
    )
    assert len(id) == 19
    assert 10**18 < int(id) < 5 * 10**18


@pytest.mark.parametrize("verb", ["read", "peek"])
def test_newline_warning(cli: Run, verb: str) -> None:
    """Plain output of several messages warns once of newlines inside; other forms need not (SB-114)."""
    fill(cli, "a\nb", "c\nd", "e")
    for words in (["--all", "--json"], ["--all", "-t"], []):
        assert cli("peek", "q", *words).err == ""
    code, out, err = cli(verb, "q", "--all")
    assert (code, out) == (0, "a\nb\nc\nd\ne\n")
    assert err.count("warning") == err.count("newline characters") == 1


def test_by_id(cli: Run) -> None:
    """``-m`` takes one message, wherever it stands; the others keep their order (SB-093)."""
    ids = fill(cli, "a", "b", "c")
    other = fill(cli, "x", queue="other")[0]
    assert cli("peek", "q", "-m", ids[1]) == done("b\n")
    assert cli("read", "q", "-m", ids[1]) == done("b\n")
    for id in (ids[1], other, "1" * 19):
        assert cli("read", "q", "-m", id) == NOTHING
        assert cli("peek", "q", "-m", id) == NOTHING
    assert cli("read", "q", "--all") == done("a\nc\n")


@pytest.mark.parametrize("verb", ["read", "peek"])
@pytest.mark.parametrize("more", [["--all"], ["--after", "0"], ["--before", "5s"], ["--before=5s", "--json"]])
def test_exclusions(cli: Run, verb: str, more: list[str], tmp_path: Path) -> None:
    """``-m`` goes with no other selection, and the error names what (SB-093)."""
    code, out, err = cli(verb, "q", "-m", "1" * 19, *more)
    assert (code, out) == (1, "")
    assert err == "sssnbus: error: --message cannot be used with --all, --after, or --before\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["read", "peek"])
def test_bounds(cli: Run, verb: str) -> None:
    """Bounds are open, alone or together, with or without ``--all`` (SB-094, SB-095, SB-096, SB-097)."""
    ids = fill(cli, *"abcde")
    assert cli("peek", "q", "--all", "--after", ids[1]).lines == ["c", "d", "e"]
    assert cli("peek", "q", "--all", "--before", ids[3]).lines == ["a", "b", "c"]
    assert cli("peek", "q", "--all", "--after", "2020-01-01", "--before", "2200-01-01").lines == [*"abcde"]
    assert cli(verb, "q", "--after", ids[1], "--before", ids[2]) == NOTHING
    assert cli(verb, "q", "--after", ids[4]) == NOTHING
    assert cli(verb, "q", "--before", ids[0], "--all") == NOTHING
    assert cli(verb, "q", "--after", ids[0]) == done("b\n")
    assert cli(verb, "q", "--after", ids[1], "--before", ids[4], "--all") == done("c\nd\n")


def test_checkpoints(cli: Run) -> None:
    """The timestamp of what was seen is where the next look begins (SB-137, SB-138, SB-139)."""
    fill(cli, "a", "b")
    seen = [json.loads(line) for line in cli("peek", "q", "--all", "--json").lines]
    fill(cli, "c", "d")
    assert cli("read", "q", "--all", "--after", str(seen[-1]["timestamp"])) == done("c\nd\n")
    assert cli("read", "q", "--all", "--after", "2020-06-01T12:00:00Z") == done("a\nb\n")


def test_ids_rise(cli: Run) -> None:
    """Ids rise from write to write in all queues together, and are times (SB-130, SB-132, SB-134, SB-135)."""
    seen = [int(fill(cli, "x", queue=name)[-1]) for name in "abcabcaabbcc"]
    assert seen == sorted(set(seen))
    assert seen[-1] - seen[0] < 60 * 10**9
    assert cli("peek", "a", "--all", "--after", "2020-01-01T00:00:00Z").lines == ["x"] * 4


def write_by_library(
    folder: Path, *contents: Any, max_deliveries: int | None = None, **envelope: Any
) -> list[str]:
    """Write with the library, also what the command line cannot, and return the ids."""

    async def write() -> list[str]:
        async with Bus(folder / ".sssnbus.db") as bus:
            queue = bus.work_queue("q", max_deliveries=max_deliveries)
            return [str(await queue.write("app", content, **envelope)) for content in contents]

    return asyncio.run(write())


def test_messages_of_the_library(cli: Run, tmp_path: Path) -> None:
    """What is no text is compact JSON; bytes are themselves if they are UTF-8, else base64."""
    contents: list[Any] = [
        {"a": [1, None, "ü"]}, 7, None, "text", b"bytes", b"\xff\x00", BytesContent(data=b"typed"),
        Parcel(number=3, note="now"),
    ]  # fmt: skip
    write_by_library(tmp_path, *contents)
    shown = [json.loads(line) for line in cli("peek", "q", "--all", "--json").lines]
    assert [message["message"] for message in shown] == [
        {"a": [1, None, "ü"]}, 7, None, "text", "bytes", "/wA=", "typed", {"number": 3, "note": "now"},
    ]  # fmt: skip
    assert [message.get("encoding") for message in shown] == [None] * 5 + ["base64"] + [None] * 2
    assert cli("read", "q", "--all").lines == [
        '{"a":[1,null,"ü"]}', "7", "null", "text", "bytes", "base64:/wA=", "typed",
        '{"number":3,"note":"now"}',
    ]  # fmt: skip


def test_ids_of_the_library(cli: Run, tmp_path: Path) -> None:
    """An id that the writer chose is the id; the timestamp is then the time of writing in nanoseconds."""
    assert write_by_library(tmp_path, "x", id="order-7") == ["order-7"]
    (shown,) = [json.loads(line) for line in cli("peek", "q", "--json").lines]
    assert shown["id"] == "order-7"
    assert 1.7e18 < shown["timestamp"] < 5e18
    assert cli("read", "q", "-t") == done("order-7\tx\n")


def test_order_of_priorities(cli: Run, tmp_path: Path) -> None:
    """Options that the library recorded hold: what is more urgent is read first, peek shows the oldest."""
    write_by_library(tmp_path, "low")
    write_by_library(tmp_path, "high", priority=5)
    assert cli("peek", "q") == done("low\n")
    assert cli("read", "q", "--all") == done("high\nlow\n")


def test_delayed_messages(cli: Run, tmp_path: Path) -> None:
    """What is delayed counts as pending, and cannot be read before its time."""
    write_by_library(tmp_path, "later", delay=1000)
    assert cli("stats", "q") == done("q: 1\n")
    assert cli("read", "q") == NOTHING
    assert cli("exists", "q").code == 0


def test_many_pages(cli: Run, tmp_path: Path) -> None:
    """``peek --all`` shows each message once in queues of many pages, moved ones too (SB-012, SB-212)."""

    async def write_pages() -> None:
        async with Bus(tmp_path / ".sssnbus.db") as bus:
            await bus.work_queue("old").write_many("app", [f"old{number}" for number in range(300)])
            await bus.work_queue("q").write_many("app", [f"new{number}" for number in range(700)])
            await bus.work_queue("old").move("q", limit=300)

    asyncio.run(write_pages())
    expected = [f"new{number}" for number in range(700)] + [f"old{number}" for number in range(300)]
    assert cli("peek", "q", "--all").lines == expected
    assert cli("read", "q", "--all").lines == expected
