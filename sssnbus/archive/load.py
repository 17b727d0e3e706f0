"""From records to a store."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from sssnbus.archive.form import FORMAT, Unfit, item_of, value_of
from sssnbus.delivery.cursor import Progress
from sssnbus.delivery.cursor import space as subscription_space
from sssnbus.errors import (
    ChannelKindMismatch,
    InvalidDump,
    MessageConflict,
    MissingAbility,
    UsageError,
)
from sssnbus.stored import Draft, check_name
from sssnbus.stores.base import (
    DEAD,
    ByID,
    Catalogue,
    Kind,
    LogStore,
    Placed,
    Portable,
    Records,
    Standing,
    State,
)

_BATCH: Final = 500
"""Messages that are stored in one step, at most."""

_BATCH_BYTES: Final = 4 * 1024 * 1024

Refuse = Callable[[int, str], object]
"""Is told the number of a line, from 1, and why it was not taken in."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of loading a dump."""

    channels: int = 0
    """Channels that the dump names."""
    messages: int = 0
    """Messages that were added, dead letters included."""
    duplicates: int = 0
    """Messages that were there already."""
    places: int = 0
    """Places of subscriptions and readers, settings and other records that were added."""
    kept: int = 0
    """Those that are another in the store already; they stay as they are there."""
    refused: int = 0
    """Lines that could not be taken in."""
    damaged: int = 0
    """Messages and places that were damaged when the dump was made, and are not in it."""


async def load(
    store: LogStore,
    records: AsyncIterable[object] | Iterable[object],
    *,
    refuse: Refuse | None = None,
    added: Callable[[], object] = lambda: None,
) -> Loaded:
    """Take the records of a dump into a store, and return what came of it.

    Messages keep their ids and get sequences of their own, at the end of their channels. They are stored in
    batches, each in one step. What is there already stays as it is, so a load that was interrupted is
    completed by another. A message that was consumed since is loaded again.

    Args:
        store: Where they go.
        records: Mappings as ``dump`` yields them, or their lines of JSON as text or bytes.
        refuse: Called for each line that cannot be taken in; the others are. Without it, the first raises.
        added: Called when a batch of messages has been stored.

    Raises:
        InvalidDump: The records do not begin as a dump does; or a line cannot be taken in, or the end is
            missing, and there is no ``refuse``. Lines before it may have been taken in.
        MissingAbility: The store cannot hold what is in a dump.
    """
    if not (isinstance(store, Catalogue) and isinstance(store, ByID)):
        raise MissingAbility("load", store.url, ["Catalogue", "ByID"])
    run = _Run(store, refuse, added)
    number = 0
    async for number, record in _numbered(records):
        if number == 1:
            _check_header(record)
        else:
            await run.take(number, record)
    if number == 0:
        raise InvalidDump(1, "there is nothing")
    await run.flush()
    if not run.ended:
        run.refuse(number + 1, "the dump ends here, before its end: it was cut short")
    return run.loaded


async def _numbered(records: AsyncIterable[object] | Iterable[object]) -> "AsyncIterable[tuple[int, object]]":
    number = 0
    if isinstance(records, AsyncIterable):
        async for record in records:
            number += 1
            yield number, record
        return
    for number, record in enumerate(records, 1):
        yield number, record


def _check_header(record: object) -> None:
    try:
        header = _parsed(record)
    except Unfit:
        header = {}
    if header.get("sssnbus") != "dump":
        raise InvalidDump(1, "this is not the beginning of a dump; make one with 'sssnbus dump'")
    if type(form := header.get("format")) is not int or form > FORMAT:
        rule = f"its format is {form!r:.20} and this program knows up to {FORMAT}; upgrade sssnbus"
        raise InvalidDump(1, rule)


def _parsed(record: object) -> Mapping[str, Any]:
    if isinstance(record, str | bytes):
        try:
            record = from_json(record, allow_inf_nan=False)
        except ValueError as exc:
            raise Unfit("it is not JSON: the line was changed or damaged") from exc
    if not isinstance(record, Mapping):
        raise Unfit("it is not an object")
    return record


class _Item(NamedTuple):
    """A message that waits to be stored."""

    line: int
    draft: Draft
    standing: Standing


