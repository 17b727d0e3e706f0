"""The proxy misbehaves as it says, so that the tests that rely on it test something."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.servers.proxy import Proxy


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Give a proxy before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


async def test_passes_bytes(proxy: Proxy) -> None:
    """What goes in comes out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    assert proxy.connections == 1
    writer.close()


async def test_cut_and_mend(proxy: Proxy) -> None:
    """A cut ends connections and new ones too, until it is mended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"x")
    await reader.readexactly(1)
    proxy.cut()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    reader, second = await asyncio.open_connection("127.0.0.1", proxy.port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    proxy.mend()
    reader, third = await asyncio.open_connection("127.0.0.1", proxy.port)
    third.write(b"x")
    assert await reader.readexactly(1) == b"x"
    for each in (writer, second, third):
        each.close()


async def test_black_hole(proxy: Proxy) -> None:
    """Held bytes go nowhere, and arrive when it is mended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.hold()
    writer.write(b"x")
    answer = asyncio.create_task(reader.readexactly(1))
    done, _ = await asyncio.wait([answer], timeout=0.05)
    assert not done
    proxy.mend()
    assert await answer == b"x"
    writer.close()
