"""Following a stream: an ordered consumer that starts again from where it stands when anything goes wrong."""

import asyncio
import logging
from collections.abc import Callable
from secrets import token_hex
from typing import Any, Final

from sssnbus.errors import BusError, StoreUnavailable
from sssnbus.stores.nats.failure import Absent, Missing
from sssnbus.stores.nats.fetch import stamp_of
from sssnbus.stores.nats.link import Link
from sssnbus.stores.nats.wire import Incoming

_log = logging.getLogger(__name__)

HEARTBEAT: Final = 5.0
"""Seconds after which the server speaks up when it has nothing to deliver."""

_LOOK: Final = 0.02
"""Seconds without a delivery after which it is looked whether one is due at all."""

_PATIENCE: Final = 2.0
"""Seconds without a delivery that is due after which the tail is begun anew."""

_SETTLING: Final = 20.0
"""Seconds that the new leader of a cluster gets to come as far as the last one was."""

_SAME: Final = 0.001
"""Seconds by which two readings of one time of the server may differ."""

_RESTART_EVERY: Final = 0.5
"""Seconds between two tries to begin anew."""

Take = Callable[[Incoming, int, float], None]
"""Gets a message, its sequence and when the server stored it."""


class Tail:
    """One stream's messages in their order, each once, from a given place on."""

    def __init__(
        self,
        link: Link,
        stream: str,
        after: int,
        take: Take,
        *,
        headers_only: bool = False,
        on_gap: Callable[[], None] | None = None,
        on_missing: Callable[[], None] | None = None,
        on_set_back: Callable[[], None] | None = None,
        incarnation: str | None = None,
    ) -> None:
        """Make a tail; ``start`` begins it.

        Args:
            link: The connection.
            stream: What to follow.
            after: The sequence behind which it begins.
            take: Called with each message.
            headers_only: Leave the bodies where they are.
            on_gap: Called when the tail was interrupted and goes on, so that news may be late.
            on_missing: Called when the stream is not there any more; the tail has ended then.
            on_set_back: Called when the server has lost messages that were there; the tail has ended then.
            incarnation: Which stream of that name it is, if there may be others one day.
        """
        self.position = after
        """The newest sequence that was taken, or is known to need no taking."""
        self._link, self._stream, self._take = link, stream, take
        self._headers_only, self._on_gap, self._on_missing = headers_only, on_gap, on_missing
        self._on_set_back, self._incarnation = on_set_back, incarnation
        self._newest = (0, 0.0)
        """The last message that was delivered, and when the server stored it."""
        self._name = ""
        self._next = 1
        self._alone: asyncio.TimerHandle | None = None
        self._moved: set[asyncio.Future[None]] = set()
        self._ended = self._starting = False

    async def start(self, deadline: float) -> None:
        """Begin, or begin again behind ``position``.

        Raises:
            Missing: there is no such stream.
        """
        self._forget()
        name = self._name = f"sssnbus{token_hex(8)}"
        self._next = 1
        await self._link.listen(name, self)
        config: dict[str, Any] = {
            "name": name,
            "deliver_subject": self._link.tail(name),
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.position + 1,
            "ack_policy": "none",
            "max_deliver": 1,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT * 1e9),
            "inactive_threshold": int(6 * HEARTBEAT * 1e9),
            "mem_storage": True,
            "num_replicas": 1,
            "headers_only": self._headers_only,
        }
        verb = f"CONSUMER.CREATE.{self._stream}.{name}"
        request = {"stream_name": self._stream, "config": config, "action": ""}
        try:
            await self._link.api(verb, request, deadline=deadline)
        except BaseException:
            # Unless it was begun anew meanwhile: then that one goes on.
            if self._name == name:
                self._forget()
            raise
        if self._name == name:
            self._watch()

    def stop(self) -> None:
        """End. The server forgets a consumer that nobody listens to."""
        self._ended = True
        name = self._name
        self._forget()
        if name and self._link.up:
            self._link.spawn(self._delete(name), "tail-end")
        for future in self._moved:
            if not future.done():
                future.cancel()

    async def sync(self, deadline: float) -> int:
        """Return when everything has been taken that was stored before this was called: up to what.

        Raises:
            Missing: there is no such stream.
        """
        loop = asyncio.get_running_loop()
        last = await self._last(deadline)
        patience = loop.time() + _PATIENCE
        while self.position < last:
            if await self._move(deadline):
                patience = loop.time() + _PATIENCE
                continue
            if await self._last(deadline) < last:
                # A new leader that has not caught up yet would call removed what it does not have.
                continue
            # What is missing may have been removed before it came here.
            there = await self._following(deadline)
            if there is None or there > last:
                self._reach(last)
            elif loop.time() > patience:
                # The consumer may have gone with its server, which its heartbeats would tell much later.
                self._restart()
                patience = loop.time() + _PATIENCE
        return last

    def deliver(self, message: Incoming, parts: list[str]) -> None:
        if int(parts[4]) != self._next:
            self._restart()
            return
        self._next += 1
        sequence, stamp = int(parts[3]), int(parts[5]) / 1e9
        self._newest = sequence, stamp
        if sequence > self.position:
            self._take(message, sequence, stamp)
        self._reach(sequence)

    def control(self, message: Incoming) -> None:
        if message.status != "100":
            # It was deleted, or its place in the cluster has changed.
            self._restart()
            return
        self._watch()
        last = message.headers.get("Nats-Last-Consumer")
        if last is not None and int(last) != self._next - 1:
            self._restart()
            return
        answer = message.reply or message.headers.get("Nats-Consumer-Stalled")
        if answer:
            # Flow control; if it is lost the tail starts again with the connection.
            self._link.send(answer)

    async def look(self) -> None:
        await self._look(self._link.deadline(), early=True)

    def resume(self) -> None:
        self._restart()

    async def _last(self, deadline: float) -> int:
        return int((await self._info(deadline))["state"]["last_seq"])

    async def _info(self, deadline: float, early: bool = False) -> dict[str, Any]:
        info = await self._link.api(f"STREAM.INFO.{self._stream}", deadline=deadline, early=early)
        metadata = info["config"].get("metadata") or {}
        if self._incarnation not in (None, metadata.get("incarnation")):
            raise Missing(0, "it was dropped and declared anew")
        return info

    async def _look(self, deadline: float, early: bool = False) -> None:
        """End if the server has lost what was taken here: it is gone, or something else is in its place.

        It may have come back with an older state, as after a power cut, and others may have written since.
        To go on would pass over what they wrote in the same places.
        """
        # What is delivered from here on is newer than what the server is about to say.
        position = self.position
        info = await self._info(deadline, early)
        if int(info["config"].get("num_replicas", 1)) > 1:
            info = await self._settled(info, position, deadline, early)
        if int(info["state"]["last_seq"]) < position or await self._has_changed(deadline, early):
            self._ended = True
            if self._on_set_back is not None:
                self._on_set_back()

    async def _settled(
        self, info: dict[str, Any], position: int, deadline: float, early: bool
    ) -> dict[str, Any]:
        """Give the new leader of a cluster some time to come as far as the last one was."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLING
        while int(info["state"]["last_seq"]) < position and loop.time() < end:
            await asyncio.sleep(_LOOK)
            info = await self._info(deadline, early)
        return info

    async def _has_changed(self, deadline: float, early: bool) -> bool:
        """Return whether another message is where the newest one was. That one may have been removed."""
        sequence, stamp = self._newest
        if not sequence:
            return False
        verb = f"STREAM.MSG.GET.{self._stream}"
        try:
            answer = await self._link.api(verb, {"seq": sequence}, deadline=deadline, early=early)
        except Absent:
            return False
        return abs(stamp_of(answer["message"]["time"]) - stamp) > _SAME

    async def _following(self, deadline: float) -> int | None:
        """Return the first sequence that is there behind the position."""
        # The leader is asked: whoever else answered might not have it yet, or not be there at all, and what
        # is taken for removed here is removed for good by others.
        body = {"seq": self.position + 1, "next_by_subj": ">"}
        try:
            answer = await self._link.api(f"STREAM.MSG.GET.{self._stream}", body, deadline=deadline)
        except Absent:
            return None
        return int(answer["message"]["seq"])

    def _reach(self, sequence: int) -> None:
        self.position = max(self.position, sequence)
        for future in self._moved:
            if not future.done():
                future.set_result(None)
        self._moved.clear()

    async def _move(self, deadline: float) -> bool:
        """Wait for the next delivery; return whether one came soon."""
        loop = asyncio.get_running_loop()
        if loop.time() > deadline:
            raise StoreUnavailable(f"Store {self._link.url} delivers nothing. Try again.")
        future: asyncio.Future[None] = loop.create_future()
        self._moved.add(future)
        done, _ = await asyncio.wait([future], timeout=_LOOK)
        self._moved.discard(future)
        return bool(done)

    def _watch(self) -> None:
        if self._alone is not None:
            self._alone.cancel()
        self._alone = asyncio.get_running_loop().call_later(3 * HEARTBEAT, self._restart)

    def _forget(self) -> None:
        if self._name:
            self._link.ignore(self._name)
        self._name = ""
        if self._alone is not None:
            self._alone.cancel()
            self._alone = None

    def _restart(self) -> None:
        if self._ended or self._starting:
            return
        self._starting = True
        self._forget()
        self._link.spawn(self._start_again(), "tail")

    async def _start_again(self) -> None:
        try:
            while not self._ended:
                try:
                    await self._look(self._link.deadline(_SETTLING + self._link.timeout))
                    if self._ended:
                        return
                    await self.start(self._link.deadline())
                    break
                except Missing:
                    self._ended = True
                    if self._on_missing is not None:
                        self._on_missing()
                    return
                except BusError as error:
                    _log.debug("Stream %s cannot be followed: %s", self._stream, error)
                    await asyncio.sleep(_RESTART_EVERY)
        finally:
            self._starting = False
        if self._on_gap is not None:
            self._on_gap()

    async def _delete(self, name: str) -> None:
        try:
            await self._link.api(f"CONSUMER.DELETE.{self._stream}.{name}", deadline=self._link.deadline(1.0))
        except (BusError, Missing):
            # It ends by itself.
            return
