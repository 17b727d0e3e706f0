"""Group commit: operations queue up while a statement is under way, and go together in the next one.

An operation is waiting, then running or abandoned: what a caller gave up is never applied, and what has
begun is known to its caller before the call ends. A batch whose answer was lost is sent again under its
number until the server has answered it; the server applies a number once.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sssnbus.errors import BusError, ClosedError, OutcomeUnknown, StoreTimeout, StoreUnavailable
from sssnbus.stores.postgres.failure import Lost, from_server, is_again, is_lost, is_stale, is_unknown_owner
from sssnbus.stores.postgres.link import Connection, Link
from sssnbus.stores.postgres.operation import Batch, Moment, Operation, Stage
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


class Lane:
    """A way to write: one connection, one transaction at a time."""

    def __init__(
        self,
        place: Place,
        link: Link,
        identity: Identity,
        moment: Callable[[], Moment],
        enter: Callable[[Connection], Awaitable[None]],
    ) -> None:
        self.link = link
        self._place, self._identity, self._moment, self._enter = place, identity, moment, enter
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Operation] = deque()
        self._flying: list[Operation] = []
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._number = 1
        self._closed = False

    async def perform(self, operation: Operation, timeout: float | None = None) -> Any:
        """Return the result of an operation once it is committed.

        A cancelled one was either abandoned, or has ended before the ``CancelledError`` leaves; then its
        ``result`` is there to be undone.
        """
        future = self._submit(operation, self._place.timeout if timeout is None else timeout)
        try:
            return await future
        except asyncio.CancelledError:
            if not self._abandon(operation):
                await self._outlive(operation)
            raise

    async def insist(self, operation: Operation, timeout: float) -> None:
        """Do an operation although the task may be cancelled meanwhile; its error is left in it."""
        self._submit(operation, timeout)
        await self._outlive(operation)

    async def drained(self, patience: float) -> None:
        """Wait until nothing is under way, for ``patience`` seconds at most."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience)

    def close(self) -> None:
        """Give up what waits, and waiting for what does not end. Never waits, works from any thread."""
        self._closed = True
        url = self._place.url
        for operation in [*self._waiting, *self._flying]:
            if self._abandon(operation, ClosedError(f"Store {url}")) or operation.future is None:
                continue
            if not operation.future.done() and not self._loop.is_closed():
                operation.future.set_exception(operation.unknown(url))
        self._waiting.clear()
        if not self._loop.is_closed():
            if self._timer is not None:
                self._timer.cancel()
            if self._task is not None:
                self._task.cancel()
            self.link.end()

    def _submit(self, operation: Operation, timeout: float) -> asyncio.Future[Any]:
        if self._closed:
            raise ClosedError(f"Store {self._place.url}")
        loop = self._loop
        operation.future = future = loop.create_future()
        operation.timeout = timeout
        operation.deadline = deadline = loop.time() + timeout
        self._waiting.append(operation)
        if self._task is None:
            self._task = loop.create_task(self._run(), name="sssnbus-postgres-lane")
            self._task.add_done_callback(self._ended)
        if self._timer is None or self._timer.when() > deadline:
            self._set_timer(deadline)
        return future

    def _abandon(self, operation: Operation, reason: BaseException | None = None) -> bool:
        """Make sure that a waiting operation is never applied; return False if it has begun."""
        if operation.stage is Stage.RUNNING:
            return False
        operation.stage = Stage.ABANDONED
        operation.error = reason
        future, operation.future = operation.future, None
        if future is not None and not future.done() and reason is not None:
            future.set_exception(reason)
        return True

    async def _outlive(self, operation: Operation) -> None:
        """Wait until an operation has ended, however often the task is cancelled."""
        if operation.future is None:
            return
        operation.future = future = self._loop.create_future()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if isinstance(error := future.exception(), OutcomeUnknown | StoreUnavailable):
            _log.warning("%s", error)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now, pending = self._loop.time(), [*self._flying, *self._waiting]
        for operation in pending:
            if operation.deadline <= now and operation.stage is Stage.WAITING:
                self._abandon(operation, StoreTimeout(operation.what, operation.timeout))
        deadlines = [operation.deadline for operation in pending if operation.stage is Stage.WAITING]
        if deadlines:
            self._set_timer(min(deadlines))

    # From here on in the task of the lane.

    async def _run(self) -> None:
        while self._waiting:
            batch = self._next()
            if batch is None:
                continue
            try:
                await self._carry_out(batch)
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
        if self._waiting and not self._closed:
            self._task = self._loop.create_task(self._run(), name="sssnbus-postgres-lane")
            self._task.add_done_callback(self._ended)

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
            return self._hand_out(batch)

    async def _refused(self, batch: Batch, exc: Exception) -> None:
        """The server refused: nothing was applied. A bad operation must not fail its neighbours."""
        parts = batch.apart()
        if not parts:
            what = batch.operations[0].what
            return self._fail(batch.operations, from_server(exc, self._place.url, what, self._place.timeout))
        for part in parts:
            await self._carry_out(part)

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
                operation.error = exc
                self._settle(operation)

    def _hand_out(self, batch: Batch) -> None:
        for operation in batch.operations:
            self._settle(operation)

    def _settle(self, operation: Operation) -> None:
        future, operation.future = operation.future, None
        if future is None or future.done():
            return
        if operation.error is None:
            future.set_result(operation.result)
        else:
            future.set_exception(operation.error)


def _gone(place: Place) -> StoreUnavailable:
    return StoreUnavailable(f"Store {place.url} was lost, again and again. Try later.")
