"""What users may hand in, in memory and on a file."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sssnbus import Bus
from tests.stores.extremes import CHECKS


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty store."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/x.db"


@pytest.mark.parametrize("check", CHECKS)
async def test_extremes(check: Callable[[Bus], Awaitable[None]], url: str) -> None:
    """What no store has given out is not there; numbers beyond all bounds mean all there is."""
    async with Bus(url) as bus:
        await check(bus)
