"""The protocol of the server (RESP2): commands as bytes, and answers taken apart as they arrive.

The client has layers for this too. They cost more than all that a short request does here and in the server,
and whoever writes waits for them. With hiredis in the place of this module, requests were no faster.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import InvalidResponse

# Any, for it has no types. It knows which error means what.
_error_of: Final[Any] = DefaultParser.parse_error

_BULK, _STATUS, _NUMBER, _ERROR, _ARRAY = b"$+:-*"


def packed(command: Sequence[str | bytes | int]) -> bytes:
    """Return a command as it is sent."""
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        if not isinstance(word, bytes):
            word = str(word).encode()
        parts += (b"$%d\r\n" % len(word), word, b"\r\n")
    return b"".join(parts)


class Answers(asyncio.Protocol):
    """The receiving end of a connection. One task at a time waits for what comes next."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Any] = deque()
        self._rest: list[bytes] = []
        """The beginning of an answer whose end has not come yet."""
        self._missing = 0
        """How many bytes it lacks at least."""
        self._waiter: asyncio.Future[None] | None = None
        self._end: Exception | None = None

    async def next(self) -> Any:
        """Return the next answer, which may be an error of the server; raise what has ended this after it."""
        if not self._ready:
            if self._end is not None:
                raise self._end
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._ready.popleft()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the next answer."""
        return self._waiter is not None

    def end(self, why: Exception) -> None:
        """Take no further answer. One that somebody was woken for is there still."""
        self._end = why
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(why)

    def data_received(self, data: bytes) -> None:
        if self._end is not None:
            return
        if self._rest:
            self._rest.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data, self._rest = b"".join(self._rest), []
        at = 0
        try:
            while at < len(data):
                answer, at = _read(data, at)
                self._ready.append(answer)
        except _Incomplete as cut:
            self._rest, self._missing = [data[at:]], cut.end - len(data)
        except (InvalidResponse, ValueError):
            self.end(InvalidResponse("it does not speak the protocol of Redis"))
        if self._ready and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is None:
            self.end(exc if isinstance(exc, OSError) else LostError("the connection was closed"))


class _Incomplete(Exception):
    """An answer goes on behind the bytes that are there."""

    def __init__(self, end: int) -> None:
        self.end = end
        """Where the next part of it ends, at the earliest."""


def _read(data: bytes, start: int) -> tuple[Any, int]:
    """Return the answer that begins at ``start``, and where it ends."""
    stop = data.find(b"\r\n", start)
    if stop < 0:
        raise _Incomplete(len(data) + 1)
    kind, line, at = data[start], data[start + 1 : stop], stop + 2
    if kind == _BULK:
        if (size := int(line)) < 0:
            return None, at
        end = at + size
        if len(data) < end + 2:
            raise _Incomplete(end + 2)
        return data[at:end], end + 2
    if kind == _STATUS:
        return line, at
    if kind == _NUMBER:
        return int(line), at
    if kind == _ERROR:
        return _error_of(line.decode(errors="replace")), at
    if kind != _ARRAY:
        raise InvalidResponse
    values: list[Any] = []
    for _ in range(int(line)):
        value, at = _read(data, at)
        values.append(value)
    return values, at
