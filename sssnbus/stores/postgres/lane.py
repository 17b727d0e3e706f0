"""The lanes to a server: what waits and can go together is one statement, one statement at a time.

A batch whose answer was lost is sent again under its number until the server has answered it; the server
applies a number once.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sssnbus.errors import BusError, StoreUnavailable
from sssnbus.stores import lane
from sssnbus.stores.lane import Stage
from sssnbus.stores.postgres.failure import Lost, from_server, is_again, is_lost, is_stale, is_unknown_owner
from sssnbus.stores.postgres.link import Connection, Link
from sssnbus.stores.postgres.operation import Batch, Moment, Operation
from sssnbus.stores.postgres.place import Place

_log = logging.getLogger(__name__)

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Bytes of messages in one batch, unless a single operation brings more."""

MARGIN: Final = 0.5
"""Seconds that the server's answer gets after its own limit, so that it is known that nothing was applied."""

_TRIES: Final = 20
"""How often a batch is sent again that somebody was in the way of."""


class Identity:
    """Who this store object is at the server."""

    def __init__(self) -> None:
        self.number = 0
        self.store = ""
        self.floor = 0
        """The newest id that this object has seen."""

    @property
    def name(self) -> str:
        """What others know this store object by."""
        return f"{self.store}:{self.number}"


class Lane(lane.Lane[Operation]):
    """A way to write: one connection, one transaction at a time."""

    def __init__(
        self,
        place: Place,
        link: Link,
        identity: Identity,
        moment: Callable[[], Moment],
        enter: Callable[[Connection], Awaitable[None]],
    ) -> None:
        super().__init__(place.url, place.timeout)
        self.link = link
        self._place, self._identity, self._moment, self._enter = place, identity, moment, enter
        self._task: asyncio.Task[None] | None = None
        self._number = 1

    async def drained(self, patience: float) -> None:
        """Wait until nothing is under way, for ``patience`` seconds at most."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience)

    def close(self) -> None:
        """Give up what waits, and waiting for what does not end; cut the connection."""
        super().close()
        if not self._loop.is_closed():
            if self._task is not None:
                self._task.cancel()
            self.link.end()

    def _wake(self) -> None:
        if self._task is None and self._waiting:
            self._task = self._loop.create_task(self._run(), name="sssnbus-postgres-lane")
            self._task.add_done_callback(self._ended)

    # From here on in the task of the lane.

    async def _run(self) -> None:
        while self._waiting:
            batch = self._next()
            if batch is None:
                continue
            try:
                await self._carry_out(batch)
            except asyncio.CancelledError:
                if any(operation.stage is Stage.RUNNING for operation in batch.operations):
                    self._give_up(batch)
                self._interrupt()
                raise
            except Exception as exc:
                # Nothing of ours may end the lane while somebody waits for it.
                self._fail(
                    self._flying, from_server(exc, self._place.url, "An operation", self._place.timeout)
                )
                if not isinstance(exc, BusError):
                    _log.error("A batch of writes died.", exc_info=exc)
            self._flying = []
            # Those who have just got their answer may ask again; what they ask goes along.
            await asyncio.sleep(0)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if not self._closed:
            self._wake()

    def _next(self) -> Batch | None:
        """Take the next operations that can go together. Those of another kind stay where they are."""
        waiting, left, group, size = self._waiting, [], None, 0
        chosen: list[Operation] = []
        while waiting:
            operation = waiting.popleft()
            if operation.stage is not Stage.WAITING:
                continue
            group = group or operation.group
            fits = not chosen or (len(chosen) < group.most and size + operation.size <= MAX_BATCH_BYTES)
            if operation.group is group and fits:
                chosen.append(operation)
                size += operation.size
            else:
                left.append(operation)
                if len(chosen) >= group.most:
                    break
        waiting.extendleft(reversed(left))
        self._flying = chosen
        return None if group is None else group(chosen)

    async def _carry_out(self, batch: Batch) -> None:
        """Have a batch applied, once, and hand out what came of it."""
        place, loop = self._place, self._loop
        end = loop.time() + place.timeout
        begun = in_doubt = False
        tries = 0
        while True:
            try:
                connection = await self.link.connect(max(0.05, min(place.connect_timeout, end - loop.time())))
            except BusError as exc:
                if not in_doubt:
                    return self._fail(batch.operations, exc)
                if self._closed or loop.time() >= end:
                    return self._give_up(batch)
                await asyncio.sleep(0.05)
                continue
            if not begun:
                begun = True
                batch.operations = [each for each in batch.operations if each.stage is not Stage.ABANDONED]
                for operation in batch.operations:
                    operation.stage = Stage.RUNNING
                if not batch.operations:
                    return None
            try:
                statement, args = batch.call(self._identity.number, self._number, self._moment())
                rows = await self.link.fetch(
                    place.text(statement), args, max(0.05, end - loop.time()) + MARGIN
                )
            except Lost:
                if not in_doubt:
                    # From here on time is given to finding out.
                    end = max(end, loop.time() + place.connect_timeout)
                in_doubt = True
                if loop.time() >= end:
                    return self._give_up(batch)
                continue
            except Exception as exc:
                if is_unknown_owner(exc):
                    if in_doubt:
                        return self._give_up(batch)
                    if loop.time() >= end:
                        return self._fail(batch.operations, _gone(place))
                    try:
                        await self._enter(connection)
                    except Exception as lost:
                        if not is_lost(lost):
                            raise
                        self.link.drop()
                    continue
                tries += 1
                if (is_again(exc) or is_stale(exc)) and tries < _TRIES and loop.time() < end:
                    await asyncio.sleep(random.uniform(0, 0.005 * tries))
                    continue
                if in_doubt:
                    # What was sent first may still be under way: whatever becomes of it, its answer is not
                    # for who comes next.
                    self._number += 1
                return await self._refused(batch, exc)
            self._number += 1
            batch.finish(rows)
            for operation in batch.operations:
                operation.end(operation.error)
            return None

    async def _refused(self, batch: Batch, exc: Exception) -> None:
        """The server refused: nothing was applied. A bad operation must not fail its neighbours."""
        parts = batch.apart()
        if not parts:
            what = batch.operations[0].what
            return self._fail(batch.operations, from_server(exc, self._place.url, what, self._place.timeout))
        # A table that is locked refuses one after the other, each after all its time.
        end = self._loop.time() + self._place.timeout
        for part in parts:
            if self._loop.time() < end:
                await self._carry_out(part)
            else:
                for operation in part.operations:
                    self._fail([operation], self._late(operation))

    def _give_up(self, batch: Batch) -> None:
        # The next batch takes a new number; once it is applied, this one never will be.
        batch.given_up(self._number)
        self._number += 1
        for operation in batch.operations:
            self._fail([operation], operation.unknown(self._place.url))

    def _fail(self, operations: Any, exc: BusError) -> None:
        for operation in operations:
            if operation.stage is not Stage.ABANDONED and operation.future is not None:
                operation.stage = Stage.RUNNING
                operation.end(exc)


def _gone(place: Place) -> StoreUnavailable:
    return StoreUnavailable(f"Store {place.url} was lost, again and again. Try later.")
