"""Settings with several parts, each a frozen value that refuses what is out of range when it is made."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sssnbus.errors import InvalidOption

OnFull = Literal["catch_up", "block", "drop_oldest", "drop_newest", "disconnect"]
"""What a subscription does when its buffer is full: see ``BroadcastChannel.subscribe``."""

Confirm = Literal["delivered", "stored"]
"""When ``write`` returns: after this process's callbacks have settled, or after the commit."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How much of a broadcast channel's past is kept. Parts left out do not limit it.

    Raises:
        InvalidOption: a part is out of range.
    """

    max_age: timedelta | None = None
    """Older messages go, by the store's clock; checked every second."""
    max_count: int | None = None
    """At most so many messages are kept; up to a tenth more may stay for a moment."""
    max_bytes: int | None = None
    """At most so many bytes of contents and headers are kept, with the same slack."""

    def __post_init__(self) -> None:
        age: object = self.max_age
        if age is not None and (not isinstance(age, timedelta) or age <= timedelta(0)):
            raise InvalidOption("max_age", age, "it must be a timedelta of more than nothing")
        for option in ("max_count", "max_bytes"):
            if (value := getattr(self, option)) is not None:
                check_count(option, value)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How long to wait before a failed message is tried again: exponential, capped, with full jitter.

    Raises:
        InvalidOption: a part is out of range.
    """

    initial: float = 0.1
    """Seconds before the second attempt, at most."""
    factor: float = 2.0
    """How much longer each wait is than the one before."""
    maximum: float = 30.0
    """The longest wait, in seconds."""
    jitter: bool = True
    """Wait a random part of each span, so that failures do not come back all at once."""

    def __post_init__(self) -> None:
        for option in ("initial", "maximum", "factor"):
            check_seconds(option, getattr(self, option))
        if self.factor < 1:
            raise InvalidOption("factor", self.factor, "it must be 1 or more: waits do not grow shorter")


def check_seconds(option: str, value: object) -> float:
    """Return a span of time in seconds; raise ``InvalidOption`` unless it is a finite number from 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise InvalidOption(option, value, "it must be a finite number of seconds, 0 or more")
    return float(value)


def check_count(option: str, value: object, least: int = 1) -> int:
    """Return a whole number; raise ``InvalidOption`` unless it is at least ``least``."""
    if type(value) is not int or value < least:
        raise InvalidOption(option, value, f"it must be a whole number, {least} or more")
    return value


_MOST = 2**31 - 1
"""As many as any store can count to in one step."""


def check_limit(value: object) -> int:
    """Return how many messages are wanted at most; a number that no store could mean stands for all."""
    return min(check_count("limit", value), _MOST)
