"""Messages as the scripts carry them: what only we need to know in one text, headers and body as they are."""

from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json, to_json

from sssnbus.stored import Draft, Stored


def plain(text: str) -> str:
    """Return a text of somebody else's so that JSON can carry it."""
    return text.encode(errors="replace").decode()


def meta_of(message: Draft | Stored) -> bytes:
    """Return everything but id, place, headers and body, of which the scripts read some.

    They read type, priority and key, and look for topics in the text as it is.
    """
    return to_json(
        (
            message.timestamp,
            message.sender_id,
            message.topic,
            message.type,
            message.crc,
            message.priority,
            message.key,
        )
    )


def taken_apart(answer: bytes) -> tuple[Any, "Bytes"]:
    """Return what an answer or a hint says in JSON, and the bytes behind that."""
    end = answer.index(b"\n")
    return from_json(answer[:end]), Bytes(answer, end + 1)


class Bytes:
    """The bytes of an answer, taken one part after the other."""

    __slots__ = ("_at", "_whole")

    def __init__(self, whole: bytes, start: int) -> None:
        self._whole = whole
        self._at = start

    def take(self, size: int) -> bytes:
        """Return the next part."""
        start = self._at
        self._at = end = start + size
        return self._whole[start:end]

    def messages(self, rows: Sequence[Any]) -> list[Stored]:
        """Return messages, of which ``rows`` tells five values each."""
        take = self.take
        found = []
        for at in range(0, len(rows), 5):
            sequence, id, meta, headers, body = rows[at : at + 5]
            found.append(_stored(id, sequence, take(meta), take(headers), take(body)))
        return found


def _stored(id: str, sequence: int, meta: bytes, headers: bytes, body: bytes) -> Stored:
    try:
        timestamp, sender, topic, type, crc, priority, key = from_json(meta)
    except ValueError:
        # Damaged. No checksum is negative, so whoever checks it will tell.
        return Stored(id, sequence, 0.0, "", None, "", headers, body, -1)
    return Stored(id, sequence, timestamp, sender, topic, type, headers, body, crc, priority, key)
