"""Sending messages to the stream of a log, which takes them all or none."""

from collections.abc import Sequence

from pydantic_core import from_json

from sssnbus.errors import PayloadTooLarge
from sssnbus.stores.nats.failure import Nobody, Repeated, Stale, check
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
        log = work.log
        packets, own = self._packets(work, items, expected)
        try:
            stored = await self._send(log, packets, deadline)
        except BaseException:
            for ids in own:
                ids.difference_update(item.id for item in items)
            raise
        log.stored([item.id for item in items], max(stored))
        return stored

    def _packets(
        self, work: Work, items: Sequence[Item], expected: int | None
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
        own = [log.own]
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
                raise Again(unsure) from None
            except Repeated:
                # All were stored by an earlier try. Each alone is told its place; what others of that try
                # lay between them may be gone.
                return [(await self._send(log, [packet], deadline))[0] for packet in packets]
