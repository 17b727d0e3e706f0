"""The verbs of dumps: what records there are, and putting the messages of a queue back as they stood."""

from collections.abc import Sequence

from sssnbus.errors import ChannelKindMismatch, NotStarted
from sssnbus.stored import Draft
from sssnbus.stores.base import Kind, Placed, Portable, Standing
from sssnbus.stores.nats.append import Appends


class Restoring(Appends, Portable):
    """Messages that bring along how they stood, and the spaces of records."""

    async def spaces(self) -> list[str]:
        return await self._do(self._spaces)

    async def restore(self, log: str, items: Sequence[tuple[Draft, Standing]]) -> list[Placed]:
        """Add messages to a declared queue as they stood elsewhere, all or none; return where each went.

        At most 1000 go together, as with ``append``. How a message stood is kept with the message.

        Raises:
            MessageConflict: an id is there with another type or body.
            InvalidOption: there are more than 1000.
        """
        return await self._do(self._restore, log, items)

    async def _spaces(self) -> list[str]:
        names, found, offset, total = self._names, set[str](), 0, 1
        while offset < total:
            body = {"subjects_filter": names.all_records, "offset": offset}
            info = await self._link.api(f"STREAM.INFO.{names.records}", body, deadline=self._deadline())
            subjects = info["state"].get("subjects") or {}
            found.update(map(names.space_of, subjects))
            if not subjects:
                break
            offset, total = offset + len(subjects), int(info.get("total", 0))
        return sorted(found)

    async def _restore(self, name: str, items: Sequence[tuple[Draft, Standing]]) -> list[Placed]:
        log = await self._log(name, self._deadline())
        if log is None:
            raise NotStarted(f"Log {name!r}")
        if log.kind is not Kind.QUEUE:
            raise ChannelKindMismatch(name, log.kind, Kind.QUEUE)
        if not items:
            return []
        return await self._store(name, [draft for draft, _ in items], standings=[one for _, one in items])
