"""The way to Redis is cut at each step."""

from urllib.parse import urlsplit

import pytest

from sssnbus.stores.redis.place import PORT
from tests.servers.proxy import Proxy
from tests.stores.cuts import check_cuts, check_late_server


@pytest.mark.timeout(600)
@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.torture, id="for_long")])
async def test_cut_anywhere(url: str, every: int) -> None:
    """Wherever it is cut, opening included, programs go on by themselves (E12)."""
    there = urlsplit(url)
    async with Proxy(there.hostname or "", there.port or PORT) as proxy:
        way = url.replace(there.netloc, f"127.0.0.1:{proxy.port}")
        await check_cuts(proxy, lambda name: f"{way}-{name}", every)


async def test_server_that_comes_late(url: str) -> None:
    """A server that starts while it is connected to is waited for."""
    there = urlsplit(url)
    async with Proxy(there.hostname or "", there.port or PORT) as proxy:
        await check_late_server(proxy, url.replace(there.netloc, f"127.0.0.1:{proxy.port}"))
