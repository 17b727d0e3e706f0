"""Appending: one message is one publish, several are one batch that the server takes whole or not at all.

The id is a word of the subject, and each message asks to be the first one on it. So the server itself keeps
ids unique. What has to be sent again because its answer was lost carries the same name as before, by which
the server knows it for two minutes.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from sssnbus.errors import (
    InvalidOption,
    MissingAbility,
    NotStarted,
    OutcomeUnknown,
    QueueFull,
    StoreTimeout,
)
from sssnbus.stored import Draft
from sssnbus.stores.base import Kind, Placed, Standing
from sssnbus.stores.life import Phase
from sssnbus.stores.loop import outlive
from sssnbus.stores.nats.failure import NOT_SENT, Missing
from sssnbus.stores.nats.link import place_in
from sssnbus.stores.nats.logbook import Log
from sssnbus.stores.nats.plan import Plan, Work
from sssnbus.stores.nats.sending import Again, Sending
from sssnbus.stores.nats.waiters import Promise, Told

MAX_BATCH: Final = 1000
"""Messages that a server takes as one."""

MAX_FLYING: Final = 1024
"""Appends that are on their way together; more wait for their turn."""


class Appends(Sending):
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
        deadline, name, id = self._deadline(), self._write_name(), draft.id or self._new_id()
        packet = self._packet(log, draft, id, f"{name}.0", self._stamp(), None)
        own = self._coming(log, [id])
        answer: Promise[Told] = Promise()
        cancelled: asyncio.CancelledError | None = None
        async with self._turns:
            self._link.begin(packet, deadline, answer.set_result)
            self._running.add(answer)
            try:
                await answer
            except asyncio.CancelledError as error:
                cancelled = error
            finally:
                self._running.discard(answer)
        place = place_in(answer.result())
        if not place:
            for ids in own:
                ids.discard(id)
            unsure = isinstance(answer.result(), Exception)
            ends = self._link.ending or self._link.refusal is not None or self._phase is not Phase.OPEN
            late = ends or asyncio.get_running_loop().time() > deadline
            if unsure and late and cancelled is None:
                raise self._link.no_answer("an append")
            if not (unsure and late):
                # Also for one who was cancelled: it has to be known what became of it.
                work = Work(log, [draft], name)
                work.look, work.repeated = True, unsure
                if draft.id is None:
                    work.ids[0] = id
                finishing = self._begin(self._finish, work, None, deadline)
                await outlive(finishing)
                if cancelled is None:
                    return finishing.result()[0]
                finishing.exception()
        if cancelled is not None:
            raise cancelled
        assert place, "anything else was raised"
        log.stored([id], place)
        return Placed(id, place)

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
        return await self._finish(Work(log, drafts, self._write_name(), standings), limit, deadline)

    async def _finish(self, work: Work, limit: int | None, deadline: float) -> list[Placed]:
        """Store what an append has not stored yet, and say where everything went."""
        log = work.log
        try:
            plan, stored = await self._try(work, limit, deadline)
        except (OutcomeUnknown, asyncio.CancelledError):
            # If a message is there, it is its key that keeps off another one when this is tried again.
            raise
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

    async def _try(self, work: Work, limit: int | None, deadline: float) -> tuple[Plan, list[int]]:
        """Return the plan that came true, and the sequences of the messages that it stored."""
        log = work.log
        while True:
            try:
                plan = await self._plan(work, deadline)
            except NOT_SENT as error:
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
            except NOT_SENT as error:
                if work.repeated:
                    raise OutcomeUnknown(self.url, "an append") from error
                raise
            except Again as again:
                work.look = True
                work.repeated |= again.repeated
            except Missing:
                self._forget(log)
                raise NotStarted(f"Log {log.name!r}") from None
            if asyncio.get_running_loop().time() > deadline:
                if work.repeated:
                    raise OutcomeUnknown(self.url, "an append")
                raise StoreTimeout("An append", self._link.timeout)

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


def _check_number(drafts: Sequence[Draft]) -> None:
    if len(drafts) > MAX_BATCH:
        rule = f"a server takes at most {MAX_BATCH} messages whole or not at all; write fewer at once"
        raise InvalidOption("drafts", len(drafts), rule)
