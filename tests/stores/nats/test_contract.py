"""The NATS store keeps every promise of the contract that its abilities make."""

import pytest

from sssnbus.stores.nats import NATSStore
from sssnbus.testing import Check, StoreFactory, contract_checks


@pytest.mark.parametrize("check", contract_checks(NATSStore, shared=True), ids=str)
async def test_nats(check: Check, place: StoreFactory) -> None:
    """The NATS store keeps the promise.

    BV-03, SN-38, SN-40, SN-41, SN-42, SN-43, SN-44, SN-47
    """
    await check(place)
