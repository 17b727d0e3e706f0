"""Random work on the NATS store ends as it does on a plain model."""

from contextlib import AbstractContextManager, nullcontext

import pytest
from hypothesis.stateful import run_state_machine_as_test

from sssnbus.testing import StoreFactory
from sssnbus.testing.machine import store_machine
from tests.stores.nats.places import nats_at
from tests.stores.tools import runs


def check(address: str, examples: int, steps: int) -> None:
    """Put stores of one server to random work, closed and reopened in between."""

    def place() -> AbstractContextManager[StoreFactory]:
        return nullcontext(nats_at(address))

    run_state_machine_as_test(store_machine(place, shared=True), settings=runs(examples, steps))


def test_nats(address: str) -> None:
    """The NATS store does what the model does."""
    check(address, 8, 25)


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_nats_for_long(address: str) -> None:
    """The NATS store does what the model does, over and over."""
    check(address, 100, 40)
