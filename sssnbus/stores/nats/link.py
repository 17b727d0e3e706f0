"""One connection to the server: requests that know what became of them, and what consumers deliver.

Nothing is sent while the connection is down: a request
waits for it, within its deadline, and one whose answer was lost is asked again. What is asked again must
be harmless when it is done twice; who needs to know is told.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from secrets import token_hex
from ssl import SSLError
from typing import Any, Final, NamedTuple, Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error
from pydantic_core import from_json, to_json

from sssnbus.errors import BusError, ClosedError, OutcomeUnknown, StoreUnavailable
from sssnbus.stores.nats.access import Access, refused
from sssnbus.stores.nats.failure import Lost, Nobody, check, denied

_log = logging.getLogger(__name__)

_PAUSE: Final = 0.05
"""Seconds before a server that is not ready is asked again."""

_PATIENCE: Final = 2.0
"""Seconds without an answer after which a request is sent again: its server may have lost its place."""

_TICK: Final = 0.05
"""How exactly deadlines are kept, in seconds."""

_STATUS: Final = "Status"
_BATCH: Final = "Nats-Batch-Id"
_NUMBER: Final = "Nats-Batch-Sequence"
_COMMIT: Final = {"Nats-Batch-Commit": "1"}
_DELIVERY: Final = "$JS.ACK."


class Answer(NamedTuple):
    """What the server said, and whether the request had to be sent more than once."""

    message: Msg
    repeated: bool


class Packet(NamedTuple):
    """A message to publish."""

    subject: str
    payload: bytes
    headers: dict[str, str]


class Listener(Protocol):
    """Gets what a consumer delivers, and its words about itself. Neither may wait."""

    def deliver(self, message: Msg, parts: list[str]) -> None: ...
    def control(self, message: Msg) -> None: ...
    def resume(self) -> None: ...


class _Waiter:
    """Somebody who waits for one answer, or for all of many."""

    __slots__ = ("deadline", "future", "many")

    def __init__(self, future: "asyncio.Future[Any]", many: list[Msg] | None, deadline: float) -> None:
        self.future, self.many, self.deadline = future, many, deadline


class Link:
    """A connection that comes back by itself."""

    def __init__(self, access: Access, name: str) -> None:
        self.url = access.url
        self.timeout = access.timeout
        self.listeners: dict[str, Listener] = {}
        """By the name of their consumer."""
        self._access = access
        self._name = name
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._subscriptions: dict[str, Subscription] = {}
        self._waiters: dict[str, _Waiter] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._inbox = ""
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._problem = "the server does not answer"
        self._denied: BusError | None = None

    def tail(self, consumer: str) -> str:
        """Return the subject to which a consumer delivers: one that no answer comes on."""
        return f"{self._inbox}.tail.{consumer}"

    @property
    def max_payload(self) -> int:
        """Bytes that the server takes in one message, headers included."""
        return self._client.max_payload if self._client is not None else 0

    @property
    def version(self) -> tuple[int, int, int]:
        """The version of the server."""
        if self._client is None:
            return 0, 0, 0
        version = self._client.connected_server_version
        return version.major, version.minor, version.patch

    @property
    def up(self) -> bool:
        """Whether the connection stands."""
        return self._up.is_set()

    def deadline(self, timeout: float | None = None) -> float:
        """Return when something that begins now must be over, on the loop's clock."""
        return asyncio.get_running_loop().time() + (self.timeout if timeout is None else timeout)

    async def connect(self) -> None:
        """Connect within ``connect_timeout``.

        Raises:
            StoreUnavailable: the server is not there, or does not let us in.
        """
        client = Client()
        failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

        async def problem(error: Exception) -> None:
            self._note(error)
            if refused(error) and not failed.done():
                failed.set_result(error)

        connecting = asyncio.ensure_future(
            client.connect(
                **self._access.options(),
                name=self._name,
                error_cb=problem,
                disconnected_cb=self._went_down,
                reconnected_cb=self._came_up,
                closed_cb=self._was_closed,
            )
        )
        try:
            ends: list[asyncio.Future[Any]] = [connecting, failed]
            await asyncio.wait(
                ends,
                timeout=self._access.connect_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if failed.done():
                raise self._unreachable(failed.result())
            if not connecting.done():
                raise self._unreachable(None)
            try:
                connecting.result()
            except (OSError, Error) as error:
                self._note(error)
                raise self._unreachable(error) from error
            self._inbox = client.new_inbox()
            await client.subscribe(
                self._inbox + ".*", cb=self._received, pending_msgs_limit=-1, pending_bytes_limit=-1
            )
        except BaseException:
            self._closing, closing = True, self._closing
            connecting.cancel()
            await asyncio.wait([connecting])
            if not connecting.cancelled():
                # Looked at, so that nobody complains of an error that was never fetched.
                connecting.exception()
            await client.close()
            self._closing = closing
            raise
        self._client = client
        self._up.set()

    async def close(self) -> None:
        """Disconnect. Who still waits for an answer is told that there will be none."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        self._lose()
        if self._timer is not None:
            self._timer.cancel()
        if self._client is not None and not self._client.is_closed:
            await self._client.close()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something beside; it ends with the connection, and its failure is logged."""
        task = asyncio.get_running_loop().create_task(work, name=f"sssnbus-nats-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        deadline: float,
        write: str | None = None,
    ) -> Answer:
        """Return the answer to a request, asked again as often as the connection is lost.

        Args:
            subject: Where it goes.
            payload: What it says.
            headers: Its headers.
            deadline: When to give up, on the loop's clock.
            write: What it changes, for the error; None: nothing.

        Raises:
            Nobody: nobody takes this subject.
            OutcomeUnknown: a write was sent, and nobody knows what became of it.
            StoreUnavailable: it was not sent, or changes nothing.
        """
        sent = 0
        while True:
            await self._connected(deadline, write if sent else None)
            reply, waiter = self._expect(None, deadline)
            try:
                assert self._client is not None
                await self._client.publish(subject, payload, reply=reply, headers=headers)
                sent += 1
                message: Msg = await waiter.future
            except Lost:
                continue
            except Error as error:
                # The client would not even take it: the connection has just gone.
                self._note(error)
                await asyncio.sleep(_PAUSE)
                continue
            except TimeoutError:
                if self._late(deadline):
                    raise self.no_answer(write) from None
                continue
            finally:
                del self._waiters[reply.rpartition(".")[2]]
            if message.headers and message.headers.get(_STATUS) == "503":
                raise Nobody(sent > 1)
            return Answer(message, sent > 1)

    async def begin(self, packet: Packet, deadline: float) -> "tuple[str, asyncio.Future[Msg]]":
        """Publish one message; return what names the request, and its answer to come.

        The answer may also be ``Lost`` or ``TimeoutError``. ``forget`` has to follow.
        """
        reply, waiter = self._expect(None, deadline)
        assert self._client is not None
        try:
            await self._client.publish(packet.subject, packet.payload, reply=reply, headers=packet.headers)
        except Error as error:
            self._note(error)
            waiter.future.set_exception(Lost())
        return reply, waiter.future

    def forget(self, request: str) -> None:
        """Let go of a request."""
        self._waiters.pop(request.rpartition(".")[2], None)

    async def publish(self, packets: Sequence[Packet], *, deadline: float, write: str) -> Answer:
        """Store one message, or several as one; return the answer. Raises as ``request`` does."""
        if len(packets) == 1:
            (packet,) = packets
            return await self.request(*packet, deadline=deadline, write=write)
        sent = 0
        while True:
            await self._connected(deadline, write if sent else None)
            reply, waiter = self._expect(None, deadline)
            batch = token_hex(10)
            try:
                assert self._client is not None
                for number, (subject, payload, headers) in enumerate(packets, 1):
                    last = number == len(packets)
                    ours = {**headers, _BATCH: batch, _NUMBER: str(number), **(_COMMIT if last else {})}
                    sent += last
                    await self._client.publish(subject, payload, reply=reply if last else "", headers=ours)
                message: Msg = await waiter.future
            except Lost:
                continue
            except Error as error:
                self._note(error)
                await asyncio.sleep(_PAUSE)
                continue
            except TimeoutError:
                if self._late(deadline):
                    raise self.no_answer(write) from None
                continue
            finally:
                del self._waiters[reply.rpartition(".")[2]]
            if message.headers and message.headers.get(_STATUS) == "503":
                raise Nobody(sent > 1)
            return Answer(message, sent > 1)

    async def listen(self, name: str, listener: Listener) -> None:
        """Let a consumer's deliveries come to a listener; a consumer wants a subject of exactly its own."""
        assert self._client is not None
        self.listeners[name] = listener
        try:
            self._subscriptions[name] = await self._client.subscribe(
                self.tail(name), cb=self._received, pending_msgs_limit=-1, pending_bytes_limit=-1
            )
        except Error as error:
            self.listeners.pop(name, None)
            raise self.no_answer(None) from error

    def ignore(self, name: str) -> None:
        """Let what a consumer delivers go nowhere."""
        self.listeners.pop(name, None)
        subscription = self._subscriptions.pop(name, None)
        if subscription is not None and self._client is not None and not self._client.is_closed:
            self.spawn(_unsubscribe(subscription), "unsubscribe")

    async def send(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Send something that nobody answers."""
        assert self._client is not None
        try:
            await self._client.publish(subject, payload, headers=headers)
        except Error as error:
            raise Lost from error

    async def api(
        self, verb: str, body: Mapping[str, Any] | None = None, *, deadline: float, write: str | None = None
    ) -> dict[str, Any]:
        """Return what JetStream answers to one of its own requests; raise what it refuses."""
        payload = b"" if body is None else to_json(body)
        while True:
            try:
                answer = await self.request(f"$JS.API.{verb}", payload, deadline=deadline, write=write)
                return check(from_json(answer.message.data), self.url)
            except Nobody:
                await self.pause(deadline)

    async def collect(self, stream: str, body: Mapping[str, Any], *, deadline: float) -> list[Msg]:
        """Return the messages of a stream that one request asks for."""
        payload = to_json(body)
        while True:
            await self._connected(deadline, None)
            found: list[Msg] = []
            reply, waiter = self._expect(found, deadline)
            try:
                assert self._client is not None
                await self._client.publish(f"$JS.API.DIRECT.GET.{stream}", payload, reply=reply)
                status = await waiter.future
            except (Lost, Error):
                continue
            except TimeoutError:
                if self._late(deadline):
                    raise self.no_answer(None) from None
                continue
            finally:
                del self._waiters[reply.rpartition(".")[2]]
            if status == "503":
                raise Nobody
            return found

    async def pause(self, deadline: float) -> None:
        """Wait a little for a server that is not ready yet."""
        if asyncio.get_running_loop().time() + _PAUSE > deadline:
            raise StoreUnavailable(
                f"Store {self.url} needs JetStream, and nobody answers for it: start the server with -js, or "
                "enable JetStream for this account; in a cluster, wait until it has a leader."
            )
        await asyncio.sleep(_PAUSE)

    def _expect(self, many: list[Msg] | None, deadline: float) -> tuple[str, _Waiter]:
        loop = asyncio.get_running_loop()
        self._count += 1
        token = str(self._count)
        future: asyncio.Future[Any] = loop.create_future()
        end = min(deadline, loop.time() + _PATIENCE)
        self._waiters[token] = waiter = _Waiter(future, many, end)
        if self._timer is None:
            self._timer = loop.call_later(_TICK, self._expire)
        return f"{self._inbox}.{token}", waiter

    def _late(self, deadline: float) -> bool:
        """Return whether there is no time to ask once more."""
        return self._closing or asyncio.get_running_loop().time() >= deadline - _TICK

    def _expire(self) -> None:
        """End what waits for too long: one timer for all, since nearly none of them comes to that."""
        loop = asyncio.get_running_loop()
        for waiter in self._waiters.values():
            if waiter.deadline <= loop.time() and not waiter.future.done():
                waiter.future.set_exception(TimeoutError())
        self._timer = loop.call_later(_TICK, self._expire) if self._waiters else None

    async def _connected(self, deadline: float, write: str | None) -> None:
        if self._up.is_set():
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._up.wait()
        except TimeoutError:
            raise self.no_answer(write) from None

    def no_answer(self, write: str | None) -> BusError:
        """Return the error for something that got no answer in time."""
        if write is not None:
            return OutcomeUnknown(self.url, write)
        if self._closing:
            return ClosedError(f"Store {self.url}")
        if self._denied is not None:
            return self._denied
        return StoreUnavailable(
            f"Store {self.url} cannot be reached: {self._problem}. Nothing was changed; it is tried again "
            "by itself."
        )

    def _unreachable(self, error: Exception | None) -> StoreUnavailable:
        text = f"Store {self.url} cannot be reached"
        if error is not None and refused(error) and not isinstance(error, SSLError):
            return StoreUnavailable(
                f"{text}: the server refused the user, password or token. Check the URL, or the environment "
                "variables NATS_USER, NATS_PASSWORD, NATS_TOKEN and NATS_CREDS."
            )
        return StoreUnavailable(f"{text} within {self._access.connect_timeout:g} s: {self._problem}.")

    def _note(self, error: Exception) -> None:
        text = str(error)
        if "permissions violation" in text.lower():
            self._denied = denied(text, self.url)
            _log.warning("%s", self._denied)
            return
        self._problem = getattr(error, "strerror", None) or text or type(error).__name__
        _log.debug("Connection of %s: %s", self.url, type(error).__name__)

    async def _received(self, message: Msg) -> None:
        reply = message.reply
        if reply.startswith(_DELIVERY):
            parts = reply.split(".")
            # With a domain and an account in front, and something random behind, there are twelve.
            parts = parts[2:9] if len(parts) == 9 else parts[4:11]
            listener = self.listeners.get(parts[1])
            if listener is not None:
                listener.deliver(message, parts)
            return
        token = message.subject.rpartition(".")[2]
        waiter = self._waiters.get(token)
        if waiter is None:
            # Perhaps a consumer that speaks of itself; its subject ends with its name.
            listener = self.listeners.get(token)
            if listener is not None:
                listener.control(message)
        elif waiter.many is None:
            if not waiter.future.done():
                waiter.future.set_result(message)
        elif message.headers and (status := message.headers.get(_STATUS)):
            if not waiter.future.done():
                waiter.future.set_result(status)
        else:
            waiter.many.append(message)

    def _lose(self) -> None:
        self._up.clear()
        for waiter in self._waiters.values():
            if not waiter.future.done():
                waiter.future.set_exception(TimeoutError() if self._closing else Lost())

    async def _went_down(self) -> None:
        self._lose()

    async def _came_up(self) -> None:
        self._denied = None
        self._up.set()
        for listener in tuple(self.listeners.values()):
            listener.resume()

    async def _was_closed(self) -> None:
        self._lose()
        if not self._closing and self._client is not None:
            self.spawn(self._reopen(), "reopen")

    async def _reopen(self) -> None:
        """Connect anew when the client has given up: some words of a server end a connection for good."""
        while True:
            await asyncio.sleep(1.0)
            try:
                await self.connect()
            except StoreUnavailable as error:
                _log.warning("%s", error)
                continue
            await self._came_up()
            return

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("%s failed: %s", task.get_name(), error)


async def _unsubscribe(subscription: Subscription) -> None:
    # A connection that is down forgets it by itself.
    with suppress(Error):
        await subscription.unsubscribe()
