"""One connection of the event loop, on which one request at a time is under way."""

import asyncio
from contextlib import suppress
from typing import Any

from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as LateError

from sssnbus.stores.redis.place import Place
from sssnbus.stores.redis.resp import Answers, packed
from sssnbus.stores.redis.script import Script


class Wire:
    """A connection that is given up after anything unexpected: what comes later answers nobody.

    The client makes it and logs in. From then on its bytes are ours.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._loop = asyncio.get_running_loop()
        # Any, for not all of its methods have types.
        self._connection: Any = None

    async def connect(self) -> None:
        """Connect, and log in, within the place's time."""
        limit = self._place.connect_timeout
        try:
            async with asyncio.timeout(limit):
                # The client looks up its own version, and certificates, in files.
                self._connection = await asyncio.to_thread(self._place.connection)
                await self._connection.connect()
        except TimeoutError:
            raise LateError(f"no connection within {limit:g} s") from None
        # The client has no public name for this; it has heard the answers to all that it has sent.
        self._transport: asyncio.Transport = self._connection._writer.transport
        self._answers = Answers()
        self._transport.set_protocol(self._answers)

    async def ask(self, *command: str | bytes | int, limit: float) -> Any:
        """Send a command and return the answer; an error that is the answer is raised."""
        self._transport.write(packed(command))
        timer = self._loop.call_later(limit, self._be_late, limit)
        try:
            answer = await self._answers.next()
        except BaseException:
            # The answer may come later, and is for nobody then.
            self._transport.abort()
            raise
        finally:
            timer.cancel()
        if isinstance(answer, RedisError):
            raise answer
        return answer

    async def run(self, script: Script, key: str, *arguments: bytes, limit: float) -> Any:
        """Run a script; a server that does not know it yet is told it."""
        try:
            return await self.ask("EVALSHA", script.sha, 1, key, *arguments, limit=limit)
        except NoScriptError:
            return await self.ask("EVAL", script.text, 1, key, *arguments, limit=limit)

    def tell(self, *command: str) -> None:
        """Send a command without waiting for what it brings."""
        self._transport.write(packed(command))

    async def hear(self, limit: float) -> Any:
        """Return the next thing that the server sends by itself, None if nothing comes in time."""
        try:
            async with asyncio.timeout(limit):
                found = await self._answers.next()
        except TimeoutError:
            return None
        if isinstance(found, RedisError):
            raise found
        return found

    def give_up(self) -> None:
        """Let a request that is under way fail now."""
        if self._answers.awaited:
            self._answers.end(LateError("nobody waits for the answer any more"))

    def _be_late(self, limit: float) -> None:
        self._answers.end(LateError(f"no answer within {limit:g} s"))

    async def close(self) -> None:
        """Close the connection; what was under way is lost."""
        if self._connection is not None:
            # It is gone, whatever the client makes of that.
            with suppress(Exception):
                await self._connection.disconnect(nowait=True)
