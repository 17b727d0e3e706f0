"""The life of a store on Redis: processes, loops, TLS, and what it leaves behind."""

import asyncio
import gc
import os
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sssnbus.errors import ForkedProcess, StoreUnavailable
from sssnbus.stores.base import Counts
from sssnbus.stores.redis import RedisStore
from sssnbus.stores.redis.url import from_url
from tests.servers.proxy import Proxy
from tests.stores.redis.tools import client, draft, opened


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_fork(store: RedisStore) -> None:
    """A forked child may not use the store; the parent goes on."""
    await store.append([draft("events", b"1")])
    with warnings.catch_warnings():
        # Newer interpreters warn of forks while there are threads.
        warnings.simplefilter("ignore")
        child = os.fork()
    if not child:
        code = 1
        try:
            for verb in (store.last(["events"]), store.aclose()):
                try:
                    verb.send(None)
                except ForkedProcess:
                    code = 0
                else:
                    code = 2
                    break
        finally:
            os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (await store.append([draft("events", b"2")]))[0].sequence == 2


async def test_nothing_is_left_behind(url: str) -> None:
    """A closed store has left every list; a log that is dropped leaves no key."""
    async with opened(url) as store:
        await store.append([draft("jobs", id="x", key="k", priority=1), draft("jobs", due=1e10)])
        await store.claim("jobs", worker="w", lease=60)
        place = store._place
        for log in ("jobs", "events"):
            await store.drop(log)
    async with client(place.port) as plain:
        assert await plain.keys(f"{place.clock_key}:*") == []
        assert set(await plain.hkeys(place.clock_key)) == {b"birth", b"version", b"s", b"n", b"v"}


async def test_never_closed(url: str) -> None:
    """A store that nobody closes is told of, and its thread ends."""
    store = from_url(url, None)
    await store.open()
    keeper = store._keeper
    with pytest.warns(ResourceWarning, match="never closed"):
        store.__del__()
    await keeper.ended
    await store.aclose()


async def test_closing_without_a_server(url: str) -> None:
    """Closing takes no longer than its grace, also if nobody answers."""
    store = from_url(url, None)
    await store.open()
    await store._writer._hang_up()
    async with asyncio.timeout(10):
        await store.aclose(grace=0.2)
    gc.collect()


async def test_separate_prefixes(url: str) -> None:
    """Stores with different prefixes on one server do not see each other."""
    async with opened(url) as one, opened(url + "-other") as two:
        await one.append([draft("jobs")])
        assert await two.counts("jobs") == Counts()


@asynccontextmanager
async def tls_before(port: int, folder: Path, name: str) -> AsyncIterator[tuple[int, Path]]:
    """Give the port of a TLS server before a plain one, and its certificate, made out to a name."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(certificate)]
    try:
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            target.write(piece)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, out), pass_on(there, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], certificate
    finally:
        server.close()


async def test_tls(server_url: str, url: str, tmp_path: Path) -> None:
    """Over TLS all works with a certificate that is trusted and made out to the host; else nothing does."""
    plain = from_url(url, None)._place
    async with tls_before(plain.port, tmp_path, "IP:127.0.0.1") as (port, certificate):
        place = f"rediss://127.0.0.1:{port}?prefix={plain.prefix}"
        async with opened(f"{place}&ca={certificate}") as store:
            await store.append([draft("jobs")])
            assert (await store.claim("jobs", worker="w", lease=0.5)).leases
        with pytest.raises(StoreUnavailable, match="certificate"):
            await from_url(place, None).open()
    async with tls_before(plain.port, tmp_path, "DNS:elsewhere.example") as (port, certificate):
        with pytest.raises(StoreUnavailable, match=r"not valid for '127\.0\.0\.1'"):
            await from_url(f"rediss://:hunter2@127.0.0.1:{port}?ca={certificate}", None).open()


async def test_closing_while_joining(server_url: str, url: str) -> None:
    """Closing ends a store that is just asking to be told of news by a server that does not answer."""
    port = from_url(url, None)._place.port
    async with Proxy("127.0.0.1", port) as proxy:
        store = from_url(url.replace(f":{port}", f":{proxy.port}") + "&timeout=3600", None)
        await store.open()
        join, joining = store._bell._join, asyncio.Event()

        async def join_a_server_that_hangs() -> None:
            proxy.hold()
            joining.set()
            await join()

        store._bell._join = join_a_server_that_hangs
        store.watch(lambda: None)
        await joining.wait()
        async with asyncio.timeout(10):
            await store.aclose(grace=0.2)
