"""The way to PostgreSQL is cut at each step."""

from dataclasses import replace

import pytest

from tests.servers.proxy import Proxy
from tests.stores.cuts import check_cuts, check_late_server
from tests.stores.postgres.tools import Site


@pytest.mark.timeout(600)
@pytest.mark.parametrize("every", [47, pytest.param(1, marks=pytest.mark.torture, id="for_long")])
async def test_cut_anywhere(site: Site, every: int) -> None:
    """Wherever it is cut, opening included, programs go on by themselves (E12)."""
    async with Proxy("127.0.0.1", site.port) as proxy:

        def url(name: str) -> str:
            return replace(site, namespace=f"{site.namespace}_{name}").url(proxy.port)

        await check_cuts(proxy, url, every)


async def test_server_that_comes_late(site: Site) -> None:
    """A server that starts while it is connected to is waited for."""
    async with Proxy("127.0.0.1", site.port) as proxy:
        await check_late_server(proxy, site.url(proxy.port))
