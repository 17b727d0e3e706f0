"""Requests that know what became of them.

Nothing is sent while the connection is down: a request waits for it, within its deadline, and one whose
answer was lost is asked again. What is asked again must be harmless when it is done twice; who needs to know
is told.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from sssnbus.errors import StoreUnavailable
from sssnbus.stores.nats.connection import Connection
from sssnbus.stores.nats.failure import Lost, Nobody, check
from sssnbus.stores.nats.waiters import TICK, Told, teller
from sssnbus.stores.nats.wire import Incoming

_PAUSE: Final = 0.05
"""Seconds before a server that is not ready is asked again."""

_PATIENCE: Final = 2.0
"""Seconds without an answer after which a request is sent again: its server may have lost its place."""

_BATCH: Final = "Nats-Batch-Id"
_NUMBER: Final = "Nats-Batch-Sequence"
_COMMIT: Final = {"Nats-Batch-Commit": "1"}


class Answer(NamedTuple):
    """What the server said, and whether the request had to be sent more than once."""

    message: Incoming
    repeated: bool


class Packet(NamedTuple):
    """A message to publish."""

    subject: str
    payload: bytes
    headers: dict[str, str]


def place_in(told: Told) -> int:
    """Return where a message was stored, if that was told; 0 if it takes more than one try to know."""
    if isinstance(told, Exception):
        return 0
    try:
        return int(from_json(told.data)["seq"])
    except (ValueError, KeyError, TypeError):
        return 0


class Link(Connection):
    """A connection to ask by."""

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        deadline: float,
        write: str | None = None,
        early: bool = False,
    ) -> Answer:
        """Return the answer to a request, asked again as often as the connection is lost.

        Args:
            subject: Where it goes.
            payload: What it says.
            headers: Its headers.
            deadline: When to give up, on the loop's clock.
            write: What it changes, for the error; None: nothing.
            early: Ask while the connection is only being looked at, and not again if it is lost.

        Raises:
            Lost: an early request lost its connection.
            Nobody: nobody takes this subject.
            OutcomeUnknown: a write was sent, and nobody knows what became of it.
            StoreUnavailable: it was not sent, or changes nothing.
        """
        return await self._ask(
            lambda reply: self._wire.post(subject, payload, reply, headers), deadline, write, early=early
        )

    async def publish(self, packets: Sequence[Packet], *, deadline: float, write: str) -> Answer:
        """Store one message, or several as one; return the answer. Raises as ``request`` does."""
        if len(packets) == 1:
            return await self.request(*packets[0], deadline=deadline, write=write)

        def post(reply: str) -> None:
            batch = {_BATCH: token_hex(10)}
            for number, (subject, payload, headers) in enumerate(packets, 1):
                ours = headers | batch | {_NUMBER: str(number)}
                if number < len(packets):
                    self._wire.post(subject, payload, "", ours)
                else:
                    self._wire.post(subject, payload, reply, ours | _COMMIT)

        return await self._ask(post, deadline, write)

    async def api(
        self,
        verb: str,
        body: Mapping[str, Any] | None = None,
        *,
        deadline: float,
        write: str | None = None,
        early: bool = False,
    ) -> dict[str, Any]:
        """Return what JetStream answers to one of its own requests; raise what it refuses."""
        payload = b"" if body is None else to_json(body)
        while True:
            try:
                answer = await self.request(
                    f"$JS.API.{verb}", payload, deadline=deadline, write=write, early=early
                )
                return check(from_json(answer.message.data), self.url)
            except Nobody:
                await self.pause(deadline)

    async def collect(self, stream: str, body: Mapping[str, Any], *, deadline: float) -> list[Incoming]:
        """Return the messages of a stream that one request asks for. Raises as ``request`` does."""
        payload, found = to_json(body), list[Incoming]()

        def post(reply: str) -> None:
            found.clear()
            self._wire.post(f"$JS.API.DIRECT.GET.{stream}", payload, reply)

        await self._ask(post, deadline, None, found)
        return found

    def begin(self, packet: Packet, deadline: float, tell: Callable[[Told], None]) -> None:
        """Publish one message, once; its answer is told, or ``Lost``, or ``TimeoutError``."""
        token = self._waiters.expect(tell, self._soon(deadline))
        self._wire.post(packet.subject, packet.payload, f"{self._inbox}.{token}", packet.headers)

    def send(self, subject: str) -> None:
        """Send an empty message that nobody answers."""
        self._wire.post(subject, b"")

    async def pause(self, deadline: float) -> None:
        """Wait a little for a server that is not ready yet."""
        if asyncio.get_running_loop().time() + _PAUSE > deadline:
            raise StoreUnavailable(
                f"Store {self.url} needs JetStream, and nobody answers for it: start the server with -js, or "
                "enable JetStream for this account; in a cluster, wait until it has a leader."
            )
        await asyncio.sleep(_PAUSE)

    async def _ask(
        self,
        post: Callable[[str], None],
        deadline: float,
        write: str | None,
        many: list[Incoming] | None = None,
        early: bool = False,
    ) -> Answer:
        """Post something with a subject for its answer until there is one."""
        loop = asyncio.get_running_loop()
        sent = 0
        while True:
            if not early:
                await self.ready(deadline, write if sent else None)
            future: asyncio.Future[Incoming] = loop.create_future()
            token = self._waiters.expect(teller(future), self._soon(deadline), many)
            try:
                post(f"{self._inbox}.{token}")
                sent += 1
                message = await future
            except Lost:
                if early:
                    raise
                continue
            except TimeoutError:
                # Perhaps there is time to ask once more.
                if self._closing or loop.time() >= deadline - TICK:
                    raise self.no_answer(write) from None
                continue
            finally:
                self._waiters.forget(token)
            if message.status == "503":
                raise Nobody(sent > 1)
            return Answer(message, sent > 1)

    def _soon(self, deadline: float) -> float:
        return min(deadline, asyncio.get_running_loop().time() + _PATIENCE)
