"""Settings with several parts, each a frozen model that refuses bad values when it is made."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sssnbus.errors import InvalidOption

OnFull = Literal["catch_up", "block", "drop_oldest", "drop_newest", "disconnect"]
"""What a subscription does when its buffer is full: see ``BroadcastChannel.subscribe``."""

Confirm = Literal["delivered", "stored"]
"""When ``write`` returns: after this process's callbacks have settled, or after the commit."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Retention(_Settings):
    """How much of a broadcast channel's past is kept. Parts left out do not limit it."""

    max_age: timedelta | None = Field(default=None, gt=timedelta(0))
    """Older messages go, by the store's clock; checked every second."""
    max_count: int | None = Field(default=None, ge=1)
    """At most so many messages are kept; up to a tenth more may stay for a moment."""
    max_bytes: int | None = Field(default=None, ge=1)
    """At most so many bytes of contents and headers are kept, with the same slack."""


class Retry(_Settings):
    """How long to wait before a failed message is tried again: exponential, capped, with full jitter."""

    initial: Seconds = 0.1
    """Seconds before the second attempt, at most."""
    factor: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    """How much longer each wait is than the one before."""
    maximum: Seconds = 30.0
    """The longest wait, in seconds."""
    jitter: bool = True
    """Wait a random part of each span, so that failures do not come back all at once."""


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
