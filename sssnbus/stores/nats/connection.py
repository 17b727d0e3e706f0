"""The life of a connection: coming up, going down, coming back by itself, and what is heard on it."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from ssl import SSLError
from typing import Any, Final, Protocol

from nats.aio.subscription import Subscription
from nats.errors import Error

from sssnbus.errors import BusError, ClosedError, OutcomeUnknown, StoreUnavailable
from sssnbus.stores.nats.access import Access, refused
from sssnbus.stores.nats.failure import Lost, denied
from sssnbus.stores.nats.waiters import Waiters
from sssnbus.stores.nats.wire import Incoming, Wire, end

_log = logging.getLogger(__name__)

_REOPEN_EVERY: Final = 1.0
"""Seconds between two tries to connect anew when the client has given up."""

_LOOKING: Final = 2.0
"""Seconds for a look at a server that is back, before anything else is asked; then work goes on."""

_DELIVERY: Final = "$JS.ACK."

_SILENT: Final = "the server does not answer"


class Listener(Protocol):
    """Gets what a consumer delivers, and its words about itself. Neither may wait."""

    def deliver(self, message: Incoming, parts: list[str]) -> None: ...
    def control(self, message: Incoming) -> None: ...
    async def look(self) -> None:
        """See whether the server still has what it has delivered."""

    def resume(self) -> None: ...


class Connection:
    """A connection that comes back by itself."""

    def __init__(self, access: Access, name: str) -> None:
        self.url = access.url
        self.timeout = access.timeout
        self.listeners: dict[str, Listener] = {}
        """By the name of their consumer."""
        self._access = access
        self._name = name
        self._wire = Wire(access.tls, self._received, self._cut_off)
        self._up = asyncio.Event()
        self._waiters = Waiters()
        self._subscriptions: dict[str, Subscription] = {}
        self._inbox = ""
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._problem = _SILENT
        self._denied: BusError | None = None
        self.refusal: BusError | None = None
        """Why nothing more is asked, for good."""

    @property
    def up(self) -> bool:
        """Whether the connection stands."""
        return self._up.is_set()

    @property
    def ending(self) -> bool:
        """Whether it ends, or its loop does, so that no answer will come any more."""
        return self._closing

    @property
    def max_payload(self) -> int:
        """Bytes that the server takes in one message, headers included."""
        return self._wire.max_payload

    @property
    def version(self) -> tuple[int, int, int]:
        """The version of the server; the connection must have stood once."""
        version = self._wire.connected_server_version
        return version.major, version.minor, version.patch

    def deadline(self, timeout: float | None = None) -> float:
        """Return when something that begins now must be over, on the loop's clock."""
        return asyncio.get_running_loop().time() + (self.timeout if timeout is None else timeout)

    async def connect(self) -> None:
        """Connect within ``connect_timeout``.

        Raises:
            StoreUnavailable: the server is not there, or does not let us in.
        """
        options = await asyncio.to_thread(self._access.options)
        wire = Wire(self._access.tls, self._received, self._cut_off)
        failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

        async def problem(error: Exception) -> None:
            self._note(error)
            if refused(error) and not failed.done():
                failed.set_result(error)

        async def closed() -> None:
            if wire is self._wire:
                self._was_closed()

        connecting = asyncio.ensure_future(
            wire.connect(
                **options,
                name=self._name,
                error_cb=problem,
                disconnected_cb=self._went_down,
                reconnected_cb=self._came_up,
                closed_cb=closed,
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
                inbox = wire.new_inbox()
                await wire.subscribe(inbox + ".*")
            except (OSError, Error) as error:
                self._note(error)
                raise self._unreachable(error) from error
        except BaseException:
            await end(connecting)
            await wire.close()
            raise
        self._wire, self._inbox = wire, inbox
        # One that was cut within the greeting is on its way back.
        if wire.is_connected:
            await self._came_up()

    async def close(self) -> None:
        """Disconnect. Who still waits for an answer is told that there will be none."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        self._lose()
        if not self._wire.is_closed:
            await self._wire.close()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Run something beside; it ends with the connection, and its failure is logged."""
        task = asyncio.get_running_loop().create_task(work, name=f"sssnbus-nats-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def tail(self, consumer: str) -> str:
        """Return the subject to which a consumer delivers: one that no answer comes on."""
        return f"{self._inbox}.tail.{consumer}"

    async def listen(self, name: str, listener: Listener) -> None:
        """Let a consumer's deliveries come to a listener; a consumer wants a subject of exactly its own."""
        self.listeners[name] = listener
        try:
            self._subscriptions[name] = await self._wire.subscribe(self.tail(name))
        except Error as error:
            self.listeners.pop(name, None)
            raise self.no_answer(None) from error

    def ignore(self, name: str) -> None:
        """Let what a consumer delivers go nowhere."""
        self.listeners.pop(name, None)
        subscription = self._subscriptions.pop(name, None)
        if subscription is not None and not self._wire.is_closed:
            self.spawn(_unsubscribe(subscription), "unsubscribe")

    async def ready(self, deadline: float, write: str | None) -> None:
        """Wait for the connection; raise ``no_answer`` if it does not come in time."""
        if not self._up.is_set():
            if self._closing:
                raise self.no_answer(write)
            try:
                async with asyncio.timeout_at(deadline):
                    await self._up.wait()
            except TimeoutError:
                raise self.no_answer(write) from None
        if self.refusal is not None:
            raise self.refusal if write is None else self.no_answer(write)

    def no_answer(self, write: str | None) -> BusError:
        """Return the error for something that got no answer in time."""
        if write is not None:
            return OutcomeUnknown(self.url, write)
        if self._closing:
            return ClosedError(f"Store {self.url}")
        if self._denied is not None:
            return self._denied
        return StoreUnavailable(
            f"Store {self.url} cannot be reached: {self._problem}. Nothing was changed. It connects again by "
            "itself; then try again."
        )

    def _unreachable(self, error: Exception | None) -> StoreUnavailable:
        text = f"Store {self.url} cannot be reached"
        if error is not None and refused(error) and not isinstance(error, SSLError):
            return StoreUnavailable(
                f"{text}: the server refused the user, password or token. Check the URL, or the environment "
                "variables NATS_USER, NATS_PASSWORD, NATS_TOKEN and NATS_CREDS."
            )
        advice = "Check that it runs, the address, and whether it is nats:// or tls://."
        return StoreUnavailable(
            f"{text} within {self._access.connect_timeout:g} s: {self._problem}. {advice}"
        )

    def _note(self, error: Exception) -> None:
        text = str(error)
        if "permissions violation" in text.lower():
            self._denied = denied(text, self.url)
            _log.warning("%s", self._denied)
            return
        self._problem = getattr(error, "strerror", None) or text or type(error).__name__
        _log.debug("Connection of %s: %s", self.url, type(error).__name__)

    def _received(self, message: Incoming) -> None:
        try:
            self._hand_over(message)
        except Exception as error:
            # The rest of what was read must not suffer.
            _log.exception("A message of %s was not understood", self.url, exc_info=error)

    def _hand_over(self, message: Incoming) -> None:
        if message.reply.startswith(_DELIVERY):
            parts = message.reply.split(".")
            # With a domain and an account in front, and something random behind, there are twelve.
            parts = parts[2:9] if len(parts) == 9 else parts[4:11]
            listener = self.listeners.get(parts[1])
            if listener is not None:
                listener.deliver(message, parts)
            return
        token = message.subject.rpartition(".")[2]
        if not self._waiters.take(token, message):
            # Perhaps a consumer that speaks of itself; its subject ends with its name.
            listener = self.listeners.get(token)
            if listener is not None:
                listener.control(message)

    def _stands(self) -> None:
        # Why it did not before is no reason for what comes now.
        self._problem = _SILENT
        self._up.set()

    def _cut_off(self) -> None:
        # No answer will come, and no connection either: the loop of the program ends.
        self._closing = True
        self._lose()

    def _lose(self) -> None:
        self._up.clear()
        self._waiters.lose(TimeoutError if self._closing else Lost)

    async def _went_down(self) -> None:
        self._lose()

    async def _came_up(self) -> None:
        self._denied = None
        # First: what waits to be asked may be about messages that are there no more, or are others by now.
        looks = [listener.look() for listener in self.listeners.values()]
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOKING):
                if any(
                    isinstance(told, Lost) for told in await asyncio.gather(*looks, return_exceptions=True)
                ):
                    # It went down again.
                    return
        self._stands()
        for listener in tuple(self.listeners.values()):
            listener.resume()

    def _was_closed(self) -> None:
        self._lose()
        if not self._closing:
            self.spawn(self._reopen(), "reopen")

    async def _reopen(self) -> None:
        """Connect anew when the client has given up: some words of a server end a connection for good."""
        while True:
            await asyncio.sleep(_REOPEN_EVERY)
            try:
                await self.connect()
            except (StoreUnavailable, OSError) as error:
                # Also without the file of certificates it is tried again.
                _log.warning("%s", error)
                continue
            return

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("%s failed: %s", task.get_name(), error)


async def _unsubscribe(subscription: Subscription) -> None:
    # A connection that is down forgets it by itself.
    with suppress(Error):
        await subscription.unsubscribe()
