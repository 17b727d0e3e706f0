"""One connection of the event loop, on which one request at a time is under way."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any

from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as LateError

from sssnbus.stores.redis.place import Place
from sssnbus.stores.redis.script import Script


class Wire:
    """A connection that is given up after anything unexpected: what comes later answers nobody."""

    def __init__(self, place: Place) -> None:
        self._place = place
        # Any, for not all of its methods have types.
        self._connection: Any = None
        self._scope: asyncio.Timeout | None = None

    async def connect(self) -> None:
        """Connect, and log in, within the place's time."""
        async with _Limit(self._place.connect_timeout, "no connection"):
            # The client looks up its own version, and certificates, in files.
            self._connection = await asyncio.to_thread(self._place.connection)
            await self._connection.connect()

    async def ask(self, *command: str | bytes | int, limit: float) -> Any:
        """Send a command and return the answer; an error that is the answer is raised."""
        packed = self._connection.pack_command(*command)
        try:
            async with _Limit(limit, "no answer") as self._scope:
                await self._connection.send_packed_command(packed, check_health=False)
                return await self._connection.read_response(disable_decoding=True)
        finally:
            self._scope = None

    async def run(self, script: Script, key: str, *arguments: bytes, limit: float) -> Any:
        """Run a script; a server that does not know it yet is told it."""
        try:
            return await self.ask("EVALSHA", script.sha, 1, key, *arguments, limit=limit)
        except NoScriptError:
            return await self.ask("EVAL", script.text, 1, key, *arguments, limit=limit)

    async def tell(self, *command: str) -> None:
        """Send a command without waiting for what it brings."""
        await self._connection.send_packed_command(
            self._connection.pack_command(*command), check_health=False
        )

    async def hear(self, limit: float) -> Any:
        """Return the next thing that the server sends by itself, None if nothing comes in time."""
        return await self._connection.read_response(disable_decoding=True, timeout=limit)

    def give_up(self) -> None:
        """Let a request that is under way fail now."""
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(0)

    async def close(self) -> None:
        """Close the connection; what was under way is lost."""
        if self._connection is not None:
            # It is gone, whatever the client makes of that.
            with suppress(Exception):
                await self._connection.disconnect(nowait=True)


class _Limit:
    """``asyncio.timeout`` that raises an error of the client."""

    def __init__(self, seconds: float, what: str) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._text = f"{what} within {seconds:g} s"

    async def __aenter__(self) -> asyncio.Timeout:
        return await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise LateError(self._text) from None
