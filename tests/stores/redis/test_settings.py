"""What the server's settings give, and that nothing else is promised."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError

from sssnbus import Bus
from sssnbus.errors import IncompatibleStore, StoreError, StoreUnavailable, WeakDurability
from sssnbus.stores.base import Ack
from sssnbus.stores.redis import script
from sssnbus.stores.redis.failure import translated
from sssnbus.stores.redis.url import from_url
from tests.servers.process import Server, free_port
from tests.servers.redis import answers, private_server, redis_server
from tests.stores.redis.tools import client, draft, opened, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a private server whose settings the tests change."""
    with private_server(tmp_path_factory.mktemp("settings")) as server:
        yield server


async def test_certificates_that_are_not_there() -> None:
    """A file of certificates that cannot be read is told as that, not as a server that is away."""
    with pytest.raises(StoreUnavailable, match=r"needs its ca file, and .* \(No such file or directory\)"):
        await from_url("rediss://127.0.0.1:1?ca=/nowhere.pem", None).open()


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({"appendonly": "no"}, "none"),
        ({"appendonly": "yes", "appendfsync": "no"}, "process"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, "none"),
        ({"appendonly": "yes", "appendfsync": "always"}, "disk"),
        ({"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "yes"}, "process"),
    ],
)
async def test_durability(server: Server, settings: dict[str, str], given: str) -> None:
    """An open store says what the server gives; asking for more is refused with the settings that say so."""
    url = f"redis://127.0.0.1:{server.port}"
    async with client(server.port) as plain:
        for name, value in {"no-appendfsync-on-rewrite": "no", **settings}.items():
            await plain.config_set(name, value)
    async with Bus(url) as bus:
        receipt = await bus.broadcast("events").write("me", 1)
        assert receipt.durability == given
    ranks = ["none", "process", "disk"]
    for wanted in ("process", "disk"):
        store = from_url(f"{url}?durability={wanted}", None)
        if ranks.index(wanted) <= ranks.index(given):
            await store.open()
            await store.aclose()
            continue
        with pytest.raises(WeakDurability) as caught:
            await store.open()
        for name, value in settings.items():
            assert f"{name} {value}" in str(caught.value)


async def test_eviction_is_refused(server: Server) -> None:
    """A server that may throw messages away is refused; one that evicts what expires is not."""
    async with client(server.port) as plain:
        await plain.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(IncompatibleStore, match=r"allkeys-lru\)\. Set it to noeviction"):
            await from_url(f"redis://127.0.0.1:{server.port}", None).open()
        await plain.config_set("maxmemory-policy", "volatile-lru")
        async with opened(f"redis://127.0.0.1:{server.port}") as store:
            await store.append([draft("events")])
            assert all([await plain.ttl(key) == -1 for key in await plain.keys("{sssnbus}*")])
        await plain.config_set("maxmemory-policy", "noeviction")


async def test_config_is_forbidden(server: Server) -> None:
    """Where CONFIG is not allowed, no more is promised than the server tells otherwise."""
    async with client(server.port) as plain:
        await plain.config_set("appendonly", "yes")
        await plain.config_set("appendfsync", "always")
        await plain.execute_command(
            "ACL",
            "SETUSER",
            "app",
            "on",
            ">secret",
            "~{app}*",
            "resetchannels",
            "&{app}*",
            "+@all",
            "-config",
        )
    url = f"redis://app:secret@127.0.0.1:{server.port}?prefix=app"
    async with opened(url) as store:
        assert store.durability == "none"
        await store.append([draft("events")])
        store.watch(lambda: None)
    with pytest.raises(WeakDurability, match="CONFIG is not allowed"):
        await from_url(f"{url}&durability=disk", None).open()


async def test_another_key(server: Server) -> None:
    """A key of somebody else under our name is left as it is."""
    async with client(server.port) as plain:
        await plain.set("{theirs}", "value")
        with pytest.raises(IncompatibleStore, match="Choose another prefix"):
            await from_url(f"redis://127.0.0.1:{server.port}?prefix=theirs", None).open()
        assert await plain.get("{theirs}") == b"value"
        await plain.hset("{newer}", mapping={"birth": "x", "version": "99"})
        with pytest.raises(IncompatibleStore, match="version 99"):
            await from_url(f"redis://127.0.0.1:{server.port}?prefix=newer", None).open()


