"""What users may hand in, on NATS."""

from collections.abc import Awaitable, Callable

import pytest

from sssnbus import Bus
from sssnbus.testing import StoreFactory
from tests.stores.extremes import CHECKS


@pytest.mark.parametrize("check", CHECKS)
async def test_extremes(check: Callable[[Bus], Awaitable[None]], place: StoreFactory) -> None:
    """What no store has given out is not there; numbers beyond all bounds mean all there is."""
    store = place()
    async with Bus(store) as bus:
        await check(bus)
    await store.aclose()
