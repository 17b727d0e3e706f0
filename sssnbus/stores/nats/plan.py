"""What becomes of each draft of an append: it is new, or repeats what is there, or is refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sssnbus.errors import MessageConflict
from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import Kind, Placed, Standing
from sssnbus.stores.nats.dedupe import Keys, Reserved
from sssnbus.stores.nats.fetch import Got, newest
from sssnbus.stores.nats.logbook import Log
from sssnbus.stores.nats.message import MESSAGE_ID, decode


@dataclass(slots=True)
class Item:
    """A draft that has to be stored."""

    draft: Draft
    index: int
    id: str
    key: Reserved | None


@dataclass(slots=True)
class Plan:
    """What becomes of each draft of one append."""

    placed: list[Placed | int | None] = field(default_factory=list)
    """Where it is already, the index of an earlier draft that it repeats, or None."""
    items: list[Item] = field(default_factory=list)


class Work:
    """One append on its way: what was found out about its drafts."""

    def __init__(
        self, log: Log, drafts: Sequence[Draft], name: str, standings: Sequence[Standing] | None = None
    ) -> None:
        self.log, self.drafts, self.name = log, drafts, name
        self.standings = standings
        """How they stood elsewhere, if they come from there."""
        self.look = False
        """Whether ids have to be looked up first; most are new."""
        self.repeated = False
        """Whether an earlier try may have been stored."""
        self.ids: dict[int, str] = {}
        """The ids made for drafts without one, by index."""
        self.keys: dict[int, Reserved] = {}

    def standing(self, index: int) -> Standing | None:
        """Return how a draft stood elsewhere."""
        return None if self.standings is None else self.standings[index]


class Plans(Keys):
    """Finds out what of an append has to be stored."""

    async def _plan(self, work: Work, deadline: float) -> Plan:
        """Say what becomes of each draft; raise if the whole append is refused."""
        plan, log = Plan(), work.log
        ids: dict[str, int] = {}
        keys: dict[str, int] = {}
        for index, draft in enumerate(work.drafts):
            found: Placed | int | None = None
            id, dedupe = draft.id or work.ids.get(index), draft.dedupe
            if draft.id is not None and (earlier := ids.get(draft.id)) is not None:
                check_same(log.name, work.drafts[earlier], draft)
                found = earlier
            elif id is not None and work.look:
                found, taken = await self._known(work, index, draft, id, deadline)
                if taken:
                    id = None
            if found is None and dedupe is not None:
                if (first := keys.get(dedupe.key)) is not None:
                    other = work.drafts[first].dedupe
                    if other is not None and other.digest != dedupe.digest:
                        raise MessageConflict(log.name, "dedupe key", dedupe.key)
                    found = first
                elif index not in work.keys:
                    known = await self._reserve(log, dedupe, id or self._new_id(), deadline)
                    if isinstance(known, Placed):
                        found = known
                    else:
                        work.keys[index], id = known, known.id
                keys.setdefault(dedupe.key, index)
            if found is None:
                if id is None:
                    id = self._new_id()
                if draft.id is None:
                    work.ids[index] = id
                ids[id] = index
                plan.items.append(Item(draft, index, id, work.keys.get(index)))
            plan.placed.append(found)
        return plan

    async def _known(
        self, work: Work, index: int, draft: Draft, id: str, deadline: float
    ) -> tuple[Placed | None, bool]:
        """Return where a draft is already, and whether its made id belongs to another message."""
        # Also when nothing is known to have been sent twice: between two tries a server that was not ready
        # may have answered, and under a new id our own message would be told by a name that it has not.
        # One look tells both: our own may arrive between two, and would be taken for somebody else's.
        got = await self._newest(work.log, id, deadline)
        if got is not None and got.headers.get(MESSAGE_ID) == f"{work.name}.{index}":
            # Also if a worker is through with it.
            return Placed(id, got.sequence), False
        stored = await self._still_there(work.log, got, deadline)
        if stored is None:
            return None, False
        if draft.id is None and draft.dedupe is None:
            # Another writer made the same id in the same moment.
            return None, True
        check_same(work.log.name, stored, draft)
        return Placed(id, stored.sequence, True), False

    async def _by_id(self, log: Log, id: str, deadline: float) -> Stored | None:
        """Return the message with an id."""
        return await self._still_there(log, await self._newest(log, id, deadline), deadline)

    async def _newest(self, log: Log, id: str, deadline: float) -> Got | None:
        subjects = self._names.any_topic(log.hash, id)
        return await newest(self._link, log.stream, subjects, log.direct, deadline)

    async def _still_there(self, log: Log, got: Got | None, deadline: float) -> Stored | None:
        """Return a message that was found. One that left its queue leaves the stream as well."""
        if got is None:
            return None
        if log.kind is Kind.QUEUE:
            found = await self._fresh(log.name, deadline)
            if found is not None and got.sequence not in found[1].table.rows:
                await found[1].remove_now([got.sequence])
                return None
        return decode(self._names, log.hash, got.subject, got.sequence, got.headers, got.data)


def check_same(log: str, there: Stored | Draft, new: Draft) -> None:
    """Refuse one message under the id of another."""
    if there.type != new.type or there.body != new.body:
        raise MessageConflict(log, "id", new.id or there.id or "")
