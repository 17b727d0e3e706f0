"""What the server's settings give, and that nothing else is promised."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sssnbus import Bus
from sssnbus.errors import IncompatibleStore, WeakDurability
from sssnbus.stores.redis.url import from_url
from tests.servers.process import Server, free_port
from tests.servers.redis import private_server
from tests.stores.redis.tools import client, draft, opened


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a private server whose settings the tests change."""
    server = private_server(tmp_path_factory.mktemp("settings"))
    server.start()
    yield server
    server.stop()


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
    """One node of a cluster serves a store whose keys are its own; of others it says where they are."""
    # Nodes speak to each other on a port that is higher by 10,000.
    port = next(port for port in iter(free_port, 0) if port < 55_000)
    server = private_server(folder, "--cluster-enabled", "yes", port=port)
    server.start()
    try:
        async with client(server.port) as plain:
            slots = [str(slot) for slot in range(16384)]
            await plain.execute_command("CLUSTER", "ADDSLOTS", *slots)
            while b"cluster_state:ok" not in await plain.execute_command("CLUSTER", "INFO"):
                pass
        async with opened(f"redis://127.0.0.1:{server.port}") as store:
            await store.append([draft("events"), draft("jobs")])
            assert (await store.claim("jobs", worker="w", lease=60)).leases
    finally:
        server.stop()
