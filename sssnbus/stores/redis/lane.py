"""The lanes to a server: what waits goes together in one request, one request at a time.

A request that was not answered is sent again, on a new connection, until its operations are out of time:
the server remembers the last answer to each owner, so a request is applied once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from pydantic_core import to_json
from redis.exceptions import ResponseError

from sssnbus.errors import BusError, ClosedError, StoreError, StoreReadOnly, StoreReplaced
from sssnbus.stores import lane
from sssnbus.stores.backoff import Backoff
from sssnbus.stores.lane import Stage
from sssnbus.stores.redis.codec import taken_apart
from sssnbus.stores.redis.failure import is_passing, translated
from sssnbus.stores.redis.operation import Operation, refusal
from sssnbus.stores.redis.place import Place
from sssnbus.stores.redis.script import Script, scripts
from sssnbus.stores.redis.wire import Wire

MAX_BATCH: Final = 512
"""Operations in one request, at most: the server does nothing else while it works on one."""

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Bytes of messages in one request, unless a single operation brings more."""

LIFE: Final = 10.0
"""Seconds after which an owner that was not heard of counts as dead."""

PAUSES: Final = (0.02, 1.0)
"""The first and the longest wait, in seconds, before a request is sent again."""


class Lane(lane.Lane[Operation]):
    """A connection that carries one request at a time, and the operations that wait for the next."""

    def __init__(
        self,
        place: Place,
        script: Callable[[set[str]], Script],
        address: Callable[[int], list[object]],
        greet: Callable[[Wire], Awaitable[None]],
        *,
        writes: bool,
    ) -> None:
        """Make a lane; it connects when it is first needed.

        Args:
            place: Where to connect to.
            script: Returns what operations are done by, given their verbs.
            address: Returns what a request begins with, given its number.
            greet: Called with each new connection before it carries anything.
            writes: Whether operations change something, so that an unknown outcome has to be told.
        """
        super().__init__(place.url, place.timeout)
        self._place = place
        self._script = script
        self._address = address
        self._greet = greet
        self._writes = writes
        self._request: tuple[Script, Sequence[bytes]] | None = None
        self._busy = self._astray = False
        self._sent = False
        """Whether the request under way has left before, and may have been applied."""
        self._task: asyncio.Task[None] | None = None
        self._wire: Wire | None = None
        self._trouble: BaseException | None = None
        self._number = 0
        self.replaced = False
        """Whether the data was found to be other than what this was opened on; nothing is sent then."""

    async def perform(self, operation: Operation, timeout: float | None = None) -> Any:
        future = self._submit(operation, timeout)
        try:
            if self._wire is None:
                self._wake()
            elif not self._busy:
                await self._lead()
            return await future
        except asyncio.CancelledError:
            if future.done():
                # It ran out of time while its caller led: nobody else looks at its error.
                _forget(future)
            await self._leave(operation)
            raise

    def post(self, operation: Operation) -> None:
        """Do an operation that nobody waits for, before all that come later."""
        self._submit(operation, None).add_done_callback(_forget)
        # What its caller does next takes it along; if nothing comes, it goes by itself.
        self._loop.call_soon(self._wake)

    async def connect(self) -> None:
        """Connect now, or anew; its failure is raised as the client has it."""
        await self._hang_up()
        wire = Wire(self._place)
        try:
            await wire.connect()
            await self._greet(wire)
        except BaseException:
            await wire.close()
            raise
        self._wire, self._astray = wire, False

    def leave(self) -> None:
        """Use another connection from the next request on: the server is none to be asked any more."""
        self._astray = True

    async def disconnect(self) -> None:
        """Give up what waits, and waiting for what does not end; close the connection."""
        self.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._hang_up()

    def _wake(self) -> None:
        if not self._busy and self._waiting:
            self._busy = True
            self._start(None)

    def _start(self, failure: BaseException | None) -> None:
        self._task = self._loop.create_task(self._run(failure), name="sssnbus-redis-lane")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if self._task is task:
            # It was cancelled, maybe before its first step, as by a loop that ends. The client has dropped
            # the connection and would make another by itself: nobody would look at the server behind it.
            self._interrupt()
            self.leave()
            self._busy, self._task = False, None
            self._wake()

    async def _leave(self, operation: Operation) -> None:
        if self._writes:
            await super()._leave(operation)
        elif not self._abandon(operation):
            # It changes nothing, so it is not asked again for somebody who is gone.
            operation.future = None

    def _limit(self, operation: Operation) -> float | None:
        if operation.future is None:
            return None
        if operation.stage is Stage.WAITING:
            return operation.deadline
        # It is sent again and again until then; a shorter time that its caller gave was for its beginning.
        return operation.deadline + max(0.0, self._timeout - operation.timeout)

    def _overdue(self, operation: Operation) -> None:
        operation.end(self._unknown(operation))

    def _expire(self) -> None:
        super()._expire()
        if self._wire is not None and not any(operation.future is not None for operation in self._flying):
            # Nobody waits for this answer any more; it must not be taken for that of the next request.
            self._wire.give_up()

    def _late(self, operation: Operation) -> BusError:
        if self._trouble is not None:
            return translated(self._trouble, self._place.url)
        return super()._late(operation)

    def _unknown(self, operation: Operation) -> BusError:
        if not self._writes:
            return ClosedError(f"Store {self._url}") if self._closed else self._late(operation)
        error = super()._unknown(operation)
        error.__cause__ = self._trouble
        return error

    async def _lead(self) -> None:
        """Send what waits, in the task of the caller: a task of our own would cost two turns of the loop.

        If anything goes wrong, or the caller is cancelled, the rest is left to a task of our own.
        """
        self._busy = True
        failure: BaseException | None = None
        try:
            self._begin()
            if self._flying:
                await self._attempt()
        except asyncio.CancelledError:
            failure = ConnectionError("the request was interrupted")
            raise
        except Exception as exc:
            failure = exc
        finally:
            if failure is None:
                self._flying = []
            if (failure is not None or self._waiting) and not self._closed:
                self._start(failure)
            else:
                self._busy = False

    async def _run(self, failure: BaseException | None) -> None:
        if failure is not None:
            await self._fly(failure)
        while self._waiting:
            self._begin()
            await self._fly(None)
        self._busy, self._flying, self._task = False, [], None

    def _begin(self) -> None:
        self._number += 1
        self._flying, self._request = self._take(MAX_BATCH, MAX_BATCH_BYTES), None
        self._sent = False

    async def _fly(self, failure: BaseException | None) -> None:
        """Send a request until it is answered or nobody waits for it."""
        backoff = Backoff(*PAUSES)
        while True:
            if failure is not None:
                await self._hang_up()
                if not is_passing(failure):
                    for operation in self._flying:
                        operation.end(translated(failure, self._place.url))
                    return
                self._trouble, failure = failure, None
                await backoff.wait()
            if not any(operation.future is not None for operation in self._flying):
                return
            try:
                if self._wire is None:
                    await self.connect()
                await self._attempt()
            except Exception as exc:
                failure = exc

    async def _attempt(self) -> None:
        """Send the request once, and hand out the answer."""
        if self.replaced:
            raise StoreReplaced(self._place.url, "set back or replaced by another")
        if self._request is None:
            self._request = self._pack()
        if self._astray:
            await self.connect()
        assert self._wire is not None, "it is connected"
        script, request = self._request
        limit = max(0.5, self._place.timeout / 3)
        again, self._sent = self._sent, True
        answer = await self._wire.run(script, self._place.clock_key, *request, limit=limit)
        if answer.startswith(b"["):
            self._trouble = None
            self._deliver(answer, again)
        else:
            await self._explain(answer, again)

    def _pack(self) -> tuple[Script, Sequence[bytes]]:
        self._flying = [operation for operation in self._flying if operation.future is not None]
        alone = self._flying[0].alone if len(self._flying) == 1 else None
        if alone is not None:
            self._flying[0].stage = Stage.RUNNING
            owner, number, birth, time, _ = self._address(self._number)
            texts = (owner, number, birth, "" if time is None else repr(time))
            return scripts().one, (*(str(text).encode() for text in texts), *alone)
        parts: list[bytes] = []
        for operation in self._flying:
            operation.stage = Stage.RUNNING
            parts += operation.parts
        header = [*self._address(self._number), [operation.body for operation in self._flying]]
        script = self._script({str(operation.body[0]) for operation in self._flying})
        return script, (to_json(header), b"".join(parts))

    async def _explain(self, answer: bytes, again: bool) -> None:
        """See to a request that the server did not take; ``again``: it was sent before this time."""
        if answer == b"REPLACED":
            self.replaced = True
            raise StoreReplaced(self._place.url, "set back or replaced by another")
        if answer == b"REPLICA":
            # The name leads to another server, now or soon.
            raise ConnectionError("the server became a replica")
        if answer == b"GONE":
            # Others took us for dead while we were away. What was held is lost; work goes on.
            if not again:
                await self.enter(self._number - 1)
                raise ConnectionError("the server had forgotten this store")
            # With the owner its last answer is gone: nobody can tell any more whether this was applied.
            for operation in self._flying:
                operation.end(None if operation.body[0] == "leave" else self._unknown(operation))
            if not self._closed and any(operation.body[0] != "leave" for operation in self._flying):
                await self.enter(self._number)
            return
        raise StoreError(f"Store {self._place.url} did not take a request: {answer[:20]!r}.")

    async def enter(self, number: int) -> None:
        """Be put on the list of owners; requests up to ``number`` are not taken any more."""
        assert self._wire is not None, "it is connected"
        body = to_json([*self._address(0), [["enter", LIFE, number]]])
        answer = await self._wire.run(
            self._script({"enter"}), self._place.clock_key, body, b"", limit=self._place.connect_timeout
        )
        if answer == b"REPLACED":
            self.replaced = True
            return
        ((code, *why),), _ = taken_apart(answer)
        if code != 0:
            raise translated(ResponseError(*why), self._place.url)

    def _deliver(self, answer: bytes, again: bool) -> None:
        results, parts = taken_apart(answer)
        for operation, result in zip(self._flying, results, strict=True):
            if result[0] == 0:
                operation.result = operation.parse(result, parts)
                operation.end()
            else:
                error = refusal(result, self._place.url)
                if isinstance(error, StoreReadOnly):
                    # It became a replica and has applied nothing. The name leads to another, now or soon.
                    self._take_back(again)
                    raise ConnectionError("the server became a replica")
                operation.end(error)

    def _take_back(self, again: bool) -> None:
        """Have a request that was refused as a whole made anew; if it came before, that may be applied."""
        if not again:
            self._request, self._sent = None, False
            for operation in self._flying:
                if operation.stage is Stage.RUNNING:
                    operation.stage = Stage.WAITING

    async def _hang_up(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()


def _forget(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