async def test_cluster(folder: Path) -> None:
    """One node of a cluster serves a store whose keys are its own; the others say which one it is."""
    # Nodes speak to each other on a port that is higher by 10,000.
    ports = [port for port in (free_port() for _ in range(100)) if port < 55_000]
    nodes = [
        private_server(folder / f"{port}", "--cluster-enabled", "yes", port=port) for port in set(ports[:2])
    ]
    for node in nodes:
        node.start()
    try:
        first, second = nodes
        async with client(first.port) as one, client(second.port) as two:
            with pytest.raises(StoreUnavailable, match="Hash slot not served"):
                await from_url(f"redis://127.0.0.1:{first.port}", None).open()
            await one.execute_command("CLUSTER", "MEET", "127.0.0.1", str(second.port))
            # All keys of the default prefix are in slot 4880.
            await one.execute_command("CLUSTER", "ADDSLOTS", *map(str, range(8192)))
            await two.execute_command("CLUSTER", "ADDSLOTS", *map(str, range(8192, 16384)))
            for plain in (one, two):
                while b"cluster_state:ok" not in await plain.execute_command("CLUSTER", "INFO"):
                    pass
        async with opened(f"redis://127.0.0.1:{first.port}") as store:
            store.watch(lambda: None)
            await store.append([draft("events"), draft("jobs")])
            assert (await store.claim("jobs", worker="w", lease=60)).leases
        there = rf"another node of a Redis cluster, 127\.0\.0\.1:{first.port}\. Name that node"
        with pytest.raises(StoreUnavailable, match=there):
            await from_url(f"redis://127.0.0.1:{second.port}", None).open()
    finally:
        for node in nodes:
            node.stop()


@pytest.mark.parametrize(
    ("told", "meaning"),
    [
        (AskError("4880 127.0.0.1:7001"), "is being moved"),
        (ResponseError("ERR Script attempted to access a non local key in a cluster node"), "is being moved"),
        (MovedError("4880 127.0.0.1:7001"), "lies on another node"),
        (ResponseError("MOVED 4880 127.0.0.1:7001"), "another node of a Redis cluster, 127.0.0.1:7001"),
        (ResponseError("ASK 4880 127.0.0.1:7001"), "is being moved"),
        (ResponseError("CLUSTERDOWN Hash slot not served"), "cannot be reached: CLUSTERDOWN"),
        (ResponseError("BUSY Redis is busy running a script."), "does nothing else now: BUSY"),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), "takes no writes now"),
        (ClusterDownError("Hash slot not served"), "cannot be reached: Hash slot not served"),
    ],
)
def test_what_passes(told: RedisError, meaning: str) -> None:
    """What a server refuses for now is told as such: subscriptions and workers outlive it."""
    error = translated(told, "redis://host")
    assert isinstance(error, StoreUnavailable)
    assert error.retryable
    assert meaning in str(error)


async def test_sentinel(server: Server, folder: Path) -> None:
    """A Sentinel is no server to keep messages in, and that is said."""
    program, port = redis_server(), free_port()
    assert program is not None
    folder.mkdir()  # noqa: ASYNC240  # a test may wait for the disk
    settings = folder / "sentinel.conf"
    settings.write_text(f"port {port}\nsentinel monitor main 127.0.0.1 {server.port} 1\n")
    command = (program, str(settings), "--sentinel")
    with Server(command, port, folder / "sentinel.log", lambda: answers(port)):
        with pytest.raises(IncompatibleStore, match="it is a Sentinel, which keeps no data"):
            await from_url(f"redis://127.0.0.1:{port}", None).open()


