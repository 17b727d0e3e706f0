"""The catalogue: a log is a stream, and its metadata say what its name cannot."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from sssnbus.errors import ChannelKindMismatch, IncompatibleStore, MessageCorrupt, StoreReplaced
from sssnbus.stored import Stored
from sssnbus.stores.base import DEAD, Catalogue, Counts, Kind, LogInfo, News, Usage
from sssnbus.stores.nats import stream
from sssnbus.stores.nats.change import GONE
from sssnbus.stores.nats.failure import Missing
from sssnbus.stores.nats.fetch import on_subjects
from sssnbus.stores.nats.message import decode
from sssnbus.stores.nats.mirror import Mirror
from sssnbus.stores.nats.names import digest
from sssnbus.stores.nats.record import Hints
from sssnbus.stores.nats.tail import Tail
from sssnbus.stores.nats.wire import Incoming


@dataclass
class Log:
    """A declared log as this store knows it."""

    name: str
    kind: Kind
    hash: str
    stream: str
    incarnation: str
    direct: bool
    """Whether the server answers for single messages at once; in a cluster only the leader may."""
    mirror: Mirror | None = None
    tail: Tail | None = None
    followed: bool = False
    """Whether a tail brings its messages, or is about to."""
    own: set[str] = field(default_factory=set)
    """Ids of what is on its way from here, and of what may still come back by the tail."""
    appended: int = 0
    """The newest message that this store knows to be there."""
    fresh: list[Stored] = field(default_factory=list)
    """What the tail brought in this round of the loop."""

    def stored(self, ids: Iterable[str], last: int) -> None:
        """Take note that messages from here are stored, up to a sequence."""
        self.appended = max(self.appended, last)
        if not self.followed:
            self.own.difference_update(ids)

    def stop(self) -> None:
        """End what follows it."""
        self.followed = False
        self.own.clear()
        if self.tail is not None:
            self.tail.stop()
            self.tail = None


class Logbook(Hints, Catalogue):
    """Logs by name."""

    _logs: dict[str, Log]

    async def declare(self, log: str, kind: Kind) -> Kind:
        return await self._do(self._declare, log, kind)

    async def logs(self, prefix: str = "") -> list[LogInfo]:
        """Return the declared logs whose names start with ``prefix``, sorted by name.

        Sizes are what the server needs for them. A queue that this store has not used yet is counted by
        what lies in its stream, which may for a moment be more than it holds.
        """
        return await self._do(self._list, prefix)

    async def counts(self, log: str) -> Counts:
        return await self._do(self._counts, log)

    async def drop(self, log: str) -> None:
        await self._do(self._drop, log)

    async def vacuum(self, log: str | None = None, *, compact: bool = False) -> int:
        """Remove messages in state *done*, of one log or of all; return how many.

        It goes in steps, each a whole one. ``compact`` shortens the journals of queues; the server gives
        back the room of its files by itself.
        """
        return await self._do(self._vacuum, log, compact)

    async def usage(self) -> Usage:
        """Return what the store's streams take up. Ids follow a clock, so the newest one says nothing."""
        return Usage(None, await self._do(self._size))

    async def _size(self) -> int:
        infos = self._streams(self._deadline(), self._names.everything)
        return sum([int(info["state"]["bytes"]) async for info in infos])

    async def _declare(self, name: str, kind: Kind) -> Kind:
        deadline = self._deadline()
        log = await self._make(name, kind, deadline)
        if log.kind is Kind.QUEUE:
            # Also when it is there: its maker may have come no further.
            await self._make_journal(log, deadline)
        if "!" not in name:
            await self._make(name + DEAD, Kind.LOG, deadline)
        await self._follow(log)
        return log.kind

    async def _make(self, name: str, kind: Kind, deadline: float) -> Log:
        hash = digest(name)
        metadata = {
            "format": stream.FORMAT,
            "name": name,
            "kind": kind.value,
            "incarnation": token_hex(4),
        }
        names = self._names
        config = stream.messages(names.stream(hash), names.log(hash), metadata, self._settings.replicas)
        info = await stream.ensure(self._link, config, deadline)
        return self._remember(name, info)

    async def _make_journal(self, log: Log, deadline: float) -> None:
        names = self._names
        config = stream.journal(
            names.journal(log.hash, log.incarnation),
            names.entry(log.hash, log.incarnation),
            {"format": stream.FORMAT, "journal of": log.name},
            self._settings.replicas,
        )
        await stream.ensure(self._link, config, deadline)

    def _remember(self, name: str, info: dict[str, Any]) -> Log:
        config = info["config"]
        metadata = config.get("metadata") or {}
        if metadata.get("name") != name:
            raise IncompatibleStore(
                f"Stream {config['name']} of {self.url}",
                f"it belongs to {metadata.get('name')!r}, not {name!r}",
            )
        log = self._logs.get(name)
        if log is None or log.incarnation != metadata["incarnation"]:
            if log is not None:
                self._forget(log)
            log = self._logs[name] = Log(
                name,
                Kind(metadata["kind"]),
                digest(name),
                config["name"],
                metadata["incarnation"],
                bool(config.get("allow_direct")),
            )
        return log

    async def _log(self, name: str, deadline: float) -> Log | None:
        """Return a log if somebody has declared it."""
        known = self._logs.get(name)
        if known is not None:
            return known
        try:
            info = await self._link.api(f"STREAM.INFO.{self._names.stream(digest(name))}", deadline=deadline)
        except Missing:
            return None
        return self._remember(name, info)

    async def _queue(self, name: str, deadline: float) -> tuple[Log, Mirror] | None:
        """Return a declared queue with what this store knows of it."""
        log = await self._log(name, deadline)
        if log is None:
            return None
        if log.kind is not Kind.QUEUE:
            raise ChannelKindMismatch(name, log.kind, Kind.QUEUE)
        if log.mirror is None:
            log.mirror = Mirror(
                self._link,
                self._names,
                log.hash,
                log.incarnation,
                log.direct,
                lambda: self._tell(News(name, [])),
                lambda: self._forget(log),
                self._was_set_back,
                self._dead.__contains__,
                self._dead.difference_update,
            )
        await log.mirror.load(deadline)
        return log, log.mirror

    async def _fresh(self, name: str, deadline: float) -> tuple[Log, Mirror] | None:
        """Return a queue as it is now, whoever changed it last."""
        found = await self._queue(name, deadline)
        if found is not None:
            try:
                await found[1].sync(deadline)
            except Missing:
                self._forget(found[0])
                return None
            await self._look_for_dead(found[1], deadline)
        return found

    def _forget(self, log: Log) -> None:
        """Let go of a log that is not there any more, or not the same."""
        if self._logs.get(log.name) is log:
            del self._logs[log.name]
        log.stop()
        if log.mirror is not None:
            log.mirror.abandon()
            log.mirror = None
        self._tell()

    def _was_set_back(self) -> None:
        """Do nothing more: places that were seen are given again, or were."""
        self._link.refusal = StoreReplaced(self.url, "set back or replaced by another")
        self._tell()

    async def _follow(self, log: Log) -> None:
        """Hear of news in a log, if anybody wants to hear; a queue is followed when it is first used."""
        if not self._watchers or log.tail is not None or "!" in log.name:
            return
        if log.kind is Kind.QUEUE:
            await self._queue(log.name, self._deadline())
            return
        deadline = self._deadline()

        def take(message: Incoming, sequence: int, stamp: float) -> None:
            self._took(log, message, sequence)

        # Before the question for the end: what is on its way from here may lie behind that, and is no news.
        log.followed, tail = True, None
        try:
            info = await self._link.api(f"STREAM.INFO.{log.stream}", deadline=deadline)
            if log.tail is not None:
                return
            tail = log.tail = Tail(
                self._link,
                log.stream,
                int(info["state"]["last_seq"]),
                take,
                on_gap=self._tell,
                on_missing=lambda: self._forget(log),
                on_set_back=self._was_set_back,
                incarnation=log.incarnation,
            )
            await tail.start(deadline)
        except BaseException:
            # Or else it would be taken for one that brings news, and nobody would try again.
            if log.tail is tail:
                log.stop()
            raise
        # What came between the question for the end and now has to be looked for.
        self._tell()

    def _took(self, log: Log, message: Incoming, sequence: int) -> None:
        id = self._names.identified(message.subject)[0]
        if id in log.own:
            log.own.discard(id)
            return
        try:
            stored = decode(self._names, log.hash, message.subject, sequence, message.headers, message.data)
        except MessageCorrupt:
            # Who reads it is told.
            self._tell()
            return
        log.fresh.append(stored)
        if len(log.fresh) == 1:
            asyncio.get_running_loop().call_soon(self._hand_on, log)

    def _hand_on(self, log: Log) -> None:
        fresh, log.fresh = log.fresh, []
        self._tell(News(log.name, fresh))

    def _mirrors(self) -> list[Mirror]:
        return [log.mirror for log in self._logs.values() if log.mirror is not None]

    def _follow_soon(self) -> None:
        for log in tuple(self._logs.values()):
            self._link.spawn(self._follow(log), "follow")

    async def _streams(self, deadline: float, subjects: str = "") -> AsyncIterator[dict[str, Any]]:
        """Yield what the server knows of streams: of every log's unless other subjects are given."""
        offset, more = 0, True
        while more:
            body = {"subject": subjects or self._names.messages, "offset": offset}
            page = await self._link.api("STREAM.LIST", body, deadline=deadline)
            for info in page.get("streams") or ():
                yield info
            offset += int(page["limit"])
            more = offset < int(page["total"])

    async def _list(self, prefix: str) -> list[LogInfo]:
        deadline = self._deadline()
        found: list[LogInfo] = []
        floors = await self._floors(deadline)
        async for info in self._streams(deadline):
            metadata = info["config"].get("metadata") or {}
            name = metadata.get("name")
            if name is None or not name.startswith(prefix) or ("!" in name and "!" not in prefix):
                continue
            state, kind = info["state"], Kind(metadata["kind"])
            floor = floors.get(self._names.floor(digest(name), metadata["incarnation"]), 0)
            count, size = int(state["messages"]), int(state["bytes"])
            known = self._logs.get(name)
            if known is not None and known.mirror is not None:
                await known.mirror.sync(deadline)
                table = known.mirror.table
                count = table.depth + table.done
                size = sum(row.facts.size for row in table.rows.values() if row.facts is not None)
            found.append(LogInfo(name, kind, int(state["last_seq"]), floor, count, size))
        return sorted(found)

    async def _floors(self, deadline: float) -> dict[str, int]:
        subjects = self._names.floors
        found = await on_subjects(self._link, self._names.records, subjects, self._direct, deadline)
        return {got.subject: int(got.data) for got in found}

    async def _counts(self, name: str) -> Counts:
        found = await self._fresh(name, self._deadline())
        return Counts() if found is None else found[1].table.counts(self._now(), self._elapsed())

    async def _drop(self, name: str) -> None:
        deadline = self._deadline()
        for each in [name] if "!" in name else [name + DEAD, name]:
            log = await self._log(each, deadline)
            if log is not None:
                await self._drop_one(log, deadline)
        # The companion of a channel that stays begins anew.
        if name.endswith(DEAD) and await self._log(name.removesuffix(DEAD), deadline) is not None:
            await self._make(name, Kind.LOG, deadline)

    async def _drop_one(self, log: Log, deadline: float) -> None:
        names, link = self._names, self._link
        streams = [log.stream]
        if log.kind is Kind.QUEUE:
            # Last, so that a drop that was interrupted can be repeated: the log is still known by its name.
            streams.insert(0, names.journal(log.hash, log.incarnation))
        for each in streams:
            try:
                await link.api(f"STREAM.DELETE.{each}", deadline=deadline, write="a drop")
            except Missing:
                continue
        self._forget(log)
        for subject in (
            names.floor(log.hash, log.incarnation),
            names.key(log.hash, log.incarnation, "").rpartition(".")[0] + ".*",
        ):
            await link.api(f"STREAM.PURGE.{names.records}", {"filter": subject}, deadline=deadline)

    async def _vacuum(self, name: str | None, compact: bool) -> int:
        deadline = self._deadline()
        names = [name] if name is not None else []
        if name is None:
            async for info in self._streams(deadline):
                metadata = info["config"].get("metadata") or {}
                if metadata.get("kind") == Kind.QUEUE:
                    names.append(metadata["name"])
        removed = 0
        for each in names:
            log = await self._log(each, deadline)
            if log is None or log.kind is not Kind.QUEUE:
                continue
            found = await self._fresh(each, deadline)
            if found is not None:
                rows = [row for row in found[1].table.rows.values() if row.done and row.facts is not None]
                removed += sum(await found[1].commit([[GONE, row.sequence, row.revision] for row in rows]))
                if compact:
                    await found[1].compact()
        return removed
