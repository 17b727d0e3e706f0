"""The record of a durable subscription: where it stands, what it has tried, and who owns it.

The record changes by compare-and-set only, so of two owners the second change fails, whatever happened
in between. Attempts are saved before the handler runs: a message that kills its process is counted too.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from sssnbus.clock import Clock
from sssnbus.delivery.record import understood
from sssnbus.delivery.shield import complete, insist
from sssnbus.errors import ClosedError, OutcomeUnknown, SubscriptionInUse, SubscriptionLost
from sssnbus.stores.base import Record, Records

log = logging.getLogger("sssnbus")

_STANDBY: Final = 0.25
"""How often, in seconds, a subscription on standby asks whether its turn has come."""

_live: set[str] = set()
"""Who owns a subscription in this process now: a name recorded but not here has left without a word."""


def space(channel: str) -> str:
    """Return the name space that keeps a channel's subscriptions."""
    return f"subscription:{channel}"


@dataclass
class Progress:
    """What the store remembers of a subscription."""

    position: int
    """Everything up to here is done."""
    attempts: dict[int, int] = field(default_factory=dict)
    """How often each unfinished message above the position was begun."""
    done: list[int] = field(default_factory=list)
    """What is done above the position, in order."""
    owner: str | None = None

    def to_bytes(self) -> bytes:
        """Return the form in which it is kept."""
        return json.dumps(self.__dict__, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> "Progress":
        """Return what ``to_bytes`` wrote."""
        kept = json.loads(value)
        attempts = {int(sequence): int(count) for sequence, count in kept["attempts"].items()}
        owner = kept["owner"]
        done = [int(sequence) for sequence in kept["done"]]
        return cls(int(kept["position"]), attempts, done, None if owner is None else str(owner))


class Cursor:
    """One owner's hold on the record of a durable subscription."""

    def __init__(self, store: Records, channel: str, name: str, clock: Clock) -> None:
        self.channel = channel
        self.name = name
        self._store = store
        self.clock = clock
        self._owner = f"{store.owner}#{uuid4().hex}"
        self._version: int | None = None
        self._progress = Progress(0)
        self._open: set[int] = set()
        self._dirty = False
        self._saving = asyncio.Lock()
        self._asked = self._saved = 0
        self._doubts: set[bytes] = set()
        """What was written last without an answer: one of these may be the record."""

    @property
    def position(self) -> int:
        """The sequence up to which everything is done."""
        return self._progress.position

    async def load(self) -> int | None:
        """Return the recorded position, or None if there is no record yet."""
        record = await self._store.get(space(self.channel), self.name)
        return None if record is None else _progress(self.channel, self.name, record).position

    async def acquire(self, start: int, *, standby: bool, ended: Callable[[], bool] = lambda: False) -> None:
        """Become the owner; ``start`` counts only if there is no record yet.

        Raises:
            SubscriptionInUse: it has a live owner, and ``standby`` is False.
        """
        while True:
            record = await self._store.get(space(self.channel), self.name)
            if record is None:
                self._progress = Progress(start)
            else:
                self._progress = _progress(self.channel, self.name, record)
            if await self._free(self._progress.owner):
                self._version = None if record is None else record.version
                if await self._take():
                    return
            elif not standby:
                raise SubscriptionInUse(self.channel, self.name)
            else:
                await self.clock.sleep(_STANDBY)
                if ended():
                    raise ClosedError(f"Subscription {self.name!r}")

    async def begin(self, sequence: int) -> int:
        """Record that a message is about to be handled; return which attempt this is.

        Raises:
            SubscriptionLost: somebody else owns the subscription now.
        """
        attempts = self._progress.attempts
        attempts[sequence] = attempts.get(sequence, 0) + 1
        self._open.add(sequence)
        await insist(self._save, self.clock)
        return attempts[sequence]

    def finished(self, sequence: int) -> bool:
        """Return whether a message needs no handling any more."""
        return sequence <= self._progress.position or sequence in self._progress.done

    def finish(self, sequence: int, reached: int) -> None:
        """Note that a message is done, and that all up to ``reached`` has come here for handling.

        The note is saved with the next ``begin`` or ``save``.
        """
        if sequence not in self._open:
            # It was moved elsewhere while this was handled; that it is done is of the time before.
            return
        progress = self._progress
        progress.attempts.pop(sequence, None)
        self._open.discard(sequence)
        for gone in [n for n in progress.attempts if n <= reached and n not in self._open]:
            # Tried by an owner before us and since removed from the channel: it will never come.
            del progress.attempts[gone]
        unfinished = min(progress.attempts, default=reached + 1)
        if sequence > unfinished:
            progress.done.append(sequence)
        progress.position = max(progress.position, min(reached, unfinished - 1))
        progress.done = sorted(n for n in progress.done if n > progress.position)
        self._dirty = True

    def reached(self, sequence: int) -> None:
        """Note that nothing up to ``sequence`` is left to handle."""
        progress = self._progress
        if sequence > progress.position and not self._open:
            # What lies above was tried by an owner before us, or is done already.
            attempts = {n: count for n, count in progress.attempts.items() if n > sequence}
            done = [n for n in progress.done if n > sequence]
            self._progress = Progress(sequence, attempts, done, progress.owner)
            self._dirty = True

    async def save(self) -> None:
        """Save what ``finish`` has noted, if anything."""
        if self._dirty:
            await insist(self._save, self.clock)

    async def move(self, position: int) -> None:
        """Set the position, in either direction, and forget what was tried."""
        self._progress.position = position
        self._progress.attempts.clear()
        self._progress.done.clear()
        self._open.clear()
        await self._save()

    async def release(self) -> None:
        """Save the position and give up the ownership, if it was ever had."""
        if self._owner not in _live:
            return
        self._progress.owner = None
        try:
            await self._save()
        except SubscriptionLost:
            log.debug("Subscription %r was lost before it was given up.", self.name)
        finally:
            _live.discard(self._owner)

    def interrupt(self, sequence: int) -> None:
        """Take back the attempt: the message was not handled, and that is nobody's failure."""
        # It stays listed and open, even with no attempt, because the position must not pass it.
        self._progress.attempts[sequence] = max(0, self._progress.attempts.get(sequence, 0) - 1)
        self._dirty = True

    async def _free(self, owner: str | None) -> bool:
        if owner is None:
            return True
        store, _, _ = owner.partition("#")
        if store == self._store.owner:
            return owner not in _live
        return not await self._store.alive(store)

    async def _take(self) -> bool:
        self._progress.owner = self._owner
        _live.add(self._owner)
        try:
            await self._save()
        except SubscriptionLost:
            _live.discard(self._owner)
            return False
        return True

    async def _save(self) -> None:
        """Write the record; changes made while a write is under way go together in the next one."""
        self._dirty = False
        self._asked = mine = self._asked + 1
        async with self._saving:
            if self._saved < mine:
                # A cancelled write may have happened, and then only its answer knows the new version.
                await complete(self._put())

    async def _put(self) -> None:
        saving, value, place = self._asked, self._progress.to_bytes(), space(self.channel)
        try:
            version = await self._store.put(place, self.name, value, version=self._version)
            if version is None and self._doubts:
                record = await self._store.get(place, self.name)
                if record is not None and record.value in self._doubts:
                    version = await self._store.put(place, self.name, value, version=record.version)
        except OutcomeUnknown:
            self._doubts.add(value)
            raise
        if version is None:
            raise SubscriptionLost(self.channel, self.name)
        self._version, self._saved = version, saving
        self._doubts.clear()


def position_of(channel: str, name: str, record: Record) -> tuple[int, str | None]:
    """Return the position and the owner that a subscription's record holds."""
    progress = _progress(channel, name, record)
    return progress.position, progress.owner


def _progress(channel: str, name: str, record: Record) -> Progress:
    what = f"The place of the durable subscription {name!r} of channel {channel!r}"
    remedy = f"Give it up with forget({name!r}), and subscribe anew from where you want it to go on."
    return understood(record.value, Progress.from_bytes, what, remedy)
