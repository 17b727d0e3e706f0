"""``sssnbus subscribe``: messages as they come, to stdout or to a command."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from sssnbus import Bus, SubscriptionLost
from sssnbus.cli import commands
from sssnbus.cli.channels.executing import execute
from tests.cli.tools import PATIENCE, Run, done, inside, start, wait_until


def publish(folder: Path, *texts: str, channel: str = "ev", topic: str | None = None) -> None:
    """Publish texts, inside this process."""
    for text in texts:
        words = [] if topic is None else ["--topic", topic]
        assert inside("publish", channel, text, *words, cwd=folder) == done()


def subscriptions(folder: Path) -> dict[str, Any]:
    """Return the durable subscriptions by name."""
    lines = inside("subscriptions", "--json", cwd=folder).lines
    return {found["name"]: found for found in map(json.loads, lines)}


def test_from_where(cli: Run, tmp_path: Path) -> None:
    """``--start`` is new, earliest, an id or a time; ``--count`` ends it, and ``--timeout``."""
    publish(tmp_path, "1", "2", "3")
    ids = [json.loads(line)["id"] for line in cli("history", "ev", "--json").lines]
    assert cli("subscribe", "ev", "--timeout", "0.1") == (2, "", "")
    assert cli("subscribe", "ev", "--start", "new", "--timeout", "0.1") == (2, "", "")
    assert cli("subscribe", "ev", "--start", "earliest", "--timeout", "1") == done("1\n2\n3\n")
    assert cli("subscribe", "ev", "--start", ids[1], "--count", "1") == done("2\n")
    assert cli("subscribe", "ev", "--start", ids[1], "--count", "2", "--timeout", "9") == done("2\n3\n")
    assert cli("subscribe", "ev", "--start", "2020-01-01", "--count", "3") == done("1\n2\n3\n")
    as_json = cli("subscribe", "ev", "--start", "earliest", "--json", "--count", "3")
    shown = [json.loads(line) for line in as_json.lines]
    assert [message["id"] for message in shown] == ids
    assert shown[0]["channel"] == "ev"


def test_topics(cli: Run, tmp_path: Path) -> None:
    """``--topic`` is a pattern, and may be repeated."""
    for topic in ("a.x", "a.y", "b.x", "b.x.z"):
        publish(tmp_path, topic, topic=topic)
    words = ["subscribe", "ev", "--start", "earliest", "--count", "2"]
    assert cli(*words, "--topic", "a.*").lines == ["a.x", "a.y"]
    assert cli(*words, "--topic", "b.>").lines == ["b.x", "b.x.z"]
    assert cli(*words, "--topic", "a.y", "--topic", "b.x").lines == ["a.y", "b.x"]
    assert "Invalid topic" in cli(*words, "--topic", "a..b").err


@pytest.mark.parametrize(
    "words",
    [
        ["--count", "0"],
        ["--count", "x"],
        ["--timeout", "0"],
        ["--timeout", "nan"],
        ["--start", "9" * 19],
        ["--start", "17:00"],
        ["--name", "a b"],
    ],
)
def test_bad_words(cli: Run, words: list[str]) -> None:
    """A value that means nothing is refused, with one line."""
    result = cli("subscribe", "ev", "--timeout", "1", *words)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("sssnbus: error: ")
    assert result.err.count("\n") == 1


def test_durable(cli: Run, tmp_path: Path) -> None:
    """With a name it goes on behind the last message that was printed."""
    publish(tmp_path, "1", "2", "3", "4")
    words = ["subscribe", "ev", "--name", "mail", "--start", "earliest"]
    assert cli(*words, "--count", "2") == done("1\n2\n")
    assert subscriptions(tmp_path)["mail"]["position"] == 2
    assert cli(*words, "--count", "1") == done("3\n")
    assert cli(*words, "--timeout", "1") == done("4\n")
    assert cli(*words, "--timeout", "0.1") == (2, "", "")
    publish(tmp_path, "5")
    assert cli(*words, "--count", "1") == done("5\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(tmp_path: Path, number: signal.Signals) -> None:
    """It runs until a signal asks it to end, which it does with 0; what was printed counts (FX-15, FX-53).

    While it runs, nobody else can be the subscription of that name.
    """
    publish(tmp_path, "old")
    with start("subscribe", "ev", "--name", "mail", "--start", "earliest", cwd=tmp_path) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "old\n"
        publish(tmp_path, "live")
        assert reader.stdout.readline() == "live\n"
        wait_until(lambda: subscriptions(tmp_path)["mail"]["active"])
        second = inside("subscribe", "ev", "--name", "mail", "--timeout", "1", "--json", cwd=tmp_path)
        assert second.code == 1
        assert json.loads(second.err)["retryable"] is True
        reader.send_signal(number)
        out, err = reader.communicate(timeout=PATIENCE)
        assert (reader.returncode, out, err) == (0, "", "")
    mail = subscriptions(tmp_path)["mail"]
    assert (mail["position"], mail["active"]) == (2, False)


def test_a_killed_one_loses_nothing(tmp_path: Path) -> None:
    """After SIGKILL the next one of the name goes on, with the last message again at most (BV-29)."""
    publish(tmp_path, "1", "2", "3")
    with start("subscribe", "ev", "--name", "mail", "--start", "earliest", cwd=tmp_path) as reader:
        assert reader.stdout is not None
        assert [reader.stdout.readline() for _ in range(3)] == ["1\n", "2\n", "3\n"]
        reader.kill()
        reader.wait(PATIENCE)
    publish(tmp_path, "4")
    lines = inside("subscribe", "ev", "--name", "mail", "--timeout", "1", cwd=tmp_path).lines
    assert lines[-1] == "4"
    assert lines in (["4"], ["3", "4"], ["2", "3", "4"])


def test_a_closed_pipe(tmp_path: Path) -> None:
    """When nobody reads any more it ends with 0, and what was not read comes again (SB-172)."""
    publish(tmp_path, "1", "2")
    reading, writing = os.pipe()
    words = ("subscribe", "ev", "--name", "mail", "--start", "earliest")
    with start(*words, cwd=tmp_path, stdout=writing) as reader:
        os.close(writing)
        assert os.read(reading, 2) == b"1\n"
        wait_until(lambda: subscriptions(tmp_path).get("mail", {}).get("active"))
        os.close(reading)
        publish(tmp_path, "3")
        assert reader.wait(PATIENCE) == 0
        assert reader.stderr is not None
        assert reader.stderr.read() == ""
    assert inside(*words, "--timeout", "1", cwd=tmp_path).lines[-1] == "3"


def test_skipped_messages_are_told(cli: Run, tmp_path: Path) -> None:
    """What was removed before it could be read is told on stderr, in words or as an object."""
    publish(tmp_path, "1", "2", "3")
    for name in ("plain", "json"):
        assert cli("subscribe", "ev", "--name", name, "--start", "earliest", "--count", "1").code == 0

    async def evict() -> None:
        async with Bus(tmp_path / ".sssnbus.db") as bus:
            await bus.broadcast("ev").evict(max_count=1)

    asyncio.run(evict())
    plain = cli("subscribe", "ev", "--name", "plain", "--count", "1")
    assert plain.out == "3\n"
    assert plain.err == "sssnbus: warning: messages 2 to 2 were removed before they were read\n"
    told = cli("subscribe", "ev", "--name", "json", "--count", "1", "--json")
    assert json.loads(told.err) == {"notice": "gap", "first": 2, "last": 2}


# Commands


def test_exec(process: Run, tmp_path: Path) -> None:
    """The command gets the message on stdin, and what it is about in its environment."""
    publish(tmp_path, "one\n", topic="a.b")
    publish(tmp_path, "two")
    command = 'cat; echo "[$SSSNBUS_MESSAGE_ID $SSSNBUS_MESSAGE_TOPIC $SSSNBUS_MESSAGE_CHANNEL]"'
    ids = [json.loads(line)["id"] for line in inside("history", "ev", "--json", cwd=tmp_path).lines]
    words = ["subscribe", "ev", "--start", "earliest", "--count", "2"]
    result = process(*words, "--exec", command)
    assert result == done(f"one\n[{ids[0]} a.b ev]\ntwo[{ids[1]}  ev]\n")
    as_json = process(*words, "--json", "--exec", "cat")
    assert [json.loads(line)["id"] for line in as_json.lines] == ids
    # One that reads nothing of its input is no failure.
    assert process(*words, "--exec", "exit 0") == done()


def test_exec_that_fails_live(process: Run, tmp_path: Path) -> None:
    """Without a name a failure is told, and the next message follows."""
    publish(tmp_path, "1", "2")
    result = process("subscribe", "ev", "--start", "earliest", "--count", "2", "--exec", "cat; exit 3")
    assert (result.code, result.out) == (0, "12")
    assert result.err.count("the command ended with code 3 on message") == 2


def test_exec_that_fails_durably(process: Run, tmp_path: Path) -> None:
    """With a name a failed message is tried again, and becomes a dead letter; order is kept."""
    publish(tmp_path, "good", "bad", "flaky", "last")
    # Each attempt is written down; "flaky" works the second time.
    command = (
        'read -r text; echo "$text" >> log; '
        'case $text in bad) exit 1;; flaky) [ "$(grep -c flaky log)" = 2 ];; esac'
    )
    result = process(
        "subscribe", "ev", "--name", "w", "--start", "earliest", "--count", "4", "--exec", command
    )
    assert (result.code, result.out) == (0, "")
    assert (tmp_path / "log").read_text().split() == ["good", *["bad"] * 5, "flaky", "flaky", "last"]
    assert "will try message" in result.err
    assert "Traceback" not in result.err
    (channel,) = inside("channels", "--json", cwd=tmp_path).lines
    assert json.loads(channel)["dead"] == 1
    assert subscriptions(tmp_path)["w"]["lag"] == 0


def test_exec_after_attempts_of_others(process: Run, tmp_path: Path) -> None:
    """Attempts of a program before count too, and the time-out comes all the same."""
    publish(tmp_path, "bad")
    command = "cat >/dev/null; echo x >> log; exit 1"
    words = ["subscribe", "ev", "--name", "w", "--start", "earliest", "--exec", command]
    with start(*words, cwd=tmp_path) as reader:
        wait_until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().count("x") > 1)
        reader.kill()
        reader.wait(PATIENCE)
    process(*words, "--timeout", "2")
    assert (tmp_path / "log").read_text().count("x") <= 6
    assert subscriptions(tmp_path)["w"]["lag"] == 0


def test_exec_and_count(process: Run, tmp_path: Path) -> None:
    """``--count`` ends it behind exactly so many messages, and the next one goes on there."""
    publish(tmp_path, "1", "2", "3")
    words = ["subscribe", "ev", "--name", "w", "--start", "earliest", "--exec", "cat; sleep 0.1"]
    assert process(*words, "--count", "1") == done("1")
    assert subscriptions(tmp_path)["w"]["position"] == 1
    assert process(*words, "--count", "2") == done("23")


@pytest.mark.parametrize("what", [[], ["--exec", "cat"]])
def test_name_in_use(cli: Run, tmp_path: Path, what: list[str]) -> None:
    """A name that a running program uses is refused, in words that mean something on the command line."""
    publish(tmp_path, "1")
    words = ("subscribe", "ev", "--name", "w", "--start", "earliest")
    with start(*words, cwd=tmp_path) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "1\n"
        code, out, err = cli("subscribe", "ev", "--name", "w", *what)
    assert (code, out) == (1, "")
    assert err == (
        "sssnbus: error: subscription 'w' of channel 'ev' is in use by a running program; end that one, or "
        "choose another name\n"
    )


def test_exec_is_stopped_with_it(tmp_path: Path) -> None:
    """A signal ends the command as well; its message comes again, and no attempt counts."""
    publish(tmp_path, "1")
    words = ("subscribe", "ev", "--name", "w", "--start", "earliest")
    with start(*words, "--exec", "echo $$ > pid; exec sleep 60", cwd=tmp_path) as reader:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        pid = int((tmp_path / "pid").read_text())
        reader.send_signal(signal.SIGTERM)
        assert reader.wait(PATIENCE) == 0
    wait_until(lambda: not _is_running(pid), "the command runs on")
    assert inside(*words, "--count", "1", cwd=tmp_path) == done("1\n")


def test_all_that_exec_started_is_stopped(tmp_path: Path) -> None:
    """A signal ends what the command has started too, even what does not listen to being asked."""
    publish(tmp_path, "1")
    command = "trap '' TERM; sleep 60 & echo $! > pid; wait; sleep 60"
    with start("subscribe", "ev", "--start", "earliest", "--exec", command, cwd=tmp_path) as reader:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        pid = int((tmp_path / "pid").read_text())
        reader.send_signal(signal.SIGTERM)
        assert reader.wait(PATIENCE) == 0
    wait_until(lambda: not _is_running(pid), "what the command started runs on")


def test_exec_leaves_what_goes_on_behind_it(process: Run, tmp_path: Path) -> None:
    """What a command that is done has left running is not touched, and not waited for."""
    publish(tmp_path, "1")
    words = ["subscribe", "ev", "--start", "earliest", "--count", "1", "--exec"]
    command = "sleep 60 >/dev/null 2>&1 & echo $! > pid"
    assert process(*words, command) == done()
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)


def test_exec_count_and_dead_letter(process: Run, tmp_path: Path) -> None:
    """``--count`` ends it behind a message that was given up as well: it becomes one dead letter."""
    publish(tmp_path, "1", "2")
    words = ["subscribe", "ev", "--name", "w", "--start", "earliest", "--count", "1", "--exec", "exit 1"]
    for number in (1, 2):
        assert process(*words).code == 0
        assert subscriptions(tmp_path)["w"]["position"] == number
        (channel,) = inside("channels", "--json", cwd=tmp_path).lines
        assert json.loads(channel)["dead"] == number


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_exec_and_timeout(process: Run, tmp_path: Path) -> None:
    """The time-out counts from the end of the last command, not while one runs."""
    publish(tmp_path, "1", "2")
    words = ["subscribe", "ev", "--start", "earliest", "--timeout", "1", "--exec", "cat; sleep 1.2"]
    assert process(*words) == done("12")
    assert process("subscribe", "ev", "--timeout", "0.1", "--exec", "cat") == (2, "", "")


def test_two_programs(tmp_path: Path) -> None:
    """Subscribers in several programs all get what another publishes (BV-02, BV-26, FX-10)."""
    readers = [start("subscribe", "ev", "--count", "3", "--name", f"r{n}", cwd=tmp_path) for n in range(2)]
    with readers[0] as one, readers[1] as two:
        wait_until(lambda: sum(s["active"] for s in subscriptions(tmp_path).values()) == 2)
        publish(tmp_path, "a", "b", "c")
        for reader in (one, two):
            out, err = reader.communicate(timeout=PATIENCE)
            assert (reader.returncode, out, err) == (0, "a\nb\nc\n", "")


async def test_exec_inside(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Inside one program, too: commands run one after the other, and a subscription that is lost ends it."""
    parser = commands.parser_of("subscribe")
    async with Bus(tmp_path / "x.db") as bus:
        channel = bus.broadcast("ev")
        await channel.write_many("s", ["1", "2", "3"])
        words = ["ev", "--name", "w", "--start", "earliest", "--exec", "cat; exit $((1 - $?))"]
        live = parser.parse_args(["ev", "--start", "earliest", "--count", "2", "--exec", "cat"])
        assert await execute(channel, live) == 0
        assert capfd.readouterr().out == "12"
        failing = parser.parse_args([*words, "--count", "1"])
        assert await execute(channel, failing) == 0
        assert (await bus.channels())[0].dead == 1
        assert capfd.readouterr().out == "1" * 5
        idle = parser.parse_args(["ev", "--timeout", "0.1", "--exec", "cat"])
        assert await execute(channel, idle) == 2
        ended = asyncio.create_task(
            execute(channel, parser.parse_args(["ev", "--name", "w", "--exec", "sleep 0.3"]))
        )
        while not (await bus.subscriptions())[0].active:
            assert not ended.done()
            await asyncio.sleep(0.01)
        await channel.forget("w")
        with pytest.raises(SubscriptionLost):
            await ended
