"""Every store keeps every promise of the contract."""

from pathlib import Path

import pytest

from sssnbus.clock import Clock
from sssnbus.stores import Catalogue, LogStore, MemoryStore, SQLiteStore, Store
from sssnbus.testing import Check, contract_checks
from sssnbus.testing.bench import refused
from tests.stores.places import sqlite_at


class Logs(LogStore, Catalogue):
    """The least that a store can be."""


@pytest.mark.parametrize("check", contract_checks(MemoryStore), ids=str)
async def test_memory(check: Check) -> None:
    """The memory store keeps the promise, so it may stand in for the others in tests.

    BV-03, SN-38, SN-40, SN-41, SN-42, SN-43, SN-44, SN-47
    """
    await check(MemoryStore)


@pytest.mark.parametrize("check", contract_checks(SQLiteStore, shared=True), ids=str)
async def test_sqlite(check: Check, tmp_path: Path) -> None:
    """The SQLite store keeps the promise.

    BV-03, BV-04, BV-19, BV-36, SN-38, SN-40, SN-41, SN-42, SN-43, SN-44, SN-47, SB-094, SB-095, SB-096,
    SB-120, SB-130, SB-131, SB-132, SB-135
    """
    await check(sqlite_at(tmp_path))


def test_checks_follow_the_abilities() -> None:
    """A store is checked for what it inherits, and for sharing and time only when it says so."""
    whole = contract_checks(MemoryStore, shared=True)
    assert len({check.name for check in whole}) == len(whole)
    assert all(check.__doc__ for check in whole)
    single = contract_checks(MemoryStore)
    assert {check for check in whole if not check.shared} == set(single)
    timeless = contract_checks(MemoryStore, clock=False)
    assert {check for check in single if not check.clock} == set(timeless)
    logs = contract_checks(Logs)  # type: ignore[type-abstract]  # it is never made
    assert logs == [check for check in single if not check.abilities]


def test_only_stores_of_logs_are_checked() -> None:
    """Something that keeps no logs cannot be put to the checks."""
    with pytest.raises(TypeError, match="LogStore"):
        contract_checks(Store)  # type: ignore[type-abstract]  # it is never made


def test_a_missing_refusal_is_told() -> None:
    """A verb that should raise and does not fails its check."""
    with pytest.raises(AssertionError, match="two of a kind: expected KeyError"):
        with refused(KeyError, "two of a kind"):
            pass


async def test_a_failing_check_says_what_was_promised() -> None:
    """A store that breaks a promise is told which one, and what it did instead."""

    class Forgetful(MemoryStore):
        async def last(self, logs: object) -> dict[str, int]:
            return {}

    def factory(*, clock: Clock | None = None) -> Store:
        return Forgetful(clock=clock)

    (check,) = (check for check in contract_checks(MemoryStore) if check.name == "last_of_many")
    with pytest.raises(AssertionError, match=r"last tells each end: expected .*'a': 2.* got \{\}"):
        await check(factory)
