"""The one place that uses the inside of nats-py: to hand over at once what is read, and to send together.

By its own way each message passes a queue and a task of its subscription, each command passes those of the
flusher, and headers are taken apart whether or not anybody reads them. That made up a third of a request.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from nats.aio.client import Client

from sssnbus.errors import PayloadTooLarge

_UNFIT: Final = re.compile(r"[ \t\r\n]")
_BREAK: Final = re.compile(r"[\r\n]")

_ENDING: Final = 1.0
"""Seconds that the client gets to close a connection."""

_NO_HEADERS: Final[Mapping[str, str]] = {}


class Incoming:
    """A message from the server; its headers are taken apart when somebody asks for them."""

    __slots__ = ("_block", "_headers", "data", "reply", "subject")

    def __init__(self, subject: str, reply: str, data: bytes, block: bytes | None = None) -> None:
        self.subject, self.reply, self.data, self._block = subject, reply, data, block
        self._headers = None if block else _NO_HEADERS

    @property
    def status(self) -> str | None:
        """What the server says in place of a message, three digits; None: it is a message."""
        # NATS/1.0 503
        return self._block[9:12].decode() if self._block and self._block[8:9] == b" " else None

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by their names."""
        if self._headers is None:
            assert self._block is not None, "without it there are none"
            found = {}
            for line in self._block.decode("utf-8", "replace").split("\r\n")[1:]:
                name, colon, text = line.partition(":")
                if colon:
                    found[name.strip()] = text.strip()
            self._headers = found
        return self._headers


class SafeClient(Client):
    """A client that speaks TLS if it was told to, whatever the server says, and that closes in any state."""

    def __init__(self, tls: bool) -> None:
        """Make a client that is not connected yet.

        Args:
            tls: Whether nothing may be sent in clear.
        """
        super().__init__()
        self._tls = tls

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._tls:
            # By its own way the client asks the server, and would show a password to one that says no.
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    async def close(self) -> None:
        """Disconnect for good."""
        if self._current_server is None:
            return
        trying = self._reconnection_task
        if trying is not None and trying is not asyncio.current_task():
            # The client cancels it once, and would leave a new connection to nobody if that is swallowed.
            await end(trying)
        # A task of its own: it waits for what the client's other tasks wait for too, and one of these that
        # is cancelled cancels that for all of them. Half-way into TLS it would never end.
        closing = asyncio.ensure_future(super().close())
        try:
            await asyncio.wait([closing], timeout=_ENDING)
        finally:
            closing.cancel()
        # It is gone, whatever becomes of what was not sent.
        with suppress(OSError, asyncio.CancelledError, asyncio.InvalidStateError):
            closing.result()


class Wire(SafeClient):
    """A connection whose messages go to one function."""

    def __init__(self, tls: bool, take: Callable[[Incoming], None], deaf: Callable[[], None]) -> None:
        """Make a client that is not connected yet.

        Args:
            tls: Whether nothing may be sent in clear.
            take: Gets each message of each subscription as it is read; must not wait, nor raise.
            deaf: Called when somebody else has cancelled what reads, as the end of a loop does.
        """
        super().__init__(tls)
        self._take, self._deaf = take, deaf
        self._outgoing: list[bytes] = []
        self._gathering = False

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        if sid in self._subs:
            self._take(Incoming(subject.decode(), reply.decode(), data, headers))

    def post(
        self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a message, with others of this round of the loop; what finds no connection is lost.

        Raises:
            PayloadTooLarge: the server would end the connection for it.
            ValueError: a subject or a header would break out of its line.
        """
        if _UNFIT.search(subject) or (headers and _BREAK.search("".join(headers.values()))):
            raise ValueError(f"a subject has no spaces, and a header no line breaks: {subject!r}")
        size = len(payload)
        if headers:
            lines = "".join([f"{name}: {text}\r\n" for name, text in headers.items()])
            block = f"NATS/1.0\r\n{lines}\r\n".encode()
            size += len(block)
            start = f"HPUB {subject} {reply} {len(block)} {size}\r\n".encode() + block
        else:
            start = f"PUB {subject} {reply} {size}\r\n".encode()
        if size > self.max_payload:
            raise PayloadTooLarge(size, self.max_payload)
        if self._gathering:
            self._outgoing += (start, payload, b"\r\n")
            return
        # The first of a round goes at once: mostly it is the only one, and a turn of the loop is long.
        self._gathering = True
        asyncio.get_running_loop().call_soon(self._send)
        self._write([start, payload, b"\r\n"])

    async def _read_loop(self) -> None:
        try:
            await super()._read_loop()
        finally:
            task = asyncio.current_task()
            # When the client ends this itself it is not connected any more; a cancellation it swallows.
            if self.is_connected and task is not None and task.cancelling():
                self._deaf()

    def _send(self) -> None:
        outgoing, self._outgoing, self._gathering = self._outgoing, [], False
        if outgoing:
            self._write(outgoing)

    def _write(self, parts: list[bytes]) -> None:
        if self.is_connected and self._transport is not None:
            # What the client has in hand goes before: a request must not overtake its subscription.
            self._transport.writelines([*self._pending, *parts])
            self._pending.clear()
            self._pending_data_size = 0

    async def _select_next_server(self) -> None:
        # A try that failed behind its greeting has left its connection and its tasks to nobody.
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None:
                task.cancel()
        self._hang_up()
        await super()._select_next_server()

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except BaseException:
            # The client tries again with another connection, and would leave this one as it is.
            self._hang_up()
            raise

    async def _process_op_err(self, error: Exception) -> None:
        if not (self.is_closed or self.is_reconnecting):
            self._abort()
        await super()._process_op_err(error)

    async def close(self) -> None:
        """Disconnect for good."""
        self._abort()
        await super().close()

    def _abort(self) -> None:
        """Let go of what is not sent yet: behind a black hole an orderly end waits for it for minutes."""
        self._pending.clear()
        self._pending_data_size = 0
        self._hang_up()

    def _hang_up(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()


async def end(task: "asyncio.Future[None]") -> None:
    """Cancel something for good: what it waits for may swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    if not task.cancelled():
        # Looked at, so that nobody complains of an error that was never fetched.
        task.exception()
