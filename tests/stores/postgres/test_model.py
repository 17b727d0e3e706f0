"""Random work on the PostgreSQL store ends as it does on a plain model."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from hypothesis.stateful import run_state_machine_as_test

from sssnbus.testing import StoreFactory
from sssnbus.testing.machine import store_machine
from tests.stores.postgres.tools import Site
from tests.stores.tools import runs

_numbers = count(1)


def run(address: str, examples: int, steps: int) -> None:
    """Put the store to random work, in a namespace of its own for each example."""

    @contextmanager
    def place() -> Iterator[StoreFactory]:
        site = Site(address, f"model_{os.getpid()}_{next(_numbers)}")
        yield site.factory
        asyncio.run(site.remove())

    machine = store_machine(place, shared=True, renewed=False)
    run_state_machine_as_test(machine, settings=runs(examples, steps))


def test_postgres(address: str) -> None:
    """The store does what the model does, closed and reopened in between."""
    run(address, 6, 20)


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_postgres_for_long(address: str) -> None:
    """The same, over and over."""
    run(address, 150, 40)
