"""What the store says of the server's durability is true; what it cannot work with it refuses untouched."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from sssnbus import Bus
from sssnbus.errors import IncompatibleStore, InvalidURL, StoreUnavailable, WeakDurability
from sssnbus.stores import PostgresStore, store_from_url
from tests.servers.postgres import PostgresServer
from tests.stores.postgres.tools import Site, draft, opened


async def test_durable_server(own_server: PostgresServer) -> None:
    """With the server's defaults a write survives a power cut, and receipts say so."""
    site = Site(own_server.url, "a")
    async with opened(site, durability="disk") as store:
        assert store.durability == "disk"
    async with Bus(site.url()) as bus:
        receipt = await bus.broadcast("events").write("me", {"a": 1})
        assert receipt.durability == "disk"


async def test_careless_server(site: Site) -> None:
    """Without fsync only less is promised, and more is refused with the name of the setting."""
    if (await site.run("SHOW fsync"))[0][0] == "on":
        pytest.skip("the server of the environment is careful")
    async with opened(site) as store:
        assert store.durability == "process"
    async with opened(site, durability="process") as store:
        assert store.durability == "process"
    with pytest.raises(WeakDurability, match="durability=disk, but promises 'process': fsync is off"):
        await site.store(durability="disk").open()


async def test_asynchronous_commit(own_server: PostgresServer) -> None:
    """A database that answers before its log is on disk promises less, however it was set."""
    site = Site(own_server.url, "a")
    async with opened(site):
        pass
    await site.run("ALTER DATABASE postgres SET synchronous_commit = off")
    try:
        async with opened(site) as store:
            assert store.durability == "none"
        for wanted in ("process", "disk"):
            with pytest.raises(WeakDurability, match="synchronous_commit is off"):
                await site.store(durability=wanted).open()
    finally:
        await site.run("ALTER DATABASE postgres RESET synchronous_commit")


async def test_foreign_schema(site: Site) -> None:
    """A schema that holds something else is refused and left as it is."""
    await site.run("CREATE SCHEMA {schema}")
    await site.run("CREATE TABLE {schema}.invoice (id int)")
    with pytest.raises(IncompatibleStore, match="holds tables of something else"):
        await site.store().open()
    await site.run("CREATE TABLE {schema}.meta (id int)")
    with pytest.raises(IncompatibleStore, match="has a table 'meta' of something else"):
        await site.store().open()
    tables = await site.run(
        "SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1", site.namespace
    )
    assert [row[0] for row in tables] == ["invoice", "meta"]


async def test_newer_schema(site: Site) -> None:
    """A schema of a newer version is refused."""
    async with opened(site):
        pass
    await site.run("UPDATE {schema}.meta SET value = '2' WHERE name = 'version'")
    with pytest.raises(IncompatibleStore, match="has version 2, this program knows 1"):
        await site.store().open()


