"""A message as stores take it and keep it: plain fields, encoded and checked; and the rules of its names."""

import re
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple, NotRequired, Self, TypedDict
from zlib import crc32

from sssnbus.errors import InvalidName, PayloadError, PayloadTooLarge

MAX_PAYLOAD: Final = 10 * 1024 * 1024
"""The default limit of one message's content, in bytes."""

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}\Z")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,511}\Z")


class Envelope(TypedDict):
    """The optional parts of an envelope, as keyword arguments of ``write``."""

    topic: NotRequired[str | None]
    metadata: NotRequired[Mapping[str, Any] | None]
    correlation_id: NotRequired[str | None]
    reply_to: NotRequired[str | None]
    recipient_id: NotRequired[str | None]
    id: NotRequired[str | None]


class Receipt(str):
    """What ``write`` returns: the message's id, which also says where and how it was stored."""

    __slots__ = ("duplicate", "durability", "sequence")

    sequence: int
    """The message's place in its channel."""
    duplicate: bool
    """True if a message with this id or dedupe key was there already; nothing was added."""
    durability: str
    """What the message survives: ``"none"``, ``"process"`` (a crash) or ``"disk"`` (a power cut)."""

    def __new__(cls, id: str, sequence: int, duplicate: bool, durability: str) -> Self:
        receipt = super().__new__(cls, id)
        receipt.sequence, receipt.duplicate, receipt.durability = sequence, duplicate, durability
        return receipt


class Dedupe(NamedTuple):
    """A key that stands for one message during a window of time."""

    key: str
    digest: bytes
    """A hash of the content, to tell a retry from another message under the same key."""
    seconds: float


class Draft(NamedTuple):
    """A message on its way into a store: encoded, checked, not yet placed."""

    channel: str
    id: str | None
    timestamp: float
    sender_id: str
    topic: str | None
    type: str
    headers: bytes
    body: bytes
    crc: int
    priority: int = 0
    key: str | None = None
    due: float | None = None
    """Seconds since the epoch before which a queue does not hand it out."""
    dedupe: Dedupe | None = None


class Stored(NamedTuple):
    """A message as a store gives it back."""

    id: str
    sequence: int
    timestamp: float
    sender_id: str
    topic: str | None
    type: str
    headers: bytes
    body: bytes
    crc: int
    priority: int = 0
    key: str | None = None


def check_name(what: str, name: object) -> str:
    """Return a channel, consumer or worker name that keeps the rule; raise ``InvalidName`` if not."""
    if isinstance(name, str) and _NAME.match(name):
        return name
    if isinstance(name, str) and len(name) > 512:
        raise InvalidName(what, name, "it exceeds 512 characters")
    raise InvalidName(
        what,
        name,
        "it must be 1 to 512 letters, digits, periods, underscores and hyphens, and cannot begin with "
        "a hyphen or a period",
    )


def check_id(id: object) -> str:
    """Return a message id that keeps the rule; raise ``InvalidName`` if not."""
    if isinstance(id, str) and _ID.match(id):
        return id
    raise InvalidName("message id", id, "it must be 1 to 128 characters out of A-Z a-z 0-9 _ . : -")


def is_id(id: object) -> bool:
    """Return whether a message could have this id; if not there is nothing to ask a store for."""
    return isinstance(id, str) and _ID.match(id) is not None


def encode_text(text: str, limit: int) -> bytes:
    """Return the JSON of a text.

    Raises:
        PayloadError: it is no text that UTF-8 can hold.
        PayloadTooLarge: it has more than ``limit`` bytes of UTF-8.
    """
    size = len(text)
    try:
        body = encode_basestring(text).encode()
        if not text.isascii():
            size = len(text.encode())
    except UnicodeEncodeError:
        raise PayloadError("content", "holds a lone surrogate, which is no text") from None
    if size > limit:
        raise PayloadTooLarge(size, limit)
    return body


def checksum(sender_id: str, topic: str | None, type: str, headers: bytes, body: bytes) -> int:
    """Return the crc32 of everything a subscriber could be misled by. It is for damage, not attack."""
    return crc32(body, crc32(headers, crc32(f"{sender_id}\n{topic or ''}\n{type}".encode())))
