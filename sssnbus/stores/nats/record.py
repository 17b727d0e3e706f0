"""Records, owners, and hints that there is news."""

from collections.abc import Callable
from secrets import token_hex

from pydantic_core import from_json

from sssnbus.stores.base import News, Record, Records, Wakeups
from sssnbus.stores.nats.core import Core
from sssnbus.stores.nats.failure import Nobody, Stale, check
from sssnbus.stores.nats.fetch import newest, on_subjects
from sssnbus.stores.nats.message import EXPECT
from sssnbus.stores.nats.mirror import Mirror
from sssnbus.stores.nats.waiting import until_ready
from sssnbus.stores.watchers import Watchers

_NAMES = "Sssnbus-Record"
"""The header with the space and the name of a record, which its subject only hints at."""

_WRITER = "Sssnbus-Put"
"""The header that tells a put from others, for one whose answer was lost."""

_SET_EVERY = 30.0
"""Seconds between two looks what time it is: clocks are set, and virtual machines stand still."""

_LOOK_EVERY = 0.5
"""Seconds between two looks whether an owner is still heard of."""


class Shelf(Core, Records):
    """Records as the newest messages of subjects; a version is a sequence, so none is used twice."""

    async def get(self, space: str, name: str) -> Record | None:
        return await self._do(self._get, self._names.record(space, name))

    async def put(self, space: str, name: str, value: bytes, *, version: int | None) -> int | None:
        return await self._do(self._put, self._names.record(space, name), value, version, name)

    async def delete(self, space: str, name: str) -> bool:
        return await self._do(self._delete, self._names.record(space, name))

    async def names(self, space: str) -> dict[str, Record]:
        return await self._do(self._list_records, self._names.space(space))

    async def alive(self, owner: str) -> bool:
        """Return whether the store that called itself ``owner`` is still open, this one included.

        One that died counts as open until it was not heard of for ``owner_timeout`` seconds.
        """
        self._check()
        return owner == self.owner or await self._do(self._is_alive, owner)

    async def _get(self, subject: str) -> Record | None:
        got = await newest(self._link, self._names.records, subject, self._direct, self._deadline())
        return None if got is None else Record(got.data, got.sequence)

    async def _put(
        self,
        subject: str,
        value: bytes,
        version: int | None,
        name: str = "",
        lifetime: float | None = None,
    ) -> int | None:
        deadline, nonce = self._deadline(), token_hex(8)
        headers = {EXPECT: str(version or 0), _WRITER: nonce, _NAMES: name.encode("unicode_escape").decode()}
        if lifetime is not None:
            headers["Nats-TTL"] = f"{max(1, round(lifetime + 1))}s"
        unsure = False
        while True:
            try:
                answer = await self._link.request(
                    subject, value, headers, deadline=deadline, write="a record"
                )
                unsure |= answer.repeated
                return int(check(from_json(answer.message.data), self.url)["seq"])
            except Nobody as nobody:
                unsure |= nobody.repeated
                await until_ready(self._link, self._names.records, deadline, "a record" if unsure else None)
                continue
            except Stale:
                if not unsure:
                    return None
            # The answer to an earlier try was lost; what is there may be ours.
            got = await newest(self._link, self._names.records, subject, self._direct, deadline)
            return got.sequence if got is not None and got.headers.get(_WRITER) == nonce else None

    async def _delete(self, subject: str) -> bool:
        # An answer that was lost makes this ask twice, and say no to what it did the first time.
        answer = await self._link.api(
            f"STREAM.PURGE.{self._names.records}",
            {"filter": subject},
            deadline=self._deadline(),
            write="a deletion",
        )
        return bool(answer.get("purged"))

    async def _list_records(self, subjects: str) -> dict[str, Record]:
        found: dict[str, Record] = {}
        stream, direct = self._names.records, self._direct
        for got in await on_subjects(self._link, stream, subjects, direct, self._deadline()):
            name = got.headers[_NAMES].encode().decode("unicode_escape")
            found[name] = Record(got.data, got.sequence)
        return found

    async def _is_alive(self, owner: str) -> bool:
        subject = self._names.owner(owner)
        got = await newest(self._link, self._names.records, subject, self._direct, self._deadline())
        return got is not None


class Hints(Shelf, Wakeups):
    """Wake-ups by consumers that bring the messages themselves, and by asking."""

    poll_interval: float | None = 1.0
    _watchers: Watchers
    _dead: set[str]
    """Owners of leases that were not heard of when they were looked for last."""
    _seen: dict[str, float]
    """When each owner of leases was looked for last, on ``Clock.elapsed``."""
    _rung = True
    """Whether anybody has told of news since ``changed`` was asked last."""
    _bytes: tuple[int, ...] = ()
    """The bytes and the streams of the account when ``changed`` was asked last."""

    def watch(
        self, ring: Callable[[], None], take: Callable[[News], None] | None = None
    ) -> Callable[[], None]:
        self._check()
        end = self._watchers.add(ring, take)
        self._follow_soon()
        return end

    async def changed(self) -> bool:
        """Return whether anybody may have written since the last call; own writes count too.

        It also looks whether stores that hold leases here are still open.
        """
        if self._link.refusal is not None:
            # Who reads is told.
            return True
        return await self._do(self._has_changed)

    async def _has_changed(self) -> bool:
        deadline = self._deadline()
        account = await self._link.api("INFO", deadline=deadline)
        now = int(account["storage"]), int(account["streams"])
        changed, self._bytes = self._rung or now != self._bytes, now
        self._rung = False
        if not 0 <= self._clock.elapsed() - self._set_at < _SET_EVERY:
            await self._set_clock(deadline)
        mirrors = self._mirrors()
        # Who holds nothing any more is nobody to remember.
        owners = set[str]().union(*(mirror.table.foreign_owners(self.owner) for mirror in mirrors))
        self._dead.intersection_update(owners)
        self._seen = {owner: at for owner, at in self._seen.items() if owner in owners}
        for mirror in mirrors:
            changed |= await self._look_for_dead(mirror, deadline)
        return changed

    def _tell(self, news: News | None = None) -> None:
        """Let those who watch know that others did something, and what if that is known."""
        self._rung = True
        self._watchers.tell(news)

    def _mirrors(self) -> list[Mirror]:
        """Return the queues that are followed; none on this floor."""
        return []

    def _follow_soon(self) -> None:
        """Begin to hear of news; there is none on this floor."""

    async def _look_for_dead(self, mirror: Mirror, deadline: float) -> bool:
        """Find out which owners of leases are not heard of any more; return whether that is news."""
        news, now = False, self._clock.elapsed()
        for owner in mirror.table.foreign_owners(self.owner):
            if now - self._seen.get(owner, -_LOOK_EVERY) < _LOOK_EVERY:
                continue
            got = await newest(
                self._link, self._names.records, self._names.owner(owner), self._direct, deadline
            )
            self._seen[owner] = now
            if got is not None:
                self._dead.discard(owner)
                continue
            news |= owner not in self._dead
            self._dead.add(owner)
            mirror.table.offer_all(owner)
        return news