async def test_opened_by_many_at_once(site: Site) -> None:
    """Of several stores that come first, one makes the tables, and all find them."""
    stores = [site.store() for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({store.owner for store in stores}) == 5
    for store in stores:
        await store.aclose()


async def test_other_encoding(site: Site) -> None:
    """A database that cannot hold every text is refused."""
    connection = await asyncpg.connect(site.address)
    await connection.execute("DROP DATABASE IF EXISTS latin")
    await connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(Exception, match="encoding of its database is not UTF8"):
            await Site(site.address.rpartition("/")[0] + "/latin", "a").store().open()
    finally:
        await connection.execute("DROP DATABASE latin WITH (FORCE)")
        await connection.close()


async def test_namespaces_are_apart(site: Site) -> None:
    """Two namespaces of one database do not know each other."""
    other = Site(site.address, site.namespace + "_b")
    async with opened(site) as one, opened(other) as two:
        await one.append([draft("events")])
        assert await two.last(["events"]) == {"events": 0}
        assert not await two.alive(one.owner)
    await other.remove()


async def test_behind_a_pooler(site: Site) -> None:
    """In pooler mode nothing of a session is relied on: no prepared statement, no lock, no notification."""
    async with opened(site, pooler="yes") as store, opened(site, pooler="yes") as other:
        assert store.poll_interval == 0.25
        await store.append([draft("jobs"), draft("events", id="x")])
        await other.changed()
        assert not await other.changed()
        await store.append([draft("events")])
        assert await other.changed()
        assert len((await other.claim("jobs", worker="w", lease=60)).leases) == 1
        assert await store.alive(other.owner)
        locks = await site.run(
            "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'"
            " AND application_name LIKE 'sssnbus%'"
        )
        assert locks == []


async def test_past_a_pooler(site: Site) -> None:
    """With a way past the pooler there are notifications."""
    async with (
        opened(site, pooler="yes", direct=site.address, poll_interval=3600) as store,
        opened(site) as other,
    ):
        rung = asyncio.Event()
        store.watch(rung.set)
        await asyncio.wait_for(rung.wait(), 10)
        rung.clear()
        await other.append([draft("events")])
        await asyncio.wait_for(rung.wait(), 10)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://", "a host and a database follow"),
        ("postgresql://h", "a host and a database follow"),
        ("postgresql:///db", "a host and a database follow"),
        ("postgresql://h:x/db", "its port is not a number"),
        ("postgresql://h/db?namespace=A", "namespace must be 1 to 40"),
        ("postgresql://h/db?namespace=pg_x", "namespace must be 1 to 40"),
        ("postgresql://h/db?namespace=public", "namespace must be 1 to 40"),
        ("postgresql://h/db?namespace=a%22b", "namespace must be 1 to 40"),
        ("postgresql://h/db?timeout=0", "timeout must be a number of seconds above 0"),
        ("postgresql://h/db?durability=ram", "durability must be disk or process"),
        ("postgresql://h/db?direct=other", "direct must be a postgresql:// URL"),
        ("postgresql://h/db?sslmod=x", "unknown option 'sslmod'"),
        ("postgresql://h/db?sslmode=on", "sslmode must be disable or allow or prefer or require or"),
        ("postgresql://h/db?target_session_attrs=rw", "target_session_attrs must be any or primary or"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    """What a URL says wrong is told with what to write in its place."""
    with pytest.raises(InvalidURL, match=message):
        store_from_url(url)


def test_urls() -> None:
    """Both schemes name the store, and what is shown of it holds no secret."""
    for scheme in ("postgres", "postgresql"):
        store = store_from_url(f"{scheme}://u:hunter2@h:1/db?namespace=a&sslmode=require&password=hunter2")
        assert isinstance(store, PostgresStore)
        assert "hunter2" not in store.url + repr(vars(store))
        assert store.url.endswith("://***@h:1/db?namespace=a")
    assert store_from_url("postgresql:///db?host=/run/pg").url == "postgresql:///db?namespace=sssnbus"
    assert store_from_url("postgresql://h1:1,h2:2/db?target_session_attrs=read-write").url.startswith(
        "postgresql://h1"
    )


async def test_server_without_tls(site: Site) -> None:
    """A server without TLS is not asked for it twice, and certificates that are not there are told."""
    if (await site.run("SHOW ssl"))[0][0] == "on":
        pytest.skip("the server of the environment has TLS")
    with pytest.raises(StoreUnavailable, match="does not speak TLS, which sslmode asks for"):
        await site.store(sslmode="require", connect_timeout=60).open()
    with pytest.raises(StoreUnavailable, match="Check the files that its URL names"):
        await site.store(sslmode="verify-full", sslrootcert="/nowhere.pem", connect_timeout=0.1).open()


async def test_certificates_that_nobody_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wants certificates checked and names none to trust is told of the option."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    with pytest.raises(IncompatibleStore, match="verify-full need sslrootcert"):
        await site.store(sslmode="verify-full").open()


async def test_password_of_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that the URL leaves out comes from PGPASSWORD."""
    secret = f":{PostgresServer.password}@"
    if secret not in site.address:
        pytest.skip("the server of the environment has another password")
    monkeypatch.setenv("PGPASSWORD", PostgresServer.password)
    async with opened(Site(site.address.replace(secret, "@"), site.namespace)) as store:
        assert await store.last(["events"]) == {"events": 0}
