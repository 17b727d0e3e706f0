"""The command line over a PostgreSQL store."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.cli.tools import Result, inside
from tests.servers.postgres import PostgresServer
from tests.stores.postgres.tools import Site


class Shell:
    """Runs commands on one store."""

    def __init__(self, url: str, folder: Path) -> None:
        self._run = partial(inside, "--url", url, cwd=folder)

    def __call__(self, *words: str, stdin: str = "") -> Result:
        return self._run(*words, stdin=stdin)

    def good(self, *words: str, stdin: str = "") -> str:
        """Run one that must do well, and return what it prints."""
        result = self(*words, stdin=stdin)
        assert result.code == 0, result
        return result.out


@pytest.fixture
def shell(site: Site, tmp_path: Path) -> Shell:
    """Give commands on a store of their own."""
    return Shell(site.url(), tmp_path)


def test_queues(shell: Shell) -> None:
    """Messages are written, read, claimed and acknowledged."""
    for body in ("one", "two", "three"):
        shell.good("write", "jobs", body)
    assert shell.good("read", "jobs") == "one\n"
    claim = json.loads(shell.good("claim", "jobs", "--for", "60", "--json"))
    assert claim["message"] == "two"
    assert shell.good("list") == "jobs: 1\n"
    shell.good("ack", "jobs", claim["id"], claim["token"])
    late = shell("ack", "jobs", claim["id"], claim["token"])
    assert late.code == 1, "a token is used once"
    assert claim["id"] in late.err
    assert shell.good("stats", "jobs") == "jobs: 1 (3 total, 2 claimed)\n"
    assert shell("read", "nothing").code == 2
    assert shell.good("move", "jobs", "other", "--all") == "three\n"
    assert json.loads(shell.good("--status", "--json"))["total_messages"] == 3
    assert shell("--vacuum", "--compact").err.startswith("Vacuumed 2 claimed messages")


def test_channels(shell: Shell) -> None:
    """Messages are published, followed under a name, and shown."""
    for body in ("a", "b"):
        shell.good("publish", "events", body, "--topic", "x.y")
    follow = ["subscribe", "events", "--name", "mail", "--start", "earliest", "--count", "1"]
    assert shell.good(*follow) == "a\n"
    assert shell.good("subscriptions") == "events mail: 1 behind (nobody is listening)\n"
    assert shell.good(*follow) == "b\n"
    assert shell.good("history", "events") == "a\nb\n"
    assert shell.good("channels") == "events: 2 (broadcast)\n"


def test_the_whole_store(shell: Shell, site: Site, tmp_path: Path) -> None:
    """It is looked at, and carried into a file and back into another namespace."""
    shell.good("write", "jobs", "job")
    shell.good("publish", "events", "hello")
    shell.good("subscribe", "events", "--name", "mail", "--start", "earliest", "--count", "1")
    top = json.loads(shell.good("top", "--once", "--json"))
    assert (top["messages"], top["size"] > 0) == (2, True)
    assert [channel["name"] for channel in top["channels"]] == ["events", "jobs"]
    dump = shell.good("dump")
    there = Shell(f"sqlite:///{tmp_path}/copy.db", tmp_path)
    assert there("load", stdin=dump).err == "Loaded 2 messages into 2 channels\n"
    back = Shell(site.url().replace(site.namespace, f"{site.namespace}_back"), tmp_path)
    try:
        assert back("load", stdin=there.good("dump")).err == "Loaded 2 messages into 2 channels\n"
        assert back.good("dump").splitlines()[1:] == dump.splitlines()[1:]
        assert back.good("subscriptions") == "events mail: 0 behind (nobody is listening)\n"
    finally:
        back.good("delete", "--all")


def test_doctor(own_server: PostgresServer, tmp_path: Path) -> None:
    """The doctor says what the server was asked, and shows no password."""
    told = Shell(f"{own_server.url}?namespace=doctor", tmp_path).good("doctor")
    assert "what was written survives a power cut" in told
    assert own_server.password not in told
    assert "Fencing" in told


def test_what_is_not_for_servers(shell: Shell) -> None:
    """What makes or deletes files is refused with what to do instead."""
    refused = shell("--cleanup")
    assert (refused.code, refused.out) == (1, "")
    assert "sssnbus delete --all" in refused.err
    assert "s3cret" not in refused.err
    assert shell("init").code == 1


def test_missing_server(tmp_path: Path) -> None:
    """A server that is not there is an error in one sentence, without the password."""
    url = "postgresql://me:hush@127.0.0.1:9/none?connect_timeout=0.3"
    result = Shell(url, tmp_path)("list")
    assert result.code == 1
    assert "cannot be reached" in result.err
    assert "hush" not in result.err
    assert "Traceback" not in result.err
