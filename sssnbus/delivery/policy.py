"""Decisions that need no waiting: given state and time, what to do."""

from collections.abc import Callable
from enum import Enum
from random import random
from typing import Final

from sssnbus.settings import OnFull, Retry

PAGE: Final = 256
"""How many messages one catch-up read asks for, at most."""

STRIDE: Final = 128
"""How many messages a runner handles in a row before it lets other tasks run."""

NOTED: Final = 5.0
"""Seconds after which a place is looked at again that only messages with other topics have moved."""


class Overflow(Enum):
    """What happens to one message that finds a subscription's buffer full."""

    LEAVE = "left in the store until there is room"
    HOLD = "the same, and the local writer waits for it"
    DROP_OLDEST = "the oldest buffered message makes room"
    DROP_NEWEST = "it is skipped"
    DISCONNECT = "the subscription ends"


OVERFLOW: Final[dict[OnFull, Overflow]] = {
    "catch_up": Overflow.LEAVE,
    "block": Overflow.HOLD,
    "drop_oldest": Overflow.DROP_OLDEST,
    "drop_newest": Overflow.DROP_NEWEST,
    "disconnect": Overflow.DISCONNECT,
}


def retry_delay(retry: Retry, attempt: int, chance: Callable[[], float] = random) -> float:
    """Return the seconds to wait after failed attempt number ``attempt`` (from 1)."""
    try:
        span = min(retry.maximum, retry.initial * retry.factor ** (attempt - 1))
    except OverflowError:
        span = retry.maximum
    return span * chance() if retry.jitter else span


def exhausted(attempt: int, max_deliveries: int | None) -> bool:
    """Return whether attempt number ``attempt`` was the last one a message gets."""
    return max_deliveries is not None and attempt >= max_deliveries
