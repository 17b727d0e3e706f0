"""What channels can be given when they are made, and the checks that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, TypedDict, cast

from sssnbus.channels.place import Host
from sssnbus.clock import Clock
from sssnbus.errors import InvalidOption, MissingAbility
from sssnbus.settings import Retention, Retry
from sssnbus.stored import is_id
from sssnbus.stores.base import Selection, SelectiveClaim, Store

if TYPE_CHECKING:
    from sssnbus.message import MessageContent

_MADE_ID = re.compile(r"[0-9]{19}\Z")

Content = type["MessageContent"] | Iterable[type["MessageContent"]]


class ContentOptions(TypedDict, total=False):
    """What a channel says of its messages; see ``Channel``."""

    content: Content
    max_payload: int
    dedupe_window: float


class ChannelOptions(ContentOptions, total=False):
    """What every channel can be given; see ``Channel``."""

    store: str | PathLike[str] | Store
    clock: Clock | None
    host: Host | None


class BroadcastOptions(ContentOptions, total=False):
    """What ``Bus.broadcast`` takes; see ``BroadcastChannel``."""

    name: str
    retention: Retention | None


class QueueOptions(ContentOptions, total=False):
    """What ``Bus.work_queue`` takes; see ``WorkQueueChannel``."""

    name: str
    claim_timeout: float
    max_deliveries: int | None
    max_depth: int | None
    retry: Retry | None
    priorities: bool
    keep_done: bool


def content_classes(content: object) -> dict[str, type[MessageContent]]:
    """Return the content classes that a caller means, by the name that travels; refuse what is none."""
    if content == ():
        return {}
    from sssnbus.message import MessageContent

    given = content if isinstance(content, Iterable) and not isinstance(content, type | str) else [content]
    classes = [kind for kind in given if isinstance(kind, type) and issubclass(kind, MessageContent)]
    for kind in given:
        if kind not in classes:
            raise InvalidOption("content", kind, "it must be a subclass of MessageContent, or several")
    return {kind.type_name: kind for kind in classes}


def check_items(items: object) -> Iterable[object]:
    """Return the items that a caller wants written; refuse a lone one that happens to be iterable."""
    if type(items) in (tuple, list):
        return cast(Iterable[object], items)
    if isinstance(items, str | bytes | Mapping) or _is_message(items):
        raise InvalidOption("items", items, "give a list of what to write, or use write() for one")
    if not isinstance(items, Iterable):
        raise InvalidOption("items", items, "give a list of what to write")
    return items


def check_ids(ids: object) -> list[str]:
    """Return the ids that a caller means; refuse a lone one, whose letters would be taken for ids."""
    if isinstance(ids, str) or not isinstance(ids, Iterable) or _is_message(ids):
        raise InvalidOption("ids", ids, "give a list of message ids")
    found = list(ids)
    for id in found:
        if not isinstance(id, str):
            raise InvalidOption("ids", id, "give message ids, as message.id")
    return found


def possible_ids(ids: object) -> list[str]:
    """Return those ids that a message could have: a store may take another text for who knows what."""
    return [id for id in check_ids(ids) if is_id(id)]


def selection(
    store: Store, channel: str, ids: Iterable[str] | None, after: str | None, before: str | None
) -> Selection | None:
    """Return which messages a caller means; None for all.

    Raises:
        InvalidOption: ``ids`` is no list of ids, or a bound is not one that a store has made.
        MissingAbility: the store cannot choose.
    """
    if ids is None and after is None and before is None:
        return None
    chosen = Selection(
        None if ids is None else tuple(possible_ids(ids)), _bound("after", after), _bound("before", before)
    )
    if not isinstance(store, SelectiveClaim):
        raise MissingAbility(channel, store.url, ["SelectiveClaim"])
    return chosen


def _bound(option: str, id: object) -> str | None:
    if id is None or (isinstance(id, str) and _MADE_ID.match(id)):
        return id
    raise InvalidOption(option, id, "it must be an id as stores make them, 19 digits")


def check_confirm(confirm: object) -> None:
    """Refuse a word that is no way to confirm."""
    if confirm not in (None, "delivered", "stored"):
        raise InvalidOption("confirm", confirm, 'it must be "delivered" or "stored"')


def _is_message(value: object) -> bool:
    """Return whether it is one message or content, which pydantic lets callers iterate over."""
    from sssnbus.message import ChannelMessage, MessageContent

    return isinstance(value, MessageContent | ChannelMessage)
