"""A URL names a store, or the error says what is wrong with it and shows no secret."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sssnbus import stores
from sssnbus.clock import Clock
from sssnbus.errors import InvalidName, InvalidURL
from sssnbus.stores import (
    Catalogue,
    Kind,
    LogStore,
    MemoryStore,
    SQLiteStore,
    Store,
    register,
    store_from_url,
)
from sssnbus.stores.registry import _registered, make_store
from sssnbus.stores.url import redacted
from sssnbus.testing import ManualClock
from sssnbus.testing.bench import draft


@pytest.fixture
def scheme() -> Iterator[str]:
    """Give a scheme that is free, and free it again."""
    yield "test+x"
    _registered.pop("test+x", None)


def test_memory() -> None:
    """Every ``memory://`` is a store of its own."""
    first, second = store_from_url("memory://"), store_from_url("memory://")
    assert isinstance(first, MemoryStore)
    assert first is not second
    assert first.url == "memory://"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///events.db", "events.db"),
        ("sqlite:///a/b/events.db", "a/b/events.db"),
        ("sqlite:////tmp/events.db", "/tmp/events.db"),
        ("sqlite:///./events.db", "events.db"),
        ("sqlite:///C:/x.db", "C:/x.db"),
        ("sqlite:///a%20b%3F%23.db", "a b?#.db"),
        ("sqlite:///%C3%A4.db", "ä.db"),
    ],
)
def test_sqlite_paths(url: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes and a relative path, four for an absolute one; nothing is made yet (SB-147)."""
    monkeypatch.chdir(tmp_path)
    store = store_from_url(url)
    assert isinstance(store, SQLiteStore)
    assert store.url == f"sqlite:///{os.path.abspath(path)}"
    assert list(tmp_path.iterdir()) == []


def test_sqlite_options() -> None:
    """Options of the store can be given in the URL."""
    assert store_from_url("sqlite:///x.db").durability == "disk"
    assert store_from_url("sqlite:///x.db?durability=process").durability == "process"
    store = store_from_url("sqlite:///x.db?poll_interval=0.5&doorbells=no&write_timeout=2&mode=0660")
    assert isinstance(store, SQLiteStore)
    assert store.poll_interval == 0.5


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "it has no scheme"),
        ("events.db", "it has no scheme; begin with memory, sqlite, nats, tls, postgresql, postgres, redis"),
        ("sqlite:/events.db", "rediss and ://; a file is sqlite:///file.db"),
        ("mysql://x", "its scheme is not one of memory, sqlite, nats"),
        ("SQLITE:///x.db", "its scheme is not one of memory, sqlite, nats"),
        ("postgresql://localhost", "a host and a database follow"),
        ("redis://", "write redis://host:port/database"),
        ("redis://h:0", "write redis://host:port/database"),
        ("redis://a:1,b:2", "with one host"),
        ("redis://:p@ss/word@h", "in a login @ is %40 and / is %2F"),
        ("redis://h:port", "write redis://host:port/database"),
        ("redis://h/events", "write redis://host:port/database"),
        ("redis://h?durability=ram", "durability must be disk or process"),
        ("redis://h?prefix={x}", "prefix must be 1 to 64 letters"),
        ("redis://h?timeout=0", "timeout must be a number of seconds above 0"),
        ("redis://h?ca=x.pem", "ca is for rediss://"),
        ("memory://x", "memory is no place"),
        ("memory:///x", "memory is no place"),
        ("memory://?durability=disk", "it has the unknown option 'durability'; none is allowed"),
        ("sqlite://events.db", "a file follows three slashes"),
        ("sqlite://", "a file follows three slashes"),
        ("sqlite:///", "a file follows three slashes"),
        ("sqlite:///a%00b", "a file follows three slashes"),
        ("sqlite:///x.db#y", "write # in a name as %23"),
        ("sqlite:///x.db?", None),
        ("sqlite:///x.db?durability", "its options are not name=value"),
        ("sqlite:///x.db?durability=ram", "durability must be disk or process"),
        ("sqlite:///x.db?durability=", "durability must be disk or process"),
        (
            "sqlite:///x.db?sync=1",
            "unknown option 'sync'; allowed are durability, poll_interval, doorbells, write_timeout, mode",
        ),
        ("sqlite:///x.db?poll_interval=nan", "poll_interval must be a number of seconds above 0"),
        ("sqlite:///x.db?poll_interval=0", "poll_interval must be a number of seconds above 0"),
        ("sqlite:///x.db?write_timeout=soon", "write_timeout must be a number of seconds above 0"),
        ("sqlite:///x.db?doorbells=1", "doorbells must be yes or no"),
        ("sqlite:///x.db?mode=999", "mode must be octal permissions from 0600 to 0666"),
        ("sqlite:///x.db?mode=0777", "mode must be octal permissions from 0600 to 0666"),
        ("redis://[::1", "its options are not name=value"),
        ("sqlite://[::1", "its options are not name=value"),
    ],
)
def test_bad_urls(url: str, message: str | None) -> None:
    """A URL that cannot be used is refused with what to write in its place."""
    if message is None:
        store_from_url(url)
        return
    with pytest.raises(InvalidURL) as caught:
        store_from_url(url)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@localhost/zero",
        "redis://:hunter2@localhost:x",
        "rediss://:hunter2@localhost?password=hunter2",
        "nats://user:hunter2@localhost/path",
        "nats://hunter2@localhost:port",
        "nats://localhost?prefix=hunter.2&token=hunter2",
        "postgresql://u:p%40hunter2@h?password=hunter2",
        "sqlite://user:hunter2@host/x.db",
        "sqlite:///x.db?key=hunter2",
        "://user:hunter2@host",
        "nats://u:hunter2@a,nats://v:hunter2@b",
        "mysql://u:hunter2@a,v:hunter2@b/x",
        "sqlite:///x.db?hunter2",
        "sqlite:///x.db#hunter2",
        "mysql://a:hunter2@[::1",
        "user:hunter2@localhost",
        "host=localhost password=hunter2",
        "unknown://u:hunter2@h",
    ],
)
def test_errors_show_no_secret(url: str) -> None:
    """No error text, and nothing chained to it, shows a password."""
    with pytest.raises(InvalidURL) as caught:
        store_from_url(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in str(error) + repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_redacted_keeps_what_helps() -> None:
    """What is no secret stays readable."""
    assert redacted("redis://user:x@localhost:6379/0") == "redis://***@localhost:6379/0"
    assert redacted("sqlite:////tmp/x.db?durability=disk") == "sqlite:////tmp/x.db?durability=***"
    assert redacted("memory://") == "memory://"


async def test_the_clock_is_handed_on(tmp_path: Path) -> None:
    """A store made from a URL or a path goes by the clock that it is given."""
    clock = ManualClock()
    for place in ("memory://", f"sqlite:///{tmp_path}/x.db", tmp_path / "y.db"):
        store = make_store(place, clock)
        await store.open()
        assert isinstance(store, LogStore)
        assert isinstance(store, Catalogue)
        await store.declare("a", Kind.LOG)
        (placed,) = await store.append([draft("a", 1)])
        assert abs(int(placed.id) - clock.time() * 1e9) < 1e6
        await store.aclose()


def test_a_store_is_taken_as_it_is() -> None:
    """A store that is handed in stays the same object."""
    store = MemoryStore()
    assert make_store(store) is store


def test_register(scheme: str) -> None:
    """A store of somebody else is made for its own scheme, from the whole URL and the clock (SB-270)."""
    seen: list[tuple[str, Clock | None]] = []

    def factory(url: str, clock: Clock | None) -> Store:
        seen.append((url, clock))
        return MemoryStore(clock=clock)

    register(scheme, factory)
    clock = ManualClock()
    assert isinstance(store_from_url(f"{scheme}://place?x=1"), MemoryStore)
    assert isinstance(store_from_url(f"{scheme}://other", clock), MemoryStore)
    assert seen == [(f"{scheme}://place?x=1", None), (f"{scheme}://other", clock)]


@pytest.mark.parametrize("taken", ["memory", "sqlite", "redis", "", "Upper", "with space", "a.b", "ä", "-"])
def test_register_refuses(taken: str) -> None:
    """A scheme is free and of plain characters."""
    with pytest.raises(InvalidName, match="URL scheme"):
        register(taken, lambda url, clock: MemoryStore())


def test_memory_needs_no_driver() -> None:
    """A program with memory stores only loads no driver, and each other store loads its own."""
    program = (
        "import sys, sssnbus.stores as s; s.store_from_url('memory://');"
        "drivers = {'aiosqlite', 'sqlite3', 'redis', 'nats', 'asyncpg'};"
        "assert not drivers & sys.modules.keys(); s.SQLiteStore;"
        "assert drivers & sys.modules.keys() == {'aiosqlite', 'sqlite3'}; s.RedisStore;"
        "assert 'redis' in sys.modules; assert 'nats' not in sys.modules; s.NATSStore;"
        "assert 'nats' in sys.modules; assert 'asyncpg' not in sys.modules; s.PostgresStore;"
        "assert 'asyncpg' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


@pytest.mark.parametrize("use", ["store_from_url('redis://localhost')", "RedisStore"])
def test_a_missing_extra_is_told(use: str) -> None:
    """Without the client of a store, asking for the store says what to install."""
    program = f"""
import sys
sys.modules["redis"] = None
from sssnbus import errors, stores
try:
    stores.{use}
except errors.MissingExtra as error:
    assert "sssnbus[redis]" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


@pytest.mark.parametrize(
    ("driver", "url", "name", "extra"),
    [
        ("nats", "nats://h", "NATSStore", "nats"),
        ("asyncpg", "postgresql://h/d", "PostgresStore", "postgres"),
        ("redis", "redis://h", "RedisStore", "redis"),
    ],
)
def test_missing_driver(driver: str, url: str, name: str, extra: str) -> None:
    """Without its driver, a store and its URL name the extra to install."""
    program = (
        "import sys, sssnbus.stores as s; from sssnbus.errors import MissingExtra\n"
        f"sys.modules[{driver!r}] = None\n"
        f"for use in (lambda: s.store_from_url({url!r}), lambda: s.{name}):\n"
        "    try: use()\n"
        f"    except MissingExtra as error: assert 'sssnbus[{extra}]' in str(error)\n"
        "    else: raise SystemExit('it was not missed')"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_unknown_names_are_unknown() -> None:
    """The lazy name does not hide mistakes."""
    with pytest.raises(AttributeError, match="no attribute 'SqliteStore'"):
        stores.SqliteStore  # type: ignore[attr-defined]  # noqa: B018  # looking is the point
