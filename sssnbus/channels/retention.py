"""Keeping a broadcast channel's past within its bounds."""

import json
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

from sssnbus.clock import Clock
from sssnbus.delivery.record import understood
from sssnbus.errors import BusError
from sssnbus.settings import Retention
from sssnbus.stored import Draft
from sssnbus.stores.base import LogStore, Records

log = logging.getLogger("sssnbus")

T = TypeVar("T")

INTERVAL: Final = 1.0
"""How often the age of messages is looked at, in seconds."""


class Keeper:
    """Trims one channel as messages come in and as time goes by."""

    def __init__(self, channel: str, store: LogStore, retention: Retention, clock: Clock) -> None:
        self._channel, self._store, self._retention, self._clock = channel, store, retention, clock
        self._messages = self._bytes = 0

    def due(self, written: Sequence[Draft]) -> bool:
        """Count what was written; return whether it is time to trim."""
        # A tenth of slack makes trimming a rare event instead of a part of every write.
        count, most = self._retention.max_count, self._retention.max_bytes
        if count is not None:
            self._messages += len(written)
        if most is not None:
            self._bytes += sum(len(draft.body) for draft in written)
        return (count is not None and self._messages > count // 10) or (
            most is not None and self._bytes > most // 10
        )

    async def trim(self) -> None:
        """Remove what the bounds rule out. Trouble with the store is logged: it is tried again."""
        self._messages = self._bytes = 0
        age = self._retention.max_age
        try:
            await self._store.trim(
                self._channel,
                older_than=None if age is None else self._clock.time() - age.total_seconds(),
                max_count=self._retention.max_count,
                max_bytes=self._retention.max_bytes,
            )
        except BusError as error:
            log.warning("Channel %r could not be trimmed: %s", self._channel, error)

    async def run(self) -> None:
        """Trim on a schedule for as long as the task lives."""
        while True:
            await self._clock.sleep(INTERVAL)
            await self.trim()


def settings_space(channel: str) -> str:
    """Return the name space that keeps what all users of a channel share."""
    return f"channel:{channel}"


async def recorded(
    store: LogStore,
    channel: str,
    name: str,
    given: T | None,
    unsaid: T,
    to_bytes: Callable[[T], bytes],
    from_bytes: Callable[[bytes], T],
) -> T:
    """Return a setting that all processes share: what is given now, else what was given last.

    What is given is recorded; ``unsaid`` holds where nothing ever was.
    """
    if not isinstance(store, Records):
        return unsaid if given is None else given
    space = settings_space(channel)
    while True:
        record = await store.get(space, name)
        if given is None:
            what = f"The {name!r} of channel {channel!r}"
            remedy = "Give it anew where the channel is made."
            return unsaid if record is None else understood(record.value, from_bytes, what, remedy)
        value = to_bytes(given)
        if record is not None and record.value == value:
            return given
        version = None if record is None else record.version
        if await store.put(space, name, value, version=version) is not None:
            return given


async def recorded_retention(
    store: LogStore, channel: str, given: Retention | None, unsaid: Retention
) -> Retention:
    """Return a channel's retention: what is given now, else what was given last, else ``unsaid``."""
    return await recorded(store, channel, "retention", given, unsaid, _to_json, _from_json)


def _to_json(retention: Retention) -> bytes:
    age = retention.max_age
    seconds = None if age is None else age.total_seconds()
    parts = {"max_age": seconds, "max_count": retention.max_count, "max_bytes": retention.max_bytes}
    return json.dumps({name: part for name, part in parts.items() if part is not None}).encode()


def _from_json(value: bytes) -> Retention:
    parts = json.loads(value)
    if "max_age" in parts:
        parts["max_age"] = timedelta(seconds=parts["max_age"])
    return Retention(**parts)
