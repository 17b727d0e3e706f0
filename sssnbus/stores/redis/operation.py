"""What a verb asks of the server, and what came of it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from sssnbus.errors import BusError, ChannelKindMismatch, MessageConflict, NotStarted, QueueFull
from sssnbus.stores import lane
from sssnbus.stores.base import Kind
from sssnbus.stores.holds import Hold, Holds
from sssnbus.stores.redis.codec import Bytes
from sssnbus.stores.redis.failure import translated

At = tuple[str, int]
"""A message of a queue: its log and its sequence."""


class Operation(lane.Operation):
    """Something for the server to do, and what came of it."""

    __slots__ = ("alone", "body", "parse", "parts")

    def __init__(
        self,
        what: str,
        body: Sequence[object],
        parse: Callable[[list[Any], Bytes], Any],
        parts: Sequence[bytes] = (),
        alone: Sequence[bytes] | None = None,
    ) -> None:
        super().__init__(what, sum(map(len, parts)))
        self.body = body
        self.parse = parse
        """Makes the result of an answer. It takes its bytes even if nobody waits for it any more."""
        self.parts = parts
        self.alone = alone
        """What the short script for one append takes, if it will do."""


def rows_of(holds: Iterable[tuple[str, Hold[At]]]) -> list[tuple[str, int, str, float]]:
    """Return holds as the scripts want them."""
    return [(*hold.place, token, hold.seconds) for token, hold in holds]


def note_renewed(
    holds: Holds[At], asked: Sequence[tuple[str, Hold[At]]], good: Sequence[int], now: float
) -> None:
    """Note which leases the server has begun anew; forget the others."""
    kept = {token for (token, _), its in zip(asked, good, strict=True) if its}
    holds.renewed(kept, now)
    holds.drop(token for token, _ in asked if token not in kept)


def refusal(result: list[Any], url: str) -> BusError:
    """Return the error for an operation that a script refused."""
    code, *rest = result
    if code == "UNKNOWN":
        return NotStarted(f"Log {rest[0]!r}")
    if code == "KIND":
        return ChannelKindMismatch(rest[0], rest[1], Kind.QUEUE)
    if code == "CONFLICT":
        return MessageConflict(*rest)
    if code == "FULL":
        return QueueFull(*rest)
    return translated(ResponseError(str(rest[0])), url)
