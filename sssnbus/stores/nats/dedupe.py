"""Dedupe keys: records that stand for a message for a while, and outlive it.

A key is taken first, with the id that its message will have; then the message is stored; then the key is
told its place. A writer that was interrupted in between leaves a key without a place: whoever comes with it
next looks for the id, and if there is no such message stores it under just that id.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from sssnbus.errors import BusError, MessageConflict
from sssnbus.stored import Dedupe
from sssnbus.stores.base import Placed
from sssnbus.stores.nats.failure import Absent
from sssnbus.stores.nats.fetch import newest
from sssnbus.stores.nats.logbook import Log, Logbook

_log = logging.getLogger(__name__)


class Reserved(NamedTuple):
    """A key that was taken for a message to come."""

    subject: str
    version: int
    id: str
    dedupe: Dedupe
    until: float


class Keys(Logbook):
    """Takes dedupe keys, and gives them up."""

    async def _reserve(self, log: Log, dedupe: Dedupe, id: str, deadline: float) -> Placed | Reserved:
        """Take a key, or return where the message is that it stands for."""
        subject = self._names.key(log.hash, log.incarnation, dedupe.key)
        while True:
            got = await newest(self._link, self._names.records, subject, self._direct, deadline)
            if got is not None:
                known: dict[str, Any] = from_json(got.data)
                if known["until"] > self._elapsed():
                    if known["digest"] != dedupe.digest.hex():
                        raise MessageConflict(log.name, "dedupe key", dedupe.key)
                    place = await self._place_of(log, known, deadline)
                    if place is not None:
                        return place
                    return Reserved(subject, got.sequence, known["id"], dedupe, known["until"])
            until = self._elapsed() + dedupe.seconds
            value = _value(dedupe, id, None, until)
            version = None if got is None else got.sequence
            taken = await self._put(subject, value, version, lifetime=self._lifetime(dedupe.seconds))
            if taken is not None:
                return Reserved(subject, taken, id, dedupe, until)

    async def _keep_keys(self, placed: Sequence[tuple[Reserved, Placed]], log: Log) -> None:
        """Tell keys where their messages are."""
        if not placed:
            return
        try:
            await asyncio.gather(*(self._keep(key, place) for key, place in placed))
        except BusError as error:
            # The message is stored, and its id leads to it.
            _log.warning("A dedupe key of %r was not told where its message is: %s", log.name, error)

    async def _keep(self, key: Reserved, place: Placed) -> None:
        value = _value(key.dedupe, place.id, place.sequence, key.until)
        lifetime = self._lifetime(key.until - self._elapsed())
        if await self._put(key.subject, value, key.version, lifetime=lifetime) is None:
            # Another writer who came with it may have given it up; if not, it is told its place already.
            await self._put(key.subject, value, None, lifetime=lifetime)

    async def _give_up_keys(self, keys: Iterable[Reserved]) -> None:
        """Free keys whose message was refused, unless another writer has used them since.

        One that stays is as good: it leads nowhere.
        """
        for key in keys:
            body = {"seq": key.version, "no_erase": True}
            try:
                await self._link.api(
                    f"STREAM.MSG.DELETE.{self._names.records}", body, deadline=self._deadline()
                )
            except Absent:
                continue
            except BusError as error:
                _log.debug("A dedupe key was not given up: %s", error)
                return

    async def _place_of(self, log: Log, known: dict[str, Any], deadline: float) -> Placed | None:
        if known["place"] is not None:
            return Placed(known["id"], known["place"], True)
        subjects = self._names.any_topic(log.hash, known["id"])
        got = await newest(self._link, log.stream, subjects, log.direct, deadline)
        return None if got is None else Placed(known["id"], got.sequence, True)

    def _lifetime(self, seconds: float) -> float | None:
        """Return how long the server keeps a key; for ever if its clock is not the one that counts."""
        return seconds if self._given_clock is None else None


def _value(dedupe: Dedupe, id: str, place: int | None, until: float) -> bytes:
    return to_json({"digest": dedupe.digest.hex(), "id": id, "place": place, "until": until})
