"""The Redis store keeps every promise of the contract."""

import pytest

from sssnbus.stores.redis import RedisStore
from sssnbus.testing import Check, contract_checks
from tests.stores.redis.tools import stores_at


@pytest.mark.parametrize("check", contract_checks(RedisStore, shared=True), ids=str)
async def test_contract(check: Check, url: str) -> None:
    """The store keeps the promise; its time is the check's, so also those that turn the clock."""
    await check(stores_at(url))
