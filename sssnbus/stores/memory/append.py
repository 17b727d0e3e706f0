"""What an append comes to, decided before anything changes."""

from collections.abc import Mapping, Sequence

from sssnbus.errors import MessageConflict, NotStarted, QueueFull
from sssnbus.stored import Dedupe, Draft, Stored
from sssnbus.stores.base import Placed
from sssnbus.stores.memory.log import Log
from sssnbus.stores.memory.queue import Queue

Plan = list[Placed | int | None]
"""What each draft repeats: something stored, an earlier draft by its index, or nothing."""


def declared(logs: Mapping[str, Log], name: str) -> Log:
    """Return a log that can be written to."""
    log = logs.get(name)
    if log is None:
        raise NotStarted(f"Log {name!r}")
    return log


def check_same(log: str, there: Stored | Draft, new: Stored | Draft) -> None:
    """Refuse one message under the id of another."""
    if there.type != new.type or there.body != new.body:
        raise MessageConflict(log, "id", new.id or "")


def plan_append(
    logs: Mapping[str, Log], drafts: Sequence[Draft], limits: Mapping[str, int], now: float
) -> Plan:
    """Say what becomes of each draft; raise if the whole append is refused."""
    plan: Plan = []
    # What the batch itself brings, by log and id or key.
    ids: dict[tuple[str, str], int] = {}
    keys: dict[tuple[str, str], int] = {}
    for index, draft in enumerate(drafts):
        log = declared(logs, draft.channel)
        found: Placed | int | None = None
        if draft.id is not None:
            earlier = ids.get((draft.channel, draft.id))
            found = _same_id(log, draft, drafts, earlier)
        if found is None and draft.dedupe is not None:
            earlier = keys.get((draft.channel, draft.dedupe.key))
            found = _same_key(log, draft.dedupe, drafts, earlier, now)
        plan.append(found)
        if found is None:
            if draft.id is not None:
                ids[draft.channel, draft.id] = index
            if draft.dedupe is not None:
                keys[draft.channel, draft.dedupe.key] = index
    _check_depth(logs, drafts, plan, limits)
    return plan


def _same_id(log: Log, draft: Draft, drafts: Sequence[Draft], earlier: int | None) -> Placed | int | None:
    id = draft.id or ""
    stored = log.get(id)
    if stored is not None:
        check_same(log.name, stored, draft)
        return Placed(id, stored.sequence, True)
    if earlier is not None:
        check_same(log.name, drafts[earlier], draft)
    return earlier


def _same_key(
    log: Log, dedupe: Dedupe, drafts: Sequence[Draft], earlier: int | None, now: float
) -> Placed | int | None:
    known = log.remembered(dedupe.key, now)
    other = None if earlier is None else drafts[earlier].dedupe
    digest = known[0] if known else other.digest if other else dedupe.digest
    if digest != dedupe.digest:
        raise MessageConflict(log.name, "dedupe key", dedupe.key)
    return Placed(known[1], known[2], True) if known else earlier


def _check_depth(
    logs: Mapping[str, Log], drafts: Sequence[Draft], plan: Plan, limits: Mapping[str, int]
) -> None:
    for name, limit in limits.items():
        added = sum(
            draft.channel == name and there is None for draft, there in zip(drafts, plan, strict=True)
        )
        log = logs.get(name)
        if added and isinstance(log, Queue) and log.depth + added > limit:
            raise QueueFull(name, log.depth, limit)
