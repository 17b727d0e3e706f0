"""What a verb asks of the server, and what came of it."""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from redis.exceptions import ResponseError

from sssnbus.errors import BusError, ChannelKindMismatch, MessageConflict, NotStarted, QueueFull
from sssnbus.stores.base import Kind
from sssnbus.stores.redis.codec import Bytes
from sssnbus.stores.redis.failure import translated


class Stage(Enum):
    """How far an operation came."""

    WAITING = 0
    RUNNING = 1
    ABANDONED = 2


class Operation:
    """Something for the server to do, and what came of it."""

    __slots__ = (
        "alone", "body", "deadline", "error", "future", "parse", "parts", "result", "size", "stage",
        "timeout", "what",
    )  # fmt: skip

    def __init__(
        self,
        what: str,
        body: Sequence[object],
        parse: Callable[[list[Any], Bytes], Any],
        parts: Sequence[bytes] = (),
        alone: Sequence[bytes] | None = None,
    ) -> None:
        self.what = what
        self.body = body
        self.parse = parse
        """Makes the result of an answer. It takes its bytes even if nobody waits for it any more."""
        self.parts = parts
        self.alone = alone
        """What the short script for one append takes, if it will do."""
        self.size = sum(map(len, parts))
        self.stage = Stage.WAITING
        self.result: Any = None
        self.error: BaseException | None = None
        self.timeout = self.deadline = 0.0
        self.future: asyncio.Future[Any] | None = None
        """Awaited by the caller; None once the operation has ended."""

    def end(self, error: BaseException | None = None) -> None:
        """Hand out the result, or an error."""
        self.error = error
        future, self.future = self.future, None
        if future is None or future.done():
            return
        if error is None:
            future.set_result(self.result)
        else:
            future.set_exception(error)


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
