"""Appending: one message is one publish, several are one batch that the server takes whole or not at all.

The id is a word of the subject, and each message asks to be the first one on it. So the server itself keeps
ids unique. What has to be sent again because its answer was lost carries the same name as before, by which
the server knows it for two minutes.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nats.aio.msg import Msg
from pydantic_core import from_json

from sssnbus.errors import (
    InvalidOption,
    MessageConflict,
    MissingAbility,
    NotStarted,
    OutcomeUnknown,
    PayloadTooLarge,
    QueueFull,
    StoreTimeout,
    StoreUnavailable,
)
from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import Kind, Placed, Standing
from sssnbus.stores.life import Phase
from sssnbus.stores.loop import outlive
from sssnbus.stores.nats.dedupe import Keys, Reserved
from sssnbus.stores.nats.failure import Missing, Nobody, Repeated, Stale, check
from sssnbus.stores.nats.fetch import newest
from sssnbus.stores.nats.link import Packet
from sssnbus.stores.nats.logbook import Log
from sssnbus.stores.nats.message import EXPECT_LAST, MESSAGE_ID, decode, encode, size_of
from sssnbus.stores.nats.waiting import until_ready

MAX_BATCH: Final = 1000
"""Messages that a server takes as one."""

MAX_FLYING: Final = 1024
"""Appends that are on their way together; more wait for their turn."""


@dataclass(slots=True)
class _Item:
    """A draft that has to be stored."""

    draft: Draft
    index: int
    id: str
    key: Reserved | None


@dataclass(slots=True)
class _Plan:
    """What becomes of each draft of one append."""

    placed: list[Placed | int | None] = field(default_factory=list)
    """Where it is already, the index of an earlier draft that it repeats, or None."""
    items: list[_Item] = field(default_factory=list)


class _Again(Exception):
    """Somebody wrote first, or this very append did when its answer was lost."""

    def __init__(self, repeated: bool) -> None:
        self.repeated = repeated


class _Append:
    """One append on its way: what was found out about its drafts."""

    def __init__(
        self, log: Log, drafts: Sequence[Draft], name: str, standings: Sequence[Standing] | None = None
    ) -> None:
        self.log, self.drafts, self.name = log, drafts, name
        self.standings = standings
        """How they stood elsewhere, if they come from there."""
        self.look = False
        """Whether ids have to be looked up first; most are new."""
        self.repeated = False
        """Whether an earlier try may have been stored."""
        self.ids: dict[int, str] = {}
        """The ids made for drafts without one, by index."""
        self.keys: dict[int, Reserved] = {}

    def standing(self, index: int) -> Standing | None:
        """Return how a draft stood elsewhere."""
        return None if self.standings is None else self.standings[index]


class Appends(Keys):
    """The verb ``append``, and what else puts messages into logs."""

    _turns: asyncio.Semaphore

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        max_depth: Mapping[str, int] | None = None,
        timeout: float | None = None,
    ) -> list[Placed]:
        """Add messages to a declared log, all or none, and return where each one went, in their order.

        A draft without an id gets one: 19 digits, the server's Unix time in nanoseconds but for the low 12
        bits. Ids rise for each writer; those of several writers follow one clock, not each other. At most
        1000 messages go together.

        Raises:
            StoreTimeout: it could not begin in time; it is not applied.
            OutcomeUnknown: it was sent, and no answer came in time.
            MessageConflict: an id or dedupe key is there with another type or body.
            QueueFull: a queue would hold more than its limit.
            PayloadTooLarge: a message is larger than the server takes; nothing was sent.
            MissingAbility: the drafts belong to several logs.
        """
        if not drafts:
            self._check()
            return []
        if len(drafts) == 1 and not max_depth:
            draft = drafts[0]
            log = self._logs.get(draft.channel)
            if log is not None and draft.dedupe is None and self._link.up and not self._turns.locked():
                return [await self._append_one(log, draft)]
        return await self._do(self._append, drafts, max_depth or {}, timeout)

    async def _append_one(self, log: Log, draft: Draft) -> Placed:
        """Store one message without a task: this is the way of nearly every message."""
        self._check()
        deadline, work = self._deadline(), _Append(log, [draft], self._write_name())
        id = draft.id or self._new_id()
        if draft.id is None:
            work.ids[0] = id
        items = [_Item(draft, 0, id, None)]
        (packet,), own = self._packets(work, items, None)
        cancelled: asyncio.CancelledError | None = None
        async with self._turns:
            request, answer = await self._link.begin(packet, deadline)
            self._running.add(answer)
            try:
                await outlive(answer)
            except asyncio.CancelledError as error:
                cancelled = error
            finally:
                self._running.discard(answer)
                self._link.forget(request)
        place = self._settled(answer)
        if place is None:
            for ids in own:
                ids.discard(id)
            failure = answer.exception()
            late = self._phase is not Phase.OPEN or asyncio.get_running_loop().time() > deadline
            if failure is not None and late and cancelled is None:
                raise self._link.no_answer("an append")
            if failure is None or not late:
                # Also for one who was cancelled: it has to be known what became of it.
                work.look, work.repeated = True, failure is not None
                finishing = self._begin(self._finish, work, None, deadline)
                await outlive(finishing)
                if cancelled is None:
                    return finishing.result()[0]
                finishing.exception()
        if cancelled is not None:
            raise cancelled
        assert place is not None, "anything else was raised"
        log.appended = max(log.appended, place)
        return Placed(id, place)

    def _write_name(self) -> str:
        """Return what tells an append from others with the same ids, also when its messages are gone."""
        return f"{self.owner}-{next(self._writes)}"

    def _settled(self, answer: "asyncio.Future[Msg]") -> int | None:
        """Return where a message was stored; None if that takes more than one try."""
        if answer.exception() is not None:
            return None
        told = from_json(answer.result().data) if answer.result().data else {}
        return int(told["seq"]) if told.get("seq") else None

    async def _append(
        self, drafts: Sequence[Draft], limits: Mapping[str, int], timeout: float | None
    ) -> list[Placed]:
        name = drafts[0].channel
        if any(draft.channel != name for draft in drafts):
            raise MissingAbility(name, self.url, ["AtomicBatch"])
        _check_number(drafts)
        patience = self._link.timeout if timeout is None else timeout
        if self._turns.locked():
            try:
                async with asyncio.timeout(patience):
                    await self._turns.acquire()
            except TimeoutError:
                raise StoreTimeout("An append", patience) from None
        else:
            await self._turns.acquire()
        try:
            return await self._store(name, drafts, limits.get(name))
        finally:
            self._turns.release()

    async def _store(
        self,
        name: str,
        drafts: Sequence[Draft],
        limit: int | None = None,
        standings: Sequence[Standing] | None = None,
    ) -> list[Placed]:
        """Store drafts of one log."""
        _check_number(drafts)
        deadline = self._deadline()
        log = await self._log(name, deadline)
        if log is None:
            raise NotStarted(f"Log {name!r}")
        return await self._finish(_Append(log, drafts, self._write_name(), standings), limit, deadline)

    async def _finish(self, work: _Append, limit: int | None, deadline: float) -> list[Placed]:
        """Store what an append has not stored yet, and say where everything went."""
        log = work.log
        try:
            plan, stored = await self._try(work, limit, deadline)
        except BaseException:
            await self._give_up_keys(work.keys.values())
            raise
        places = {item.index: Placed(item.id, at) for item, at in zip(plan.items, stored, strict=True)}
        await self._keep_keys(
            [(item.key, places[item.index]) for item in plan.items if item.key is not None], log
        )
        result: list[Placed] = []
        for index, there in enumerate(plan.placed):
            if there is None:
                result.append(places[index])
            elif isinstance(there, int):
                result.append(result[there]._replace(duplicate=True))
            else:
                result.append(there)
        return result

    async def _try(self, work: _Append, limit: int | None, deadline: float) -> tuple[_Plan, list[int]]:
        """Return the plan that came true, and the sequences of the messages that it stored."""
        log = work.log
        while True:
            try:
                plan = await self._plan(work, deadline)
            except StoreUnavailable as error:
                if work.repeated:
                    raise OutcomeUnknown(self.url, "an append") from error
                raise
            if not plan.items:
                return plan, []
            expected: int | None = None
            if limit is not None and log.kind is Kind.QUEUE:
                try:
                    expected = await self._room(log, len(plan.items), limit, deadline)
                except QueueFull:
                    if work.look:
                        raise
                    # What is stored already needs no room, and only looking tells.
                    work.look = True
                    continue
            try:
                return plan, await self._publish(work, plan.items, expected, deadline)
            except StoreUnavailable as error:
                if work.repeated:
                    raise OutcomeUnknown(self.url, "an append") from error
                raise
            except _Again as again:
                work.look = True
                work.repeated |= again.repeated
            except Missing:
                self._forget(log)
                raise NotStarted(f"Log {log.name!r}") from None
            if asyncio.get_running_loop().time() > deadline:
                if work.repeated:
                    raise OutcomeUnknown(self.url, "an append")
                raise StoreTimeout("An append", self._link.timeout)

    async def _plan(self, work: _Append, deadline: float) -> _Plan:
        """Say what becomes of each draft; raise if the whole append is refused."""
        plan, log = _Plan(), work.log
        ids: dict[str, int] = {}
        keys: dict[str, int] = {}
        for index, draft in enumerate(work.drafts):
            found: Placed | int | None = None
            id, dedupe = draft.id or work.ids.get(index), draft.dedupe
            if draft.id is not None and (earlier := ids.get(draft.id)) is not None:
                _check_same(log.name, work.drafts[earlier], draft)
                found = earlier
            elif id is not None and work.look:
                found, taken = await self._known(work, index, draft, id, deadline)
                if taken:
                    id = None
            if found is None and dedupe is not None:
                if (first := keys.get(dedupe.key)) is not None:
                    other = work.drafts[first].dedupe
                    if other is not None and other.digest != dedupe.digest:
                        raise MessageConflict(log.name, "dedupe key", dedupe.key)
                    found = first
                elif index not in work.keys:
                    known = await self._reserve(log, dedupe, id or self._new_id(), deadline)
                    if isinstance(known, Placed):
                        found = known
                    else:
                        work.keys[index], id = known, known.id
                keys.setdefault(dedupe.key, index)
            if found is None:
                if id is None:
                    id = self._new_id()
                if draft.id is None:
                    work.ids[index] = id
                ids[id] = index
                plan.items.append(_Item(draft, index, id, work.keys.get(index)))
            plan.placed.append(found)
        return plan

    async def _known(
        self, work: _Append, index: int, draft: Draft, id: str, deadline: float
    ) -> tuple[Placed | None, bool]:
        """Return where a draft is already, and whether its made id belongs to another message."""
        # Also when nothing is known to have been sent twice: between two tries a server that was not ready
        # may have answered, and under a new id our own message would be told by a name that it has not.
        if (place := await self._ours(work, index, id, deadline)) is not None:
            return place, False
        stored = await self._by_id(work.log, id, deadline)
        if stored is None:
            return None, False
        if draft.id is None and draft.dedupe is None:
            # Another writer made the same id in the same moment.
            return None, True
        _check_same(work.log.name, stored, draft)
        return Placed(id, stored.sequence, True), False

    async def _ours(self, work: _Append, index: int, id: str, deadline: float) -> Placed | None:
        """Return where an earlier try has stored a draft, even if a worker is through with it."""
        subjects = self._names.any_topic(work.log.hash, id)
        got = await newest(self._link, work.log.stream, subjects, work.log.direct, deadline)
        ours = got is not None and got.headers.get(MESSAGE_ID) == f"{work.name}.{index}"
        return Placed(id, got.sequence) if got is not None and ours else None

    async def _by_id(self, log: Log, id: str, deadline: float) -> Stored | None:
        """Return the message with an id. One that left its queue leaves the stream as well."""
        subjects = self._names.any_topic(log.hash, id)
        got = await newest(self._link, log.stream, subjects, log.direct, deadline)
        if got is None:
            return None
        if log.kind is Kind.QUEUE:
            found = await self._fresh(log.name, deadline)
            if found is not None and got.sequence not in found[1].table.rows:
                await found[1].remove_now([got.sequence])
                return None
        return decode(self._names, log.hash, got.subject, got.sequence, got.headers, got.data)

    async def _room(self, log: Log, count: int, limit: int, deadline: float) -> int:
        """Return after which sequence ``count`` messages have room in a queue."""
        found = await self._queue(log.name, deadline)
        if found is None:
            raise NotStarted(f"Log {log.name!r}")
        last = await found[1].sync(deadline)
        depth = found[1].table.depth
        if depth + count > limit:
            raise QueueFull(log.name, depth, limit)
        return last

    async def _publish(
        self, work: _Append, items: Sequence[_Item], expected: int | None, deadline: float
    ) -> list[int]:
        """Store messages; return their sequences."""
        log = work.log
        packets, own = self._packets(work, items, expected)
        try:
            stored = await self._send(log, packets, deadline)
        except BaseException:
            for ids in own:
                ids.difference_update(item.id for item in items)
            raise
        log.appended = max(log.appended, *stored)
        return stored

    def _packets(
        self, work: _Append, items: Sequence[_Item], expected: int | None
    ) -> tuple[list[Packet], list[set[str]]]:
        """Return messages as they are sent, and where it was noted that they come from here."""
        log, at = work.log, self._stamp()
        packets: list[Packet] = []
        for item in items:
            subject, headers = encode(
                self._names, log.hash, item.draft, item.id, at, work.standing(item.index)
            )
            # The server remembers these for a while: what was stored, worked off and removed before its
            # answer came is not stored again.
            headers[MESSAGE_ID] = f"{work.name}.{item.index}"
            size = size_of(subject, headers, item.draft.body)
            if size > self._link.max_payload:
                what = "the message as the server counts it (its max_payload is the limit)"
                raise PayloadTooLarge(size, self._link.max_payload, what)
            packets.append(Packet(subject, item.draft.body, headers))
        if expected is not None:
            packets[0].headers[EXPECT_LAST] = str(expected)
        own = [log.own] if log.tail is not None else []
        if log.mirror is not None:
            own.append(log.mirror.own)
        for ids in own:
            ids.update(item.id for item in items)
        return packets, own

    async def _send(self, log: Log, packets: Sequence[Packet], deadline: float) -> list[int]:
        unsure = False
        while True:
            try:
                answer = await self._link.publish(packets, deadline=deadline, write="an append")
                unsure |= answer.repeated
                last = int(check(from_json(answer.message.data), self.url)["seq"])
                return list(range(last - len(packets) + 1, last + 1))
            except Nobody as nobody:
                unsure |= nobody.repeated
                await until_ready(self._link, log.stream, deadline, "an append" if unsure else None)
            except Stale:
                raise _Again(unsure) from None
            except Repeated:
                # All were stored by an earlier try. Each alone is told its place; what others of that try
                # lay between them may be gone.
                return [(await self._send(log, [packet], deadline))[0] for packet in packets]


def _check_same(log: str, there: Stored | Draft, new: Draft) -> None:
    """Refuse one message under the id of another."""
    if there.type != new.type or there.body != new.body:
        raise MessageConflict(log, "id", new.id or there.id or "")


def _check_number(drafts: Sequence[Draft]) -> None:
    if len(drafts) > MAX_BATCH:
        rule = f"a server takes at most {MAX_BATCH} messages whole or not at all; write fewer at once"
        raise InvalidOption("drafts", len(drafts), rule)
