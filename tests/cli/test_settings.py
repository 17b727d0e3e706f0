"""The settings of the environment."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from sssnbus.cli.problem import Problem
from sssnbus.cli.project import backend_url
from sssnbus.cli.settings import Settings, load
from sssnbus.cli.target import Place, find
from sssnbus.stores import SQLiteStore
from tests.cli.tools import Run, done

EXAMPLES = {
    "high throughput": {"SYNC_MODE": "NORMAL", "READ_COMMIT_INTERVAL": "100", "INITIAL_CHECKS": "1000"},
    "low latency": {"MAX_INTERVAL": "0.01", "CACHE_MB": "50"},
    "power saving": {"INITIAL_CHECKS": "50", "MAX_INTERVAL": "0.5"},
    "project": {"PROJECT_SCOPE": "true", "DEFAULT_DB_NAME": "project-queue.db"},
}


def keyed(settings: dict[str, str]) -> dict[str, str]:
    """Return settings under their keys in the environment."""
    return {f"SSSNBUS_{name}": value for name, value in settings.items()}


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_configurations(cli: Run, example: str) -> None:
    """The four configurations that people know are taken as they are (SB-216)."""
    env = keyed(EXAMPLES[example])
    assert cli("init", env=env).code == 0
    assert cli("write", "q", "x", env=env) == done()
    assert cli("read", "q", "--all", env=env) == done("x\n")


@pytest.mark.parametrize(
    ("key", "bad", "rule"),
    [
        ("BUSY_TIMEOUT", "soon", "a whole number, 1 or more"),
        ("BUSY_TIMEOUT", "0", "a whole number, 1 or more"),
        ("CACHE_MB", "-1", "a whole number"),
        ("SYNC_MODE", "SOMETIMES", "FULL, NORMAL or OFF"),
        ("WAL_AUTOCHECKPOINT", "1.5", "a whole number, 0 or more"),
        ("READ_COMMIT_INTERVAL", "0", "a whole number, 1 or more"),
        ("AUTO_VACUUM", "perhaps", "1, true, yes or on"),
        ("AUTO_VACUUM_INTERVAL", "x", "a whole number"),
        ("VACUUM_THRESHOLD", "nan", "a number"),
        ("VACUUM_BATCH_SIZE", "0", "a whole number"),
        ("VACUUM_LOCK_TIMEOUT", "-3", "a whole number"),
        ("INITIAL_CHECKS", "many", "a whole number"),
        ("MAX_INTERVAL", "inf", "a number, 0 or more"),
        ("BURST_SLEEP", "x", "a number"),
        ("JITTER_FACTOR", "x", "a number"),
        ("SKIP_IDLE_CHECK", "x", "1, true, yes or on"),
        ("GENERATOR_BATCH_SIZE", "0", "a whole number"),
        ("MAX_MESSAGE_SIZE", "9" * 30, "a whole number"),
        ("DEFAULT_DB_NAME", "/abs", "the name of a file"),
        ("DEFAULT_DB_LOCATION", "rel", "the absolute path"),
        ("PROJECT_SCOPE", "2", "1, true, yes or on"),
        ("PROJECT_CONFIG_NAME", "a/b/c", "the name of a file"),
        ("BACKEND", "oracle", "sqlite, postgresql, redis or nats"),
        ("BACKEND_PORT", "http", "a whole number"),
        ("DEBUG", "x", "1, true, yes or on"),
        ("LOGGING_ENABLED", "x", "1, true, yes or on"),
    ],
)
def test_bad_values(cli: Run, key: str, bad: str, rule: str) -> None:
    """A bad value is an error that names its key, whatever the command (SB-220 to SB-238)."""
    code, out, err = cli("list", env={f"SSSNBUS_{key}": bad})
    assert (code, out) == (1, "")
    assert err.startswith("sssnbus: error: ")
    assert f"SSSNBUS_{key}=" in err
    assert rule in err
    assert err.count("\n") == 1


def test_every_key_is_documented() -> None:
    """Each setting says what it does, and has a default of its own type (SB-260)."""
    for each in fields(Settings):
        assert len(each.metadata["summary"]) > 8
        assert callable(each.metadata["read"])
    assert load({}) == load({f"SSSNBUS_{each.name.upper()}": " " for each in fields(Settings)}) == Settings()


@pytest.mark.parametrize("word", ["1", "true", "YES", "On"])
def test_booleans(word: str) -> None:
    """There are four words for yes, in any case, and four for no (SB-236)."""
    assert load({"SSSNBUS_PROJECT_SCOPE": word}).project_scope
    assert not load({"SSSNBUS_PROJECT_SCOPE": "off"}).project_scope


def test_secrets_are_not_shown() -> None:
    """No error shows a password (SB-251)."""
    with pytest.raises(Problem) as caught:
        load({"SSSNBUS_BACKEND_PORT": "x", "SSSNBUS_BACKEND_PASSWORD": "s3cret"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "durability", "poll", "timeout"),
    [
        ({}, "disk", 0.25, 30.0),
        ({"SYNC_MODE": "full"}, "disk", 0.25, 30.0),
        ({"SYNC_MODE": "NORMAL"}, "process", 0.25, 30.0),
        ({"SYNC_MODE": "OFF", "MAX_INTERVAL": "0.01"}, "process", 0.01, 30.0),
        ({"BUSY_TIMEOUT": "1500", "MAX_INTERVAL": "0"}, "disk", 0.001, 1.5),
    ],
)
def test_what_reaches_the_store(env: dict[str, str], durability: str, poll: float, timeout: float) -> None:
    """Settings that concern the store are its options (SB-220, SB-222, SB-230)."""
    store = find(Place(file="x.db"), load(keyed(env))).store()
    assert isinstance(store, SQLiteStore)
    assert (store.durability, store.poll_interval, store._write_timeout) == (durability, poll, timeout)


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({"BACKEND": "postgres"}, "postgresql://localhost"),
        ({"BACKEND": "redis", "BACKEND_PORT": "6380"}, "redis://localhost:6380"),
        ({"BACKEND": "valkey", "BACKEND_HOST": "h", "BACKEND_DATABASE": "3"}, "redis://h/3"),
        ({"BACKEND": "nats", "BACKEND_TARGET": "nats://a:1"}, "nats://a:1"),
        ({"BACKEND": "redis", "BACKEND_HOST": "::1", "BACKEND_PORT": "1"}, "redis://[::1]:1"),
        ({"BACKEND": "redis", "BACKEND_HOST": "[::1]"}, "redis://[::1]"),
        ({"BACKEND": "nats", "BACKEND_SCHEMA": "a.b"}, "nats://localhost/?prefix=a.b"),
        (
            {"BACKEND": "postgresql", "BACKEND_USER": "me", "BACKEND_PASSWORD": "p@ss/w", "BACKEND_HOST": "h",
             "BACKEND_PORT": "5433", "BACKEND_DATABASE": "jobs", "BACKEND_SCHEMA": "s"},
            "postgresql://me:p%40ss%2Fw@h:5433/jobs?namespace=s",
        ),
        (
            {"BACKEND": "postgres", "BACKEND_TARGET": "postgresql://me@h/jobs", "BACKEND_PASSWORD": "x"},
            "postgresql://me:x@h/jobs",
        ),
        ({"URL": "redis://other", "BACKEND": "postgres"}, "redis://other"),
    ],
)  # fmt: skip
def test_backends(env: dict[str, str], url: str) -> None:
    """Another store is named by its parts or by its URL (SB-237)."""
    assert find(Place(), load(keyed(env))).url == url


def test_parts_of_a_project_file_are_its_own() -> None:
    """A project file says where the store is; the environment adds the secret only (SB-251)."""
    env = {"BACKEND_HOST": "elsewhere", "BACKEND_USER": "other", "BACKEND_PASSWORD": "x"}
    parts = {"target": None, "host": "h", "user": "me"}
    assert backend_url("postgresql", parts, load(keyed(env))) == "postgresql://me:x@h"


def test_listing(cli: Run, tmp_path: Path) -> None:
    """Every key is listed with its value and what it does, and secrets are not (SB-260)."""
    env = keyed({"MAX_INTERVAL": "0.5", "BACKEND_PASSWORD": "s3cret", "BACKEND_TARGET": "nats://me:s3cret@h"})
    code, out, err = cli("settings", env=env)
    assert (code, err) == (0, "")
    assert out.startswith(f"store: {tmp_path}/.sssnbus.db\n")
    assert "* SSSNBUS_MAX_INTERVAL=0.5\n      Seconds between" in out
    assert "  SSSNBUS_SYNC_MODE=FULL\n" in out
    assert "s3cret" not in out
    shown = json.loads(cli("settings", "--json", env=env).out)
    assert set(shown["settings"]) == {f"SSSNBUS_{each.name.upper()}" for each in fields(Settings)}
    nowhere = cli("settings", env=keyed({"PROJECT_SCOPE": "1"}))
    assert nowhere.lines[0].startswith("store: none (SSSNBUS_PROJECT_SCOPE is set")
    assert "* SSSNBUS_PROJECT_SCOPE=True" in nowhere.out
    assert list(tmp_path.iterdir()) == []


def test_logging(cli: Run) -> None:
    """What the library logs is for who asks for it (SB-238)."""
    assert cli("write", "q", "x", env={"SSSNBUS_LOGGING_ENABLED": "1"}).code == 0
