"""What users may hand in, on PostgreSQL."""

from collections.abc import Awaitable, Callable

import pytest

from sssnbus import Bus
from tests.stores.extremes import CHECKS
from tests.stores.postgres.tools import Site


@pytest.mark.parametrize("check", CHECKS)
async def test_extremes(check: Callable[[Bus], Awaitable[None]], site: Site) -> None:
    """What no store has given out is not there; numbers beyond all bounds mean all there is."""
    async with Bus(site.url()) as bus:
        await check(bus)
