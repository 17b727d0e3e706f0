"""What tests of programs and of stores are made with.

- ``ManualClock``: time that a test moves. ``run_until_idle``: let everything else go as far as it can.
- ``contract_checks``: every promise of a store as a check, for stores of your own.
- ``sssnbus.testing.model``: random work against a plain model; it needs Hypothesis and is imported by name.
"""

from sssnbus.testing.bench import Check as Check
from sssnbus.testing.bench import StoreFactory as StoreFactory
from sssnbus.testing.clock import ManualClock as ManualClock
from sssnbus.testing.contract import contract_checks as contract_checks
from sssnbus.testing.idle import run_until_idle as run_until_idle

__all__ = ["Check", "ManualClock", "StoreFactory", "contract_checks", "run_until_idle"]
