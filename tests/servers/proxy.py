"""A TCP proxy that stands between a client and a server and misbehaves on command."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Self


class Proxy:
    """Passes bytes both ways between its own port and a server's.

    ``cut`` ends every connection and refuses new ones until ``mend``; ``hold`` lets nothing through any
    more, in both directions, while connections stay open and are still accepted: a black hole;
    ``hold_answers`` does so for what the server sends only; ``delay`` makes each piece wait; ``sever`` ends
    all connections once, when the server has sent so many pieces; ``mend`` takes all of that back.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._open = asyncio.Event()
        self._open.set()
        self._answering = asyncio.Event()
        self._answering.set()
        self._cut = False
        self._delay = 0.0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused = asyncio.Event()
        """Set when a connection was not let through."""
        self.connections = 0
        """How many have been accepted since the start."""
        self.answered = 0
        """How many bytes the server has sent since the start."""
        self.pieces = 0
        """How many pieces that was: mostly an answer each."""
        self._severing = 0

    @property
    def port(self) -> int:
        """The port to connect to, on 127.0.0.1."""
        assert self._server is not None, "it is started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None, "it was started"
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._drop()
        await self._server.wait_closed()

    def cut(self) -> None:
        """End all connections, and every new one at once."""
        self._cut = True
        self._drop()

    def break_once(self) -> None:
        """End the connections there are; new ones work."""
        self._drop()

    def sever(self, pieces: int) -> None:
        """End the connections there are, once, instead of passing on the so many-th piece from now."""
        self._severing = self.pieces + pieces

    def lead(self, port: int) -> None:
        """Let new connections go to another port of the same host; there are the old ones still."""
        self._port = port

    def hold(self) -> None:
        """Let nothing through from now on; what arrives is kept."""
        self._open.clear()

    def hold_answers(self) -> None:
        """Let requests through and nothing back."""
        self._answering.clear()

    def delay(self, seconds: float) -> None:
        """Let each piece of a stream wait before it goes on."""
        self._delay = seconds

    def mend(self) -> None:
        """Work again; what was held goes on."""
        self._cut, self._delay, self._severing = False, 0.0, 0
        self._open.set()
        self._answering.set()

    def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._tasks.add(task)
        self.connections += 1
        try:
            if self._cut:
                self.refused.set()
                writer.transport.abort()
                return
            async with self._joined(reader, writer):
                pass
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    @contextlib.asynccontextmanager
    async def _joined(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> AsyncIterator[None]:
        there, out = await asyncio.open_connection(self._host, self._port)
        pair = {writer, out}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(reader, out, self._open))
                tasks.create_task(self._pass_on(there, writer, self._answering))
            yield
        finally:
            self._writers -= pair
            for end in pair:
                end.transport.abort()

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(65536):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._open.wait()
                await gate.wait()
                if gate is self._answering:
                    self.answered += len(piece)
                    self.pieces += 1
                    if self.pieces == self._severing:
                        self._drop()
                        return
                target.write(piece)
                await target.drain()
        # The other direction ends with this one.
        target.transport.abort()
