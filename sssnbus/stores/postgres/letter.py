"""What a notification says: whose it is, and of which log; of a short append also the messages themselves.

The writer hands its rows to the server, which puts their place in front of them and sends them with the
commit: a letter never holds what is not stored.
"""

from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import from_json, to_json

from sssnbus.stored import Draft, Stored
from sssnbus.stores.base import News

MAX_MESSAGES: Final = 8
"""Messages in one batch that are worth carrying: where more go together, one read fetches them all."""

MAX_BYTES: Final = 4096
"""Bytes that a letter may hold: every session that listens in the database gets a copy of each. The server
takes less than 8000, with the name of the log."""


def written(drafts: Sequence[Draft]) -> list[str | None] | None:
    """Return the rows of new messages for each of their logs, or None if there is too much to carry."""
    if len(drafts) > MAX_MESSAGES or sum([len(each.headers) + len(each.body) for each in drafts]) > MAX_BYTES:
        return None
    logs: dict[str, list[tuple[object, ...]]] = {}
    for log, _, timestamp, sender, topic, type, headers, body, crc, priority, _, _, _ in drafts:
        texts = headers.decode("latin-1"), body.decode("latin-1")
        logs.setdefault(log, []).append((timestamp, sender, topic, type, *texts, crc, priority))
    rows = [to_json(each) for each in logs.values()]
    return [each.decode() if len(each) <= MAX_BYTES else None for each in rows]


def read(letter: str) -> tuple[str, News | None]:
    """Return who wrote a letter, and the news in it; None if it cannot be read."""
    head, _, rows = letter.partition("\n")
    try:
        owner, first, stamp, log = head.split(" ", 3)
        return owner, News(log, _messages(int(first), int(stamp), from_json(rows)) if rows else [])
    except (ValueError, TypeError, AttributeError):
        return "", None


def _messages(first: int, stamp: int, rows: Sequence[Sequence[Any]]) -> list[Stored]:
    return [
        Stored(str(stamp + place), first + place, timestamp, sender, topic, type, headers.encode("latin-1"),
               body.encode("latin-1"), crc, priority)
        for place, (timestamp, sender, topic, type, headers, body, crc, priority) in enumerate(rows)
    ]  # fmt: skip
