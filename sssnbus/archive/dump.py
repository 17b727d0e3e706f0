"""From a store to records."""

import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar

from sssnbus.archive.form import FORMAT, Damaged, message_record, value_parts
from sssnbus.clock import Clock
from sssnbus.delivery.cursor import Progress
from sssnbus.errors import InvalidOption, MissingAbility
from sssnbus.stored import Stored
from sssnbus.stores.base import (
    DEAD,
    ByID,
    Catalogue,
    Kind,
    LogInfo,
    LogStore,
    Portable,
    QueueStore,
    Record,
    Records,
    Standing,
    State,
)

T = TypeVar("T")

_PAGE: Final = 512
"""Messages that are in memory at a time, at most; fewer when they are large."""

_PAGE_BYTES: Final = 4 * 1024 * 1024
"""What a page of them should stay below."""

_NEW: Final = Standing(State.READY)

PLACES: Final = ("subscription", "reader", "channel")
"""What is before the colon in the spaces that belong to one channel."""


async def dump(store: LogStore, clock: Clock, channels: Iterable[str] = ()) -> AsyncIterator[dict[str, Any]]:
    """Yield the whole store, or some of its channels, as records of JSON values.

    It holds what was there when it began. Others may write meanwhile: what they add is left out, and what
    they remove before it was read is missing. A message that is moved meanwhile, to other channels or to
    the dead letters, is in the dump once or twice, with one id. Dedupe keys are not dumped.

    Raises:
        InvalidOption: The store has no channel of one of the names.
        MissingAbility: The store cannot list its channels.
    """
    if not isinstance(store, Catalogue):
        raise MissingAbility("dump", store.url, ["Catalogue"])
    wanted = list(dict.fromkeys(channels))
    kinds = {info.name: info.kind for info in await store.logs()}
    for name in wanted:
        if name not in kinds:
            raise InvalidOption("channel", name, "the store has no channel of that name")
    run = _Run(store, set(wanted) or None)
    # Places before ends: a place beyond the last message dumped would skip what comes after it.
    spaces = await run.read_spaces(wanted or kinds)
    usage = await store.usage()
    chosen = {name: kinds[name] for name in wanted or kinds}
    ends = await store.last([log for name in chosen for log in (name, name + DEAD)])
    yield {
        "sssnbus": "dump",
        "format": FORMAT,
        # The front door stands above us, but whoever came here has passed it.
        "version": getattr(sys.modules.get("sssnbus"), "__version__", None),
        "time": datetime.fromtimestamp(clock.time(), UTC).isoformat(),
        "store": store.url,
    }
    for name, kind in chosen.items():
        settings = spaces.get(f"channel:{name}", {})
        yield run.channel(name, kind, settings)
        places = _Places(name, spaces)
        for log in (name, name + DEAD):
            async for record in run.messages(log, kind, ends[log], places if log == name else None):
                yield record
        for record in places.records():
            run.damaged += "damaged" in record
            yield record
    async for record in run.moved(usage.last_id):
        yield record
    if not wanted:
        for space in sorted(spaces):
            if space.partition(":")[0] not in PLACES:
                for name, kept in sorted(spaces[space].items()):
                    yield {"record": name, "space": space, **value_parts(kept.value)}
    yield {"end": True, "channels": run.channels, "messages": run.dumped, "damaged": run.damaged}


class _Page(NamedTuple):
    items: list[tuple[Stored, Standing]]
    end: int
    """Up to where the log was read."""