class _Run:
    """One load on its way."""

    def __init__(self, store: LogStore, refuse: Refuse | None, added: Callable[[], object]) -> None:
        self._store, self._refuse, self._added = store, refuse, added
        self.loaded = Loaded()
        self.ended = False
        self._kinds: dict[str, Kind] = {}
        self._log = ""
        self._batch: list[_Item] = []
        self._size = 0
        self._seen = 0
        """Lines that are messages, fit or not."""
        self._first: dict[str, int] = {}
        """The first sequence that a message of this dump has in the channel at hand."""

    def refuse(self, number: int, reason: str) -> None:
        """Count a line that cannot be taken in, and tell of it."""
        if self._refuse is None:
            raise InvalidDump(number, reason)
        self._count(refused=1)
        self._refuse(number, reason)

    async def take(self, number: int, line: object) -> None:
        """Take in one record."""
        try:
            record = _parsed(line)
            if self.ended:
                raise Unfit("it stands behind the end of the dump")
            if "message" in record:
                self._seen += 1
                await self._message(number, record)
                return
            await self.flush()
            await self._other(record)
        except InvalidDump:
            raise
        except UsageError as exc:
            self.refuse(number, str(exc))

    async def _other(self, record: Mapping[str, Any]) -> None:
        if "end" in record:
            self.ended = True
            if record.get("messages", self._seen) != self._seen:
                raise Unfit(
                    f"the dump was made with {record['messages']!r:.20} messages and {self._seen} are here"
                )
        elif "subscription" in record:
            await self._subscription(record)
        elif "reader" in record:
            channel = self._channel_of(record)
            place = str(await self._position(channel, record.get("after")))
            await self._put(f"reader:{channel}", record["reader"], place.encode())
        elif "record" in record:
            if not isinstance(record.get("space"), str):
                raise Unfit('"space" must be a text')
            await self._put(record["space"], record["record"], value_of(record))
        elif "damaged" in record:
            self._count(damaged=1)
        elif "channel" in record:
            await self._channel(record)
        else:
            raise Unfit("it is of no kind that a dump has")

    async def flush(self) -> None:
        """Store what is waiting."""
        batch, self._batch, self._size = self._batch, [], 0
        if batch:
            await self._add(self._log, batch)

    async def _channel(self, record: Mapping[str, Any]) -> None:
        name = check_name("channel name", record["channel"])
        try:
            kind = Kind(str(record.get("kind")))
        except ValueError:
            raise Unfit(f"there is no kind of channel {record.get('kind')!r:.80}") from None
        store = self._store
        assert isinstance(store, Catalogue), "it was checked"
        settings = record.get("settings", {})
        if not isinstance(settings, Mapping) or not all(isinstance(v, str) for v in settings.values()):
            raise Unfit('"settings" must be an object of texts')
        there = await store.declare(name, kind)
        if there is not kind:
            raise ChannelKindMismatch(name, there.value, kind.value)
        self._kinds[name] = kind
        self._first.clear()
        self._count(channels=1)
        for key, value in settings.items():
            await self._put(f"channel:{name}", key, value.encode())

    async def _message(self, number: int, record: Mapping[str, Any]) -> None:
        log = self._channel_of(record) + (DEAD if record.get("dead") is True else "")
        draft, standing = item_of(log, record)
        if log != self._log:
            await self.flush()
            self._log = log
        self._batch.append(_Item(number, draft, standing))
        self._size += len(draft.body) + len(draft.headers)
        if len(self._batch) >= _BATCH or self._size >= _BATCH_BYTES:
            await self.flush()

    async def _add(self, log: str, batch: list[_Item]) -> None:
        try:
            placed = await self._restore(log, batch)
        except MessageConflict as exc:
            if len(batch) == 1:
                self.refuse(batch[0].line, str(exc))
                return
            # One of them; the others are to be stored all the same.
            for part in _halves(batch):
                await self._add(log, part)
            return
        if placed:
            self._first.setdefault(log, placed[0].sequence)
        duplicates = sum(place.duplicate for place in placed)
        self._count(messages=len(placed) - duplicates, duplicates=duplicates)
        self._added()

    async def _restore(self, log: str, batch: list[_Item]) -> list[Placed]:
        store = self._store
        if self._kinds.get(log) is Kind.QUEUE:
            if isinstance(store, Portable):
                return await store.restore(log, [(item.draft, item.standing) for item in batch])
            # Such a store cannot be told that a message is done, and must not have it done again.
            batch = [item for item in batch if item.standing.state is not State.DONE]
        return await store.append([item.draft for item in batch])

    async def _subscription(self, record: Mapping[str, Any]) -> None:
        channel = self._channel_of(record)
        position = await self._position(channel, record.get("after"))
        attempts, done = record.get("attempts", {}), record.get("done", [])
        if not isinstance(attempts, Mapping) or not isinstance(done, list):
            raise Unfit('"attempts" must be an object, and "done" a list')
        tried = {await self._sequence(channel, id): count for id, count in attempts.items()}
        finished = sorted([await self._sequence(channel, id) for id in done])
        if not all(type(count) is int for count in tried.values()):
            raise Unfit('"attempts" must hold whole numbers')
        progress = Progress(
            position,
            {n: count for n, count in tried.items() if n > position},
            [n for n in finished if n > position],
        )
        await self._put(subscription_space(channel), record["subscription"], progress.to_bytes())

    async def _position(self, channel: str, after: object) -> int:
        """Return the place behind a message, or before all messages of this dump."""
        if after is not None:
            return await self._sequence(channel, after)
        if channel in self._first:
            return self._first[channel] - 1
        return (await self._store.last([channel]))[channel]

    async def _sequence(self, channel: str, id: object) -> int:
        assert isinstance(self._store, ByID), "it was checked"
        stored = await self._store.find(channel, id) if isinstance(id, str) else None
        if stored is None:
            raise Unfit(f"its place is at the message {id!r:.80}, which is not in the channel")
        return stored.sequence

    async def _put(self, space: str, name: object, value: bytes) -> None:
        store = self._store
        if not isinstance(store, Records):
            raise MissingAbility("load", store.url, ["Records"])
        if not isinstance(name, str):
            raise Unfit("its name must be a text")
        if await store.put(space, name, value, version=None) is not None:
            self._count(places=1)
            return
        there = await store.get(space, name)
        self._count(kept=there is None or there.value != value)

    def _channel_of(self, record: Mapping[str, Any]) -> str:
        name = record.get("channel")
        if not isinstance(name, str) or name not in self._kinds:
            raise Unfit(f"its channel {name!r:.80} was not taken in, or is not in the dump before it")
        return name

    def _count(self, **more: int) -> None:
        loaded = self.loaded
        self.loaded = replace(loaded, **{name: getattr(loaded, name) + n for name, n in more.items()})


def _halves(batch: list[_Item]) -> Iterator[list[_Item]]:
    middle = len(batch) // 2
    yield batch[:middle]
    yield batch[middle:]
