"""Sending messages to the stream of a log, which takes them all or none."""

from collections.abc import Iterable, Sequence

from pydantic_core import from_json

from sssnbus.errors import OutcomeUnknown, PayloadTooLarge
from sssnbus.stored import Draft
from sssnbus.stores.base import Standing
from sssnbus.stores.nats.failure import NOT_SENT, Nobody, Repeated, Stale, check
from sssnbus.stores.nats.link import Packet
from sssnbus.stores.nats.logbook import Log
from sssnbus.stores.nats.message import EXPECT_LAST, MESSAGE_ID, encode, size_of
from sssnbus.stores.nats.plan import Item, Plans, Work
from sssnbus.stores.nats.waiting import until_ready


class Again(Exception):
    """Somebody wrote first, or this very append did when its answer was lost."""

    def __init__(self, repeated: bool) -> None:
        self.repeated = repeated


class Sending(Plans):
    """Stores what was planned, in one step."""

    def _write_name(self) -> str:
        """Return what tells an append from others with the same ids, also when its messages are gone."""
        return f"{self.owner}-{next(self._writes)}"

    async def _publish(
        self, work: Work, items: Sequence[Item], expected: int | None, deadline: float
    ) -> list[int]:
        """Store messages; return their sequences."""
        log, at = work.log, self._stamp()
        packets = [
            self._packet(log, item.draft, item.id, f"{work.name}.{item.index}", at, work.standing(item.index))
            for item in items
        ]
        if expected is not None:
            packets[0].headers[EXPECT_LAST] = str(expected)
        ids = [item.id for item in items]
        own = self._coming(log, ids)
        try:
            stored = await self._send(log, packets, deadline)
        except BaseException:
            for each in own:
                each.difference_update(ids)
            raise
        log.stored(ids, max(stored))
        return stored

    def _packet(
        self, log: Log, draft: Draft, id: str, name: str, at: float | None, standing: Standing | None
    ) -> Packet:
        """Return a message as it is sent; the server remembers its name for a while.

        So what was stored, worked off and removed before its answer came is not stored again.
        """
        subject, headers = encode(self._names, log.hash, draft, id, at, standing)
        headers[MESSAGE_ID] = name
        size = size_of(headers, draft.body)
        if size > self._link.max_payload:
            what = "the message as the server counts it (its max_payload is the limit)"
            raise PayloadTooLarge(size, self._link.max_payload, what)
        return Packet(subject, draft.body, headers)

    def _coming(self, log: Log, ids: Iterable[str]) -> list[set[str]]:
        """Note that messages will come from here; return where that was noted."""
        own = [log.own] if log.mirror is None else [log.own, log.mirror.own]
        for each in own:
            each.update(ids)
        return own

    async def _send(
        self, log: Log, packets: Sequence[Packet], deadline: float, unsure: bool = False
    ) -> list[int]:
        while True:
            try:
                answer = await self._link.publish(packets, deadline=deadline, write="an append")
                unsure |= answer.repeated
                last = int(check(from_json(answer.message.data), self.url)["seq"])
                return list(range(last - len(packets) + 1, last + 1))
            except Nobody as nobody:
                unsure |= nobody.repeated
                await until_ready(self._link, log.stream, deadline, "an append" if unsure else None)
            except NOT_SENT as error:
                if unsure:
                    raise OutcomeUnknown(self.url, "an append") from error
                raise
            except Stale:
                raise Again(unsure) from None
            except Repeated:
                # All were stored by an earlier try. Each alone is told its place; what others of that try
                # lay between them may be gone.
                return [(await self._send(log, [packet], deadline, True))[0] for packet in packets]
