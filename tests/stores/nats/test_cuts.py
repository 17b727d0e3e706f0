"""The way to NATS is cut at each step."""

import pytest

from tests.servers.proxy import Proxy
from tests.stores.cuts import check_cuts, check_late_server
from tests.stores.nats.places import prefix


@pytest.mark.timeout(600)
@pytest.mark.parametrize("every", [37, pytest.param(1, marks=pytest.mark.torture, id="for_long")])
async def test_cut_anywhere(address: str, every: int) -> None:
    """Wherever it is cut, opening included, programs go on by themselves (E12)."""
    host, _, port = address.partition(":")
    async with Proxy(host, int(port)) as proxy:
        await check_cuts(proxy, lambda _: f"nats://127.0.0.1:{proxy.port}?prefix={prefix()}", every)


async def test_server_that_comes_late(address: str) -> None:
    """A server that starts while it is connected to is waited for."""
    host, _, port = address.partition(":")
    async with Proxy(host, int(port)) as proxy:
        await check_late_server(proxy, f"nats://127.0.0.1:{proxy.port}?prefix={prefix()}")
