"""What the NATS store is told, what it finds on the server, and what it says of both."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sssnbus import Bus, IncompatibleStore, InvalidOption, InvalidURL, WeakDurability
from sssnbus.errors import ForkedProcess, MissingAbility, StoreError, StoreUnavailable
from sssnbus.stores import store_from_url
from sssnbus.stores.base import Kind, Release
from sssnbus.stores.nats import NATSStore, Settings
from sssnbus.stores.nats.failure import Nobody, check
from sssnbus.testing import StoreFactory
from sssnbus.testing.bench import draft, value
from tests.stores.nats.places import jetstream, nats_at, prefix, server_in


def store_of(factory: StoreFactory) -> NATSStore:
    """Return a store that is not open."""
    store = factory()
    assert isinstance(store, NATSStore)
    return store


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nats://", "a server follows two slashes"),
        ("nats://host/path", "a server follows two slashes"),
        ("nats://u:p@one,u:p@two", "the login stands once"),
        ("nats://host:port", "a server is host:port"),
        ("nats://host:70000", "a server is host:port"),
        ("nats://a,:1", "a server is host:port"),
        ("nats://host?prefix=a.b", "Invalid prefix='a.b': it must be 1 to 32 letters"),
        ("nats://host?replicas=2", "Invalid replicas=2: it must be 1, 3 or 5"),
        ("nats://host?replicas=x", "replicas must be a whole number"),
        ("nats://host?owner_timeout=0.5", "it must be at least 1 s"),
        ("nats://host?durability=ram", "durability must be disk or process"),
        ("nats://host?server_sync=no", "server_sync must be always"),
        ("nats://host?timeout=0", "timeout must be a number of seconds above 0"),
        ("tls://host?tls_ca=", "tls_ca must be not empty"),
        ("nats://host?tls_ca=ca.pem", "are for tls://, which is nats:// over TLS"),
        ("nats://host?tls_hostname=bus", "are for tls://, which is nats:// over TLS"),
        ("nats://host?sync=1", "unknown option 'sync'"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    """A URL that cannot be used is refused with what to write in its place."""
    with pytest.raises(InvalidURL) as caught:
        store_from_url(url)
    assert message in str(caught.value)


def test_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from the URL, or from the environment, and show nowhere."""
    monkeypatch.setenv("NATS_USER", "eve")
    monkeypatch.setenv("NATS_PASSWORD", "hunter2")

    def access(url: str) -> Any:
        store = store_from_url(url)
        assert isinstance(store, NATSStore)
        assert "hunter2" not in repr(store) + store.url + repr(store._access) + repr(vars(store))
        return store._access

    assert (access("nats://host").user, access("nats://host").password) == ("eve", "hunter2")
    assert access("nats://bob:hunter2%40@a:1,b").password == "hunter2@"
    assert access("nats://bob:x@a:1,b").servers == ("nats://a:1", "nats://b:4222")
    assert access("nats://hunter2@host").token == "hunter2"
    assert access("nats://hunter2@host").user is None


async def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    """A file of certificates that is not there, or is none, is told before anything is connected to."""
    (tmp_path / "none.pem").write_text("nothing")
    for name, problem in (("gone.pem", "No such file"), ("none.pem", "no certificate")):
        with pytest.raises(StoreUnavailable, match=f"needs its tls_ca file, and .*{problem}"):
            await store_from_url(f"tls://127.0.0.1:1?tls_ca={tmp_path}/{name}").open()


async def test_durability_is_what_can_be_known(address: str, place: StoreFactory) -> None:
    """A client cannot see whether the server syncs its files: disk is promised on somebody's word."""
    store = store_of(place)
    await store.open()
    assert store.durability == "process"
    await store.aclose()
    with pytest.raises(WeakDurability, match=r"sync_interval, 2 minutes unless .* sync_interval: always"):
        await store_of(nats_at(address, durability="disk")).open()
    for told in ("disk", "process"):
        sure = store_of(nats_at(address, durability=told, server_sync="always"))
        await sure.open()
        assert sure.durability == "disk"
        await sure.aclose()


async def test_settings_are_put_right(place: StoreFactory, store: NATSStore, address: str) -> None:
    """A stream that would drop old messages is mended when it is declared again, others' limits are kept."""
    await store.declare("a", Kind.LOG)
    async with jetstream(f"nats://{address}") as js:
        name = store._logs["a"].stream
        config = (await js.stream_info(name)).config
        await js.update_stream(config, discard="old", max_bytes=10_000_000)
        other = store_of(place)
        await other.open()
        await other.declare("a", Kind.LOG)
        config = (await js.stream_info(name)).config
        assert (str(config.discard), config.max_bytes) == ("new", 10_000_000)
        await other.aclose()


async def test_settings_that_cannot_be_put_right(address: str) -> None:
    """A stream in memory, or of somebody else, is refused with both values, and left as it is."""
    name = prefix()
    store = store_of(nats_at(address, name))
    async with jetstream(f"nats://{address}") as js:
        await js.add_stream(name=f"{name}_records", subjects=[f"{name}.r.>"])
        with pytest.raises(IncompatibleStore, match="format None and this version needs '1'"):
            await store.open()
        await js.delete_stream(f"{name}_records")
        metadata = {"format": "1"}
        await js.add_stream(
            name=f"{name}_records", subjects=[f"{name}.r.>"], storage="memory", metadata=metadata
        )
        with pytest.raises(IncompatibleStore, match="storage is 'memory' and must be 'file'"):
            await store_of(nats_at(address, name)).open()
        await js.delete_stream(f"{name}_records")


