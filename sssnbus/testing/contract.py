"""The promises of a store as checks that any store can be put to."""

from importlib import import_module
from typing import Final

from sssnbus.stores.base import Catalogue, LogStore, Store
from sssnbus.testing.bench import Check, checks

_MODULES: Final = (
    "log",
    "topic",
    "id",
    "queue",
    "select",
    "lease",
    "key",
    "move",
    "record",
    "standing",
    "portable",
    "life",
)


def contract_checks(store: type[Store], *, shared: bool = False, clock: bool = True) -> list[Check]:
    """Return the checks for what a store class inherits; each is one promise.

    In a test file of your own::

        @pytest.mark.parametrize("check", contract_checks(MyStore, shared=True), ids=str)
        async def test_contract(check, tmp_path):
            def factory(*, clock=None):
                return MyStore(tmp_path / "messages", clock=clock)

            await check(factory)

    Args:
        store: The class. Abilities that it does not inherit are not checked.
        shared: True if the stores that one factory makes stand on one place, at the same time or one
            after the other.
        clock: False if the store takes no clock; then what needs one is not checked.
    """
    for name in _MODULES:
        import_module(f"sssnbus.testing.checks_{name}")
    if not issubclass(store, LogStore) or not issubclass(store, Catalogue):
        raise TypeError("a store under test must be a LogStore and a Catalogue")
    return [
        check
        for check in checks
        if all(issubclass(store, ability) for ability in check.abilities)
        and shared >= check.shared
        and clock >= check.clock
    ]
