"""Random work on the Redis store ends as it does on a plain model."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis.stateful import run_state_machine_as_test

from sssnbus.testing import StoreFactory
from sssnbus.testing.machine import store_machine
from tests.stores.redis.tools import stores_at
from tests.stores.tools import runs

_numbers = itertools.count(1)


def run(url: str, examples: int, steps: int) -> None:
    """Put the store to random work, each time at a place of its own."""

    @contextmanager
    def place() -> Iterator[StoreFactory]:
        yield stores_at(f"{url}?prefix=model-{os.getpid()}-{next(_numbers)}")

    machine = store_machine(place, shared=True, renewed=False)
    run_state_machine_as_test(machine, settings=runs(examples, steps))


def test_model(server_url: str) -> None:
    """The store does what the model does, closed and reopened in between."""
    run(server_url, 15, 30)


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_model_for_long(server_url: str) -> None:
    """The store does what the model does, over and over."""
    run(server_url, 200, 40)
