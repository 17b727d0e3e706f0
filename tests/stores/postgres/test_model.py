"""Random work on the PostgreSQL store ends as it does on a plain model."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sssnbus.testing import StoreFactory
from sssnbus.testing.machine import store_machine
from tests.stores.postgres.tools import Site

_numbers = count(1)


def run(address: str, examples: int, steps: int) -> None:
    """Put the store to random work, in a namespace of its own for each example."""

    @contextmanager
    def place() -> Iterator[StoreFactory]:
        site = Site(address, f"model_{os.getpid()}_{next(_numbers)}")
        yield site.factory
        asyncio.run(site.remove())

    run_state_machine_as_test(
        store_machine(place, shared=True, renewed=False),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_postgres(address: str) -> None:
    """The store does what the model does, closed and reopened in between."""
    run(address, 6, 20)


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_postgres_for_long(address: str) -> None:
    """The same, over and over."""
    run(address, 150, 40)
