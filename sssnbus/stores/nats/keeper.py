"""The thread that tells others that this store is open, whatever its event loop is busy with.

A lease that the store renews hangs on this: it lasts for as long as its owner is heard of. So renewing costs
one small message every few seconds, however many messages are held.
"""

import asyncio
import logging
import threading
from contextlib import suppress
from typing import Final

from sssnbus.stores.loop import call_soon
from sssnbus.stores.nats.access import Access
from sssnbus.stores.nats.wire import SafeClient

_log = logging.getLogger(__name__)

_BEATS: Final = 3
"""How often in the time after which an owner counts as dead it is heard of."""


class Keeper:
    """Speaks for one store, on a connection of its own."""

    def __init__(
        self, access: Access, subject: str, timeout: float, served: asyncio.AbstractEventLoop
    ) -> None:
        self._access, self._subject, self._timeout, self._served = access, subject, timeout, served
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._client: SafeClient | None = None
        self._failing = False
        self._thread = threading.Thread(target=self._main, name="sssnbus-nats-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end."""
        self._stop.set()
        if self._loop is not None and self._wake is not None:
            call_soon(self._loop, self._wake.set)

    def join(self, timeout: float) -> None:
        """Wait until it has."""
        self._thread.join(timeout)

    def _main(self) -> None:
        # Most stores of tests and scripts are closed before the first beat, and need no connection for it.
        if not self._stop.wait(self._timeout / _BEATS):
            asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        # A loop that ended without closing the store works on nothing any more.
        while not self._stop.is_set() and not self._served.is_closed():
            try:
                async with asyncio.timeout(self._timeout / _BEATS):
                    await self._beat()
                self._failing = False
            except Exception as error:
                self._report(error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._timeout / _BEATS)
        if self._client is not None:
            await self._client.close()

    async def _beat(self) -> None:
        if self._client is None:
            client = SafeClient(self._access.tls)
            try:
                await client.connect(**self._access.options(), name="sssnbus keeper", error_cb=_quiet)
            except BaseException:
                await client.close()
                raise
            self._client = client
        headers = {"Nats-TTL": f"{round(self._timeout)}s"}
        await self._client.request(self._subject, headers=headers, timeout=self._timeout)

    def _report(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            late = isinstance(error, TimeoutError)
            reason = "the server does not answer" if late else type(error).__name__
            _log.warning("Leases held through %s are not renewed: %s", self._access.url, reason)


async def _quiet(error: Exception) -> None:
    _log.debug("Keeper's connection: %s", type(error).__name__)
