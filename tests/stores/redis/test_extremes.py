"""What users may hand in, on Redis."""

from collections.abc import Awaitable, Callable

import pytest

from sssnbus import Bus
from tests.stores.extremes import CHECKS


@pytest.mark.parametrize("check", CHECKS)
async def test_extremes(check: Callable[[Bus], Awaitable[None]], url: str) -> None:
    """What no store has given out is not there; numbers beyond all bounds mean all there is."""
    async with Bus(url) as bus:
        await check(bus)