@dataclass
class _Run:
    """One dump on its way."""

    store: LogStore
    only: Collection[str] | None
    kinds: dict[str, Kind] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    channels: int = 0
    dumped: int = 0
    damaged: int = 0
    limit: int = 8
    """Messages in the next page."""

    async def read_spaces(self, channels: Iterable[str]) -> dict[str, dict[str, Record]]:
        store = self.store
        if not isinstance(store, Records):
            return {}
        names = [f"{place}:{channel}" for channel in channels for place in PLACES]
        if isinstance(store, Portable):
            there = await store.spaces()
            names = [space for space in there if space in set(names) or space.partition(":")[0] not in PLACES]
        return {space: await store.names(space) for space in names}

    def channel(self, name: str, kind: Kind, settings: dict[str, Record]) -> dict[str, Any]:
        self.channels += 1
        self.kinds[name] = kind
        record: dict[str, Any] = {"channel": name, "kind": kind.value}
        if settings:
            record["settings"] = {key: kept.value.decode() for key, kept in sorted(settings.items())}
        return record

    async def messages(
        self, log: str, kind: Kind, upto: int, places: "_Places | None" = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages of a log from where it was left, up to a sequence."""
        name = log.removesuffix(DEAD)
        is_queue = kind is Kind.QUEUE and name == log
        after = self.reached.get(log, 0)
        while after < upto:
            page = await self._page(log, is_queue, after, upto)
            for stored, standing in page.items:
                try:
                    record = message_record(name, name != log, stored, standing)
                except Damaged as exc:
                    self.damaged += 1
                    yield _damaged(name, name != log, stored, str(exc))
                    continue
                if places is not None:
                    places.passed(stored.sequence, stored.id)
                self.dumped += 1
                yield record
            after = page.end
        self.reached[log] = max(upto, self.reached.get(log, 0))

    async def _page(self, log: str, is_queue: bool, after: int, upto: int) -> "_Page":
        store = self.store
        messages = (await store.read(log, after=after, limit=self.limit, upto=upto)).messages
        end = messages[-1].sequence if messages else upto
        size = sum(len(stored.body) for stored in messages)
        # A page follows the sizes of the one before: one message may have as much as 10 MiB.
        if size > _PAGE_BYTES:
            self.limit = max(1, self.limit // 4)
        elif size < _PAGE_BYTES // 4:
            self.limit = min(_PAGE, self.limit * 2)
        if not (is_queue and isinstance(store, QueueStore)):
            return _Page([(stored, _NEW) for stored in messages], end)
        standings = await store.standing(log, [stored.sequence for stored in messages])
        items = []
        for stored in messages:
            standing = standings.get(stored.sequence)
            if standing is None and await self._is_there(log, stored):
                # Its state is lost, in a damaged file; the message is worth keeping all the same.
                standing = _NEW
            if standing is not None:
                items.append((stored, standing))
        return _Page(items, end)

    async def _is_there(self, log: str, stored: Stored) -> bool:
        store = self.store
        there = await store.find(log, stored.id) if isinstance(store, ByID) else None
        return there is not None and there.sequence == stored.sequence

    async def moved(self, last_id: str | None) -> AsyncIterator[dict[str, Any]]:
        """Yield what was there at the beginning, but was moved on before it was read."""
        again = True
        while again:
            again = False
            for info in await self._chosen():
                for log in (info.name, info.name + DEAD):
                    upto = (await self.store.last([log]))[log]
                    async for record in self.messages(log, info.kind, upto):
                        id = record.get("message") or record["damaged"]
                        if last_id is not None and _is_stamp(id):
                            if id > last_id:
                                self._uncount(record)
                                continue
                            # Only these: ids that writers give do not tell their age, and go on for ever.
                            again = True
                        if info.name not in self.kinds:
                            yield self.channel(info.name, info.kind, {})
                        yield record

    async def _chosen(self) -> list[LogInfo]:
        assert isinstance(self.store, Catalogue), "it was checked"
        infos = await self.store.logs()
        return [info for info in infos if self.only is None or info.name in self.only]

    def _uncount(self, record: dict[str, Any]) -> None:
        self.dumped -= "message" in record
        self.damaged -= "damaged" in record


class _Places:
    """The places of a channel's subscribers and readers, told by ids: sequences differ between stores."""

    def __init__(self, channel: str, spaces: dict[str, dict[str, Record]]) -> None:
        self._channel = channel
        self._broken: list[str] = []
        self._subscriptions = self._read(spaces.get(f"subscription:{channel}", {}), Progress.from_bytes)
        self._readers = self._read(spaces.get(f"reader:{channel}", {}), int)
        self._after: dict[tuple[str, str], str] = {}
        self._wanted = {n for p in self._subscriptions.values() for n in (*p.attempts, *p.done)}
        self._ids: dict[int, str] = {}

    def _read(self, records: dict[str, Record], read: Callable[[bytes], T]) -> dict[str, T]:
        found = {}
        for name, kept in sorted(records.items()):
            try:
                found[name] = read(kept.value)
            except (ValueError, TypeError, KeyError, AttributeError):
                self._broken.append(name)
        return found

    def passed(self, sequence: int, id: str) -> None:
        """Note a message on its way into the dump."""
        for name, progress in self._subscriptions.items():
            if sequence <= progress.position:
                self._after["subscription", name] = id
        for name, position in self._readers.items():
            if sequence <= position:
                self._after["reader", name] = id
        if sequence in self._wanted:
            self._ids[sequence] = id

    def records(self) -> Iterable[dict[str, Any]]:
        """Yield the places, now that all messages have passed."""
        for name, progress in self._subscriptions.items():
            after = self._after.get(("subscription", name))
            record: dict[str, Any] = {"subscription": name, "channel": self._channel, "after": after}
            ids = self._ids
            # What was tried or done and is gone since needs no place any more.
            attempts = {ids[n]: count for n, count in sorted(progress.attempts.items()) if n in ids}
            done = [ids[n] for n in progress.done if n in ids]
            yield record | ({"attempts": attempts} if attempts else {}) | ({"done": done} if done else {})
        for name in self._broken:
            yield {"damaged": name, "channel": self._channel, "place": True, "reason": "it cannot be read"}
        for name in self._readers:
            yield {"reader": name, "channel": self._channel, "after": self._after.get(("reader", name))}


def _damaged(name: str, dead: bool, stored: Stored, reason: str) -> dict[str, Any]:
    record: dict[str, Any] = {"damaged": stored.id, "channel": name}
    if dead:
        record["dead"] = True
    return record | {"sequence": stored.sequence, "reason": reason}


def _is_stamp(id: str) -> bool:
    return len(id) == 19 and id.isdecimal()
