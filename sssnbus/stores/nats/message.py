"""A message as it travels: its body as the payload, everything else in one header and the subject."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from sssnbus.errors import MessageCorrupt
from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import Standing, State
from sssnbus.stores.nats.names import Names

HEADER: Final = "Sssnbus"
"""A JSON list, cut after its last field that says something; bytes of headers are read as Latin-1."""

_FIELDS: Final = 12

EXPECT: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECT_ON: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
EXPECT_LAST: Final = "Nats-Expected-Last-Sequence"
MESSAGE_ID: Final = "Nats-Msg-Id"
SIZE: Final = "Nats-Msg-Size"


class Facts(NamedTuple):
    """What a queue has to know of a message without its body."""

    id: str
    sequence: int
    priority: int
    key: str | None
    due: float | None
    at: float
    """When it was stored: epoch seconds."""
    size: int
    attempt: int = 0
    """How often it was handed out where it stood before."""
    error: str | None = None
    """What the last of those attempts reported."""
    done: bool = False


def encode(
    names: Names, log: str, draft: Draft, id: str, at: float | None, standing: Standing | None = None
) -> tuple[str, dict[str, str]]:
    """Return the subject and the headers of a message that must be the first one with its id.

    Args:
        names: The names of the store.
        log: The hash of the log.
        draft: The message.
        id: Its id.
        at: When it is stored, if the time is not the server's.
        standing: How it stood elsewhere. It travels with the message and needs no entry in a journal, so
            that no worker ever meets the one without the other.
    """
    stood: list[Any] = [None] * 3
    if standing is not None:
        stood = [standing.attempt or None, standing.error, (standing.state is State.DONE) or None]
    fields: list[Any] = [
        draft.timestamp, draft.sender_id, draft.type, draft.crc, draft.headers.decode("latin-1"),
        draft.priority or None, draft.key, draft.due, at, *stood,
    ]  # fmt: skip
    while fields[-1] is None:
        fields.pop()
    headers = {
        HEADER: to_json(fields).decode(),
        EXPECT: "0",
        EXPECT_ON: names.any_topic(log, id),
    }
    return names.message(log, id, draft.topic), headers


def size_of(headers: Mapping[str, str], body: bytes) -> int:
    """Return how many bytes the server counts against its limit, and a little more."""
    # Some headers come later: those of a batch, and what a limit of the queue expects.
    return len(body) + sum([len(name) + len(text) + 4 for name, text in headers.items()]) + 128


def decode(
    names: Names, log: str, subject: str, sequence: int, headers: Mapping[str, str], body: bytes
) -> Stored:
    """Return a message as the contract wants it."""
    id, topic = names.identified(subject)
    timestamp, sender, type, crc, extra, priority, key = _fields(log, sequence, headers)[:7]
    return Stored(
        id, sequence, timestamp, sender, topic, type, extra.encode("latin-1"), body, crc, priority or 0, key
    )


def facts(
    names: Names, log: str, subject: str, sequence: int, headers: Mapping[str, str], stamp: float
) -> Facts:
    """Return what a queue needs to know of a message that came without its body."""
    fields = _fields(log, sequence, headers)
    size = int(headers.get(SIZE, 0)) + len(fields[4])
    id = names.identified(subject)[0]
    at = stamp if fields[8] is None else fields[8]
    stood = fields[9] or 0, fields[10], bool(fields[11])
    return Facts(id, sequence, fields[5] or 0, fields[6], fields[7], at, size, *stood)


def stored_at(log: str, sequence: int, headers: Mapping[str, str], stamp: float) -> float:
    """Return when a message was stored: the server's time, or what the given clock said."""
    at = _fields(log, sequence, headers)[8]
    return stamp if at is None else float(at)


def _fields(log: str, sequence: int, headers: Mapping[str, str]) -> list[Any]:
    try:
        fields: list[Any] = from_json(headers[HEADER])
    except (KeyError, ValueError):
        raise MessageCorrupt(log, sequence, f"it has no readable {HEADER} header") from None
    return fields + [None] * (_FIELDS - len(fields))