async def test_too_few_replicas(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A server that takes no writes for now is told of: by a write, by opening, and where leases are kept."""
    url = f"redis://127.0.0.1:{server.port}"
    async with opened(url) as store, client(server.port) as plain:
        if int((await plain.info("server"))["redis_version"].split(".")[0]) < 7:
            pytest.skip("before 7 scripts write without the replicas that the server should have")
        await plain.config_set("min-replicas-to-write", 1)
        try:
            with pytest.raises(StoreUnavailable, match="takes no writes now: NOREPLICAS"):
                await store.append([draft("events")])
            with pytest.raises(StoreUnavailable, match="takes no writes now: NOREPLICAS"):
                await from_url(url, None).open()

            async def told() -> bool:
                return "are not renewed: NOREPLICAS" in caplog.text

            await until(told)
        finally:
            await plain.config_set("min-replicas-to-write", 0)
        await store.append([draft("events")])


RIGHTS = (
    "~{app}*",
    "&{app}*",
    "+@read",
    "+@write",
    "+@scripting",
    "+@pubsub",
    "+@connection",
    "+info",
    "+time",
)
"""What the README says that a user needs."""


async def allow(plain: Any, *rules: str) -> None:
    """Let the user ``app`` do some things, and nothing else."""
    await plain.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", "resetchannels", *rules)


async def test_rights_that_will_do(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """With the rights that are documented, and no others, all verbs work."""
    async with client(server.port) as plain:
        await allow(plain, *RIGHTS)
        url = f"redis://app:secret@127.0.0.1:{server.port}?prefix=app"
        async with opened(url) as other, opened(url) as store:
            await other._join()
            await store.append([draft("events"), draft("jobs", key="k"), draft("jobs", key="k", id="x")])
            await store.append([draft("events")])
            (lease,) = (await store.claim("jobs", worker="w", lease=60)).leases
            assert await store.settle("jobs", [Ack(lease.stored.sequence, lease.token, keep=True)]) == [True]
            assert await store.vacuum(compact=True) == 1
            assert (await store.usage()).size > 0
            assert await store.put("space", "name", b"1", version=None)
            assert await store.delete("space", "name")
            assert await store.trim("events", upto=1) == 1
            assert await store.remove("jobs", ["x"]) == 1
            await store.drop("jobs")
        # BGREWRITEAOF is not among them, and nothing depends on it.
        assert "refused" not in caplog.text


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        (("-hset", "-xadd"), "its user may not run HSET, XADD on {app}"),
        (("-@dangerous",), "'info' command"),
        (("-@scripting",), "'evalsha' command"),
        (("resetkeys", "~other*"), "access"),
        (("resetchannels",), "its user may not run PUBLISH on {app}"),
    ],
)
async def test_rights_that_will_not(server: Server, lacking: tuple[str, ...], told: str) -> None:
    """A user who may not do all is refused when the store is opened: nothing is done by halves."""
    async with client(server.port) as plain:
        async with opened(f"redis://127.0.0.1:{server.port}?prefix=app") as store:
            await store.append([draft("events")])
        await allow(plain, *RIGHTS, *lacking)
        with pytest.raises(StoreError, match="refused a command") as caught:
            await from_url(f"redis://app:secret@127.0.0.1:{server.port}?prefix=app", None).open()
        assert told in str(caught.value)
        assert not caught.value.retryable


async def test_rights_that_are_taken_away(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Without the right to tell others a write is a write; without that to listen it is said."""
    async with client(server.port) as plain, opened(f"redis://127.0.0.1:{server.port}?prefix=app") as other:
        await other._join()
        await allow(plain, *RIGHTS)
        async with opened(f"redis://app:secret@127.0.0.1:{server.port}?prefix=app") as store:
            before = (await other.last(["events"]))["events"]
            await plain.execute_command("ACL", "SETUSER", "app", "resetchannels")
            (short,) = await store.append([draft("events")])
            (long,) = await store.append([draft("events", id=f"given-{before}")])
            assert (short.sequence, long.sequence) == (before + 1, before + 2)
            assert await other.last(["events"]) == {"events": before + 2}
            store.watch(lambda: None)

            async def told() -> bool:
                return "No hints from" in caplog.text

            await until(told)
            assert len({stored.id for stored in (await other.read("events", after=0, limit=99)).messages}) > 1


def test_rights_are_all_asked_for() -> None:
    """Every command that a script consists of is tried when a store is opened."""
    folder = Path(script.__file__).parent
    tried = set(re.findall(r"\{ '([A-Z]+)'", (folder / "open.lua").read_text()))
    used = {
        name
        for path in folder.glob("*.lua")
        if path.name != "open.lua"
        for name in re.findall(r"call\('([A-Z]+)'", path.read_text())
    }
    # A size that is not told counts as 0.
    assert used - tried == {"MEMORY"}
