"""Writing the journal of a queue: the changes of all tasks gather, and go together in the next entry.

One entry is on its way at a time. It is over when the table holds it: as a rule with the server's answer, and
in any case by its deadline.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from sssnbus.errors import ClosedError, OutcomeUnknown, PayloadTooLarge
from sssnbus.stores.nats.change import CLAIM, Change
from sssnbus.stores.nats.failure import NOT_SENT, Nobody, check
from sssnbus.stores.nats.link import Link, Packet, place_in
from sssnbus.stores.nats.message import MESSAGE_ID
from sssnbus.stores.nats.waiters import Promise, Told
from sssnbus.stores.nats.waiting import until_ready

MAX_CHANGES: Final = 2000
"""Changes in one entry, at most, unless a single call brings more."""

_SHARE: Final = 0.5
"""How much of what the server takes as one message may be changes."""

_AROUND: Final = 1024
"""Bytes of an entry that are no changes, headers included, at most."""

_PATIENCE: Final = 2.0
"""Seconds after which an entry that is stored and does not come is looked for."""

_MAX_STRAYS: Final = 1000
"""Failed entries that are remembered."""

_WHAT: Final = "a change of a queue"


class _Batch(NamedTuple):
    """Changes of one call, what tells it what they came to, and when it has to know."""

    changes: Sequence[Change]
    text: bytes
    """The changes as JSON without the brackets."""
    future: Promise[list[int]]
    deadline: float


@dataclass(slots=True, eq=False)
class Entry:
    """What goes into the journal as one, and who waits for it."""

    batches: Sequence[_Batch]
    name: str = field(default_factory=lambda: token_hex(10))
    sequence: int = 0
    """Where it stands in the journal, once that is known."""
    done: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Told when all that wait were told."""

    @property
    def changes(self) -> list[Change]:
        """The changes of all calls, in their order."""
        return [change for batch in self.batches for change in batch.changes]

    @property
    def payload(self) -> bytes:
        """How it is written down."""
        return b'{"c":[%b]}' % b",".join([batch.text for batch in self.batches])

    @property
    def deadline(self) -> float:
        """When the first of those who wait has to know."""
        return min(batch.deadline for batch in self.batches)

    def settle(self, results: Sequence[int]) -> None:
        """Tell each call what its changes came to."""
        start = 0
        for batch in self.batches:
            end = start + len(batch.changes)
            if not batch.future.done():
                batch.future.set_result(list(results[start:end]))
            start = end
        self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Tell each call that it failed."""
        _fail(self.batches, error)
        self.done.set_result(None)


class Writer:
    """Writes the entries of one process."""

    def __init__(
        self,
        link: Link,
        stream: str,
        subject: str,
        on_stored: Callable[[Entry], None],
        catch_up: Callable[[float], Coroutine[Any, Any, None]],
    ) -> None:
        """Make a writer.

        Args:
            link: The connection.
            stream: Where the journal is kept.
            subject: Where entries go.
            on_stored: Called with an entry whose place in the journal has just become known.
            catch_up: Sees to it that the table holds all there is, by a deadline; for what does not come.
        """
        self.strays: dict[str, list[Change]] = {}
        """Claims of entries that failed and may be stored none the less, by the names of the entries."""
        self._link, self._stream, self._subject = link, stream, subject
        self._on_stored, self._catch_up = on_stored, catch_up
        self._waiting: list[_Batch] = []
        self._entry: Entry | None = None
        self._ended = False

    def commit(self, changes: Sequence[Change]) -> Promise[list[int]]:
        """Return what will tell what each change came to, 0 for a void one, once the entry is stored.

        ``ClosedError`` and ``PayloadTooLarge`` are told as well.
        """
        loop = asyncio.get_running_loop()
        text = to_json(changes)[1:-1]
        batch = _Batch(changes, text, Promise(loop=loop), self._link.deadline())
        if self._ended:
            _fail([batch], ClosedError(f"Store {self._link.url}"))
            return batch.future
        if len(text) + _AROUND > self._link.max_payload:
            limit = self._link.max_payload
            _fail([batch], PayloadTooLarge(len(text), limit, "a change of a queue, with its error text"))
            return batch.future
        self._waiting.append(batch)
        if self._entry is None and len(self._waiting) == 1:
            # What other tasks bring in this round of the loop goes along.
            loop.call_soon(self._begin)
        return batch.future

    def stop(self) -> None:
        """End. Who waits is told that there will be no answer."""
        self._ended = True
        waiting, self._waiting = self._waiting, []
        _fail(waiting, ClosedError(f"Store {self._link.url}"))
        if self._entry is not None:
            self._give_up(self._entry, OutcomeUnknown(self._link.url, _WHAT))

    def applied(self, name: str, results: Sequence[int]) -> bool:
        """Take note that the table holds an entry; return whether somebody here waited for it."""
        entry = self._entry
        if entry is None or entry.name != name:
            return False
        entry.settle(results)
        self._over()
        return True

    def passed(self, upto: int) -> bool:
        """Give up an entry that is known to stand in a part of the journal that nobody can read any more."""
        entry = self._entry
        if entry is None or not 0 < entry.sequence <= upto:
            return False
        self._give_up(entry, OutcomeUnknown(self._link.url, _WHAT))
        return True

    async def publish(
        self, payload: bytes, name: str, what: str, deadline: float, *, unsure: bool = False
    ) -> int:
        """Store something in the journal once, however often it is sent; return where it stands.

        Args:
            payload: What to store.
            name: What the server knows it by for a while.
            what: What it is, for an error.
            deadline: When to give up, on the loop's clock.
            unsure: Whether it may have been sent before.
        """
        headers = {MESSAGE_ID: name}
        while True:
            try:
                answer = await self._link.request(
                    self._subject, payload, headers, deadline=deadline, write=what
                )
                return int(check(from_json(answer.message.data), self._link.url)["seq"])
            except Nobody as nobody:
                unsure |= nobody.repeated
                await until_ready(self._link, self._stream, deadline, what if unsure else None)
            except NOT_SENT as error:
                if unsure:
                    raise OutcomeUnknown(self._link.url, what) from error
                raise

    def _begin(self) -> None:
        """Send what waits, unless something is on its way."""
        if self._entry is not None or not self._waiting:
            return
        most = self._link.max_payload * _SHARE
        end = count = size = 0
        for batch in self._waiting:
            count, size = count + len(batch.changes), size + len(batch.text) + 1
            if end and (count > MAX_CHANGES or size > most):
                break
            end += 1
        entry = self._entry = Entry(self._waiting[:end])
        del self._waiting[:end]
        if self._link.up:
            packet = Packet(self._subject, entry.payload, {MESSAGE_ID: entry.name})
            self._link.begin(packet, entry.deadline, partial(self._answered, entry))
        else:
            self._see_to(entry, unsure=False)

    def _answered(self, entry: Entry, told: Told) -> None:
        if entry.done.done():
            # It has come back by the tail, or the store was closed.
            return
        entry.sequence = place_in(told)
        if entry.sequence:
            self._on_stored(entry)
        if not entry.done.done():
            self._see_to(entry, unsure=isinstance(told, Exception))

    def _see_to(self, entry: Entry, unsure: bool) -> None:
        def ended(task: "asyncio.Task[None]") -> None:
            # It was cancelled, maybe before its first step, as by a loop that ends. Nobody else would tell.
            if not entry.done.done():
                self._give_up(entry, OutcomeUnknown(self._link.url, _WHAT))

        self._link.spawn(self._insist(entry, unsure), "journal").add_done_callback(ended)

    async def _insist(self, entry: Entry, unsure: bool) -> None:
        """See to an entry that one try did not bring into the table."""
        error: Exception | None = None
        try:
            if not entry.sequence:
                entry.sequence = await self.publish(
                    entry.payload, entry.name, _WHAT, entry.deadline, unsure=unsure
                )
                if not entry.done.done():
                    self._on_stored(entry)
            # Somebody else's entries come first; they and ours are on their way.
            left = entry.deadline - asyncio.get_running_loop().time()
            await asyncio.wait([entry.done], timeout=max(0.0, min(left, _PATIENCE)))
            if not entry.done.done():
                unsure = True
                await self._catch_up(entry.deadline)
        except NOT_SENT as told:
            error = OutcomeUnknown(self._link.url, _WHAT) if unsure else told
        except Exception as told:
            error = told
        if not entry.done.done():
            self._give_up(entry, error or OutcomeUnknown(self._link.url, _WHAT))

    def _give_up(self, entry: Entry, error: Exception) -> None:
        """Tell those who wait that it failed; what they get none the less is given back when it turns up."""
        claims = [change for change in entry.changes if change[0] == CLAIM]
        if claims:
            self.strays[entry.name] = claims
            if len(self.strays) > _MAX_STRAYS:
                del self.strays[next(iter(self.strays))]
        entry.fail(error)
        self._over()

    def _over(self) -> None:
        self._entry = None
        self._begin()


def parts(changes: Sequence[Change], max_payload: int) -> list[Sequence[Change]]:
    """Return changes in parts that fit into an entry each, if only one change is not too large by itself.

    No changes make no part: beside those of others they would make an entry that nobody can read.
    """
    if not changes:
        return []
    fits = len(changes) <= MAX_CHANGES and len(to_json(changes)) <= max_payload * _SHARE
    if fits or len(changes) == 1:
        return [changes]
    half = len(changes) // 2
    return parts(changes[:half], max_payload) + parts(changes[half:], max_payload)


def _fail(batches: Iterable[_Batch], error: Exception) -> None:
    for batch in batches:
        if not batch.future.done():
            batch.future.set_exception(error)
            # Looked at: a farewell that has given up does not wait for it any more.
            batch.future.exception()
