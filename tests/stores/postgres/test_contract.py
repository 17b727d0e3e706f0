"""The PostgreSQL store keeps every promise of the contract."""

import pytest

from sssnbus.stores import PostgresStore
from sssnbus.testing import Check, contract_checks
from tests.stores.postgres.tools import Site


@pytest.mark.parametrize("check", contract_checks(PostgresStore, shared=True), ids=str)
async def test_contract(check: Check, site: Site) -> None:
    """The store keeps the promise.

    BV-03, SN-38, SN-40, SN-41, SN-42, SN-43, SN-44, SN-47, SB-273
    """
    await check(site.factory)