async def test_several_logs_are_not_one(store: NATSStore) -> None:
    """A batch over several logs is refused whole: this store cannot do it."""
    await store.declare("a", Kind.LOG)
    await store.declare("b", Kind.LOG)
    with pytest.raises(MissingAbility, match="AtomicBatch"):
        await store.append([draft("a", 1), draft("b", 2)])
    with pytest.raises(InvalidOption, match="at most 1000"):
        await store.append([draft("a", 1)] * 1001)
    assert await store.last(["a", "b"]) == {"a": 0, "b": 0}
    placed = await store.append([draft("a", number) for number in range(1000)])
    assert [place.sequence for place in placed] == list(range(1, 1001))


async def test_prefixes_keep_buses_apart(address: str) -> None:
    """Buses with different prefixes on one server do not meet."""
    async with (
        Bus(f"nats://{address}?prefix={prefix()}") as one,
        Bus(f"nats://{address}?prefix={prefix()}") as two,
    ):
        await one.broadcast("events").write("service", 1)
        assert await two.broadcast("events").read("a") == []


async def test_long_names(store: NATSStore) -> None:
    """Names of 512 characters, and names that differ at their end only, are logs of their own."""
    names = ["x" * 511 + end for end in "ab"]
    for name in names:
        await store.declare(name, Kind.LOG)
        await store.append([draft(name, name[-1])])
    assert [info.name for info in await store.logs()] == names
    for name in names:
        page = await store.read(name, after=0, limit=9)
        assert [value(stored) for stored in page.messages] == [name[-1]]


async def test_journal_is_cut(place: StoreFactory, store: NATSStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue's journal does not grow for ever, and who reads it late comes to the same state."""
    monkeypatch.setattr("sssnbus.stores.nats.journal.SNAPSHOT_EVERY", 50)
    await store.declare("q", Kind.QUEUE)
    await store.append([draft("q", number) for number in range(3)])
    for _ in range(120):
        (held,) = (await store.claim("q", worker="w", lease=60)).leases
        release = Release(held.stored.sequence, held.token, error="again")
        assert await store.settle("q", [release]) == [True]
    log = store._logs["q"]
    journal = store._names.journal(log.hash, log.incarnation)

    async def first() -> int:
        info = await store._link.api(f"STREAM.INFO.{journal}", deadline=store._deadline())
        return int(info["state"]["first_seq"])

    async with asyncio.timeout(20):
        while await first() == 1:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.01)
    other = store_of(place)
    await other.open()
    (held,) = (await other.claim("q", worker="w", lease=60)).leases
    assert (held.attempt, held.error) == (121, "again")
    assert await other.counts("q") == await store.counts("q")
    await other.aclose()


async def test_fork(tmp_path: Path, address: str) -> None:
    """A forked child is told that the store is not its own."""
    program = f"""
import asyncio, os
from sssnbus.errors import ForkedProcess
from tests.stores.nats.places import nats_at

async def main():
    store = nats_at("{address}")()
    await store.open()
    if not os.fork():
        try:
            asyncio.events._set_running_loop(None)
            store._check()
        except ForkedProcess:
            os._exit(0)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
    await store.aclose()

asyncio.run(main())
"""
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parents[3],
    )
    assert (run.stdout.strip(), run.stderr) == ("0", "")
    assert issubclass(ForkedProcess, Exception)


async def test_old_server(tmp_path: Path, store: NATSStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot take several messages as one is refused with both versions."""
    monkeypatch.setattr("sssnbus.stores.nats.core.OLDEST", (99, 0, 0))
    with pytest.raises(
        IncompatibleStore, match=r"its server is version 2\.\d+\.\d+, and 99\.0\.0 is the oldest"
    ):
        await NATSStore(store._access, Settings(prefix=prefix())).open()


async def test_restricted_user(tmp_path: Path) -> None:
    """A user without the rights is told which one is missing."""
    with server_in(
        tmp_path,
        'authorization { users: [{ user: me, password: x, permissions: { publish: ["_INBOX.>"] } }] }',
    ) as server:
        store = store_from_url(f"nats://me:x@127.0.0.1:{server.port}?timeout=1&connect_timeout=1")
        with pytest.raises(StoreError, match="may not be used like this"):
            await store.open()


async def test_removed_by_two(store: NATSStore) -> None:
    """A message that somebody else has just taken out of the stream needs no removing: wherever it lay."""
    await store.declare("q", Kind.QUEUE)
    await store.append([draft("q", number) for number in range(5)])
    await store.counts("q")
    mirror = store._logs["q"].mirror
    assert mirror is not None
    for sequence in (3, 1, 5, 2, 4):
        await mirror.remove_now([sequence])
        await mirror.remove_now([sequence])
        await asyncio.gather(*(mirror.remove_now([sequence]) for _ in range(5)))
    info = await store._link.api(f"STREAM.INFO.{store._logs['q'].stream}", deadline=store._deadline())
    assert info["state"]["messages"] == 0


def test_earlier_try_that_is_not_decided_yet() -> None:
    """A cluster that is at work on an earlier try is asked again, and that one may count."""
    with pytest.raises(Nobody) as caught:
        check({"error": {"err_code": 10158, "description": "duplicate message id is in process"}}, "nats://x")
    assert caught.value.repeated
