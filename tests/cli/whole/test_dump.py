"""``sssnbus dump`` and ``sssnbus load``: a store as lines, and lines as a store."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from tests.cli.tools import COMMAND, Run, done, environment, inside, start


def fill(folder: Path) -> None:
    """Make a store with a queue, a channel, an alias, a subscription and a dead letter."""
    for words in (
        ["write", "jobs", "one"],
        ["write", "jobs", "two\nlines"],
        ["write", "jobs", "é"],
        ["publish", "events", "--json", '{"a": 1}', "--topic", "x.y"],
        ["subscribe", "events", "--name", "mail", "--start", "earliest", "--count", "1"],
        ["alias", "add", "j", "jobs"],
        ["read", "jobs"],
    ):
        assert inside(*words, cwd=folder).code == 0, words


def lines(text: str) -> list[str]:
    """Return the lines of a dump without its first, which says when and whence it is."""
    head, *rest = text.splitlines()
    assert json.loads(head)["sssnbus"] == "dump"
    return rest


def test_there_and_back(cli: Run, tmp_path: Path) -> None:
    """A dump loads into another file, gives the same dump there, and changes nothing the second time."""
    fill(tmp_path)
    dump = cli("dump")
    assert (dump.code, dump.err) == (0, "")
    (tmp_path / "d.ndjson").write_text(dump.out)
    first = cli("-f", "b.db", "load", "d.ndjson")
    assert first == (0, "", "Loaded 4 messages into 2 channels\n")
    assert lines(cli("-f", "b.db", "dump").out) == lines(dump.out)
    again = cli("-f", "b.db", "load", stdin=dump.out)
    assert again == (0, "", "Loaded 0 messages into 2 channels; 4 were there already\n")
    assert cli("-q", "-f", "b.db", "load", "-", stdin=dump.out) == done()
    assert lines(cli("-f", "b.db", "dump").out) == lines(dump.out)
    # It is a store like the other: counts, aliases and places are the same.
    assert cli("-f", "b.db", "stats", "jobs") == done("jobs: 2 (3 total, 1 claimed)\n")
    assert cli("-f", "b.db", "read", "@j") == done("two\nlines\n")
    for verb in (["remove", "j"], ["add", "j", "other"]):
        assert cli("-f", "b.db", "alias", *verb) == done()
    assert "1 places, settings or aliases are others here" in cli("-f", "b.db", "load", "d.ndjson").err
    assert cli("-f", "b.db", "subscriptions").lines == ["events mail: 0 behind (nobody is listening)"]


def test_a_pipe_from_one_to_the_other(process: Run, tmp_path: Path) -> None:
    """Two commands in a pipe copy a store."""
    fill(tmp_path)
    line = f"{COMMAND} dump | {COMMAND} --url sqlite:///copy.db load"
    copied = subprocess.run(
        line, shell=True, cwd=tmp_path, capture_output=True, env=environment(None), check=True
    )
    assert copied.stderr == b"Loaded 4 messages into 2 channels\n"
    assert lines(process("-f", "copy.db", "dump").out) == lines(process("dump").out)


def test_some_channels(cli: Run, tmp_path: Path) -> None:
    """``--channel`` chooses, and must be there."""
    fill(tmp_path)
    found = [json.loads(line) for line in lines(cli("dump", "--channel", "jobs").out)]
    assert {record["channel"] for record in found if "channel" in record} == {"jobs"}
    refused = cli("dump", "--channel", "nope")
    assert (refused.code, refused.out) == (1, "")
    assert "no channel of that name" in refused.err


def test_refused_lines(cli: Run, tmp_path: Path) -> None:
    """Each line that cannot be loaded is told with its number; the rest is loaded, and the code is 1."""
    fill(tmp_path)
    dump = cli("dump").out.splitlines()
    bad = next(number for number, line in enumerate(dump) if "two" in line)
    dump[bad] = dump[bad].replace("two", "2wo")
    result = cli("-f", "b.db", "load", stdin="\n".join([*dump[:-1], "{]"]))
    assert (result.code, result.out) == (1, "")
    told = result.err.splitlines()
    assert f"line {bad + 1} was not loaded" in told[0]
    assert "checksum" in told[0]
    assert f"line {len(dump)} was not loaded: it is not JSON" in told[1]
    assert f"line {len(dump) + 1} was not loaded: the dump ends here" in told[2]
    assert told[3] == "Loaded 3 messages into 2 channels"
    nothing = cli("-f", "c.db", "load", stdin="hello\n")
    assert (nothing.code, nothing.out) == (1, "")
    assert "not the beginning of a dump" in nothing.err
    assert "No such file" in cli("load", "missing").err


def test_damaged_messages(cli: Run, tmp_path: Path) -> None:
    """A message that fails its checksum is told on stderr; the rest is dumped, and the code is 1."""
    fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / ".sssnbus.db")) as raw, raw:
        raw.execute("UPDATE message SET crc = crc + 1 WHERE position & 255 = 2")
    dump = cli("dump")
    assert dump.code == 1
    assert dump.err == (
        "sssnbus: error: message 2 of channel 'jobs' is damaged (its checksum does not match) and not in"
        " the dump\n"
    )
    loaded = cli("-f", "b.db", "load", stdin=dump.out)
    assert loaded.code == 0
    assert "1 were damaged before the dump was made" in loaded.err


def test_a_closed_pipe_and_a_signal(tmp_path: Path) -> None:
    """A load that waits for its input ends by a signal; a dump that nobody reads ends without a traceback."""
    fill(tmp_path)
    with start("load", cwd=tmp_path, stdin=subprocess.PIPE) as loading:
        assert loading.stdin is not None
        loading.stdin.write(json.dumps({"sssnbus": "dump", "format": 1}) + "\n")
        loading.stdin.flush()
        while not (tmp_path / ".sssnbus.db-wal").exists():
            assert loading.poll() is None
        loading.terminate()
        assert loading.wait(30) != 0
    line = f"{COMMAND} dump | head -c 10"
    ended = subprocess.run(
        line, shell=True, cwd=tmp_path, capture_output=True, env=environment(None), check=False
    )
    assert ended.stdout == b'{"sssnbus"'
    assert b"Traceback" not in ended.stderr
