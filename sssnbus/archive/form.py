"""The form of a dump: what a message looks like as a record of JSON values, and back.

A dump begins with a header and ends with a trailer, so that one which was cut short is told from a whole
one. Between them come the channels, each followed by its messages, its dead letters, and the places of its
subscribers; then what else the store keeps. The first key of a record says what it is.

What JSON can show is shown as JSON. Where that would not give the very same bytes again, and for raw bytes,
base64 stands in its place: a message that is loaded where it is already must be found to be the same.
"""

import math
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import from_json, to_json

from sssnbus.errors import UsageError
from sssnbus.stored import Draft, Stored, check_id, checksum
from sssnbus.stores.base import Standing, State
from sssnbus.topics import check_topic

FORMAT: Final = 1
"""The newest form that this code reads, and the one that it writes."""

_ADDRESSES: Final = ("correlation_id", "reply_to", "recipient_id")


class Unfit(UsageError):
    """A record cannot be taken in; the text says why."""


class Damaged(Exception):
    """A stored message is not what was written; the text says how."""


def message_record(channel: str, dead: bool, stored: Stored, standing: Standing) -> dict[str, Any]:
    """Return the record of a message.

    Raises:
        Damaged: Its checksum is wrong, or its parts are not what they should be.
    """
    id, _, timestamp, sender_id, topic, type, headers, body, crc, priority, key = stored
    if crc != checksum(sender_id, topic, type, headers, body):
        raise Damaged("its checksum does not match")
    record: dict[str, Any] = {"message": id, "channel": channel}
    if dead:
        record["dead"] = True
    record |= {"timestamp": timestamp, "sender": sender_id}
    if topic is not None:
        record["topic"] = topic
    record["type"] = type
    try:
        record |= _body_parts(type, body)
        record |= _header_parts(headers)
    except ValueError as exc:
        raise Damaged(f"its parts are no {type!r}") from exc
    record["crc"] = crc
    if priority:
        record["priority"] = priority
    if key is not None:
        record["key"] = key
    return record | _standing_parts(standing)


def _body_parts(type: str, body: bytes) -> dict[str, Any]:
    if type != "bytes":
        data = from_json(body, allow_inf_nan=False)
        if to_json(data) == body:
            return {"data": data}
    return {"body": b64encode(body).decode()}


def _header_parts(headers: bytes) -> dict[str, Any]:
    if not headers:
        return {}
    parts = from_json(headers, allow_inf_nan=False)
    known = isinstance(parts, dict) and parts.keys() <= {"metadata", *_ADDRESSES}
    if known and _headers(parts) == headers:
        return dict(parts)
    return {"headers": b64encode(headers).decode()}


def _headers(parts: Mapping[str, Any]) -> bytes:
    there = {name: parts[name] for name in ("metadata", *_ADDRESSES) if name in parts}
    return to_json(there) if there else b""


def _standing_parts(standing: Standing) -> dict[str, Any]:
    state, attempts, due, error, *_ = standing
    if state is State.DONE:
        return {"state": "done"}
    parts: dict[str, Any] = {}
    if state is State.LEASED:
        # As if its worker had given it back: whether the attempt fails is not known yet.
        attempts -= 1
    elif due is not None:
        parts["due"] = due
    if attempts > 0:
        parts["attempts"] = attempts
    if error is not None:
        parts["error"] = error
    return parts


def item_of(log: str, record: Mapping[str, Any]) -> tuple[Draft, Standing]:
    """Return the message that a record describes, for a log, and how it stands.

    Raises:
        UsageError: A part of it is missing, or not what it should be.
    """
    take = _Parts(record)
    type, sender_id, topic = take.text("type"), take.text("sender"), take.optional("topic")
    if topic is not None:
        check_topic(topic)
    if not 0 < len(sender_id) <= 512:
        raise Unfit("its sender must be 1 to 512 characters")
    body = take.encoded("body") if "body" in record else _encoded_data(record)
    headers = take.encoded("headers") if "headers" in record else _given_headers(take)
    crc = checksum(sender_id, topic, type, headers, body)
    if record.get("crc", crc) != crc:
        raise Unfit("its checksum does not match: the line was changed or damaged")
    due = take.number("due") if "due" in record else None
    draft = Draft(
        log,
        check_id(record["message"]),
        take.number("timestamp"),
        sender_id,
        topic,
        type,
        headers,
        body,
        crc,
        take.count("priority", least=-(2**31)),
        take.optional("key"),
        due,
    )
    state = record.get("state", "ready")
    if state not in ("ready", "done"):
        raise Unfit('its state must be "ready" or "done"')
    return draft, Standing(State(state), take.count("attempts"), due, take.optional("error"))


def _encoded_data(record: Mapping[str, Any]) -> bytes:
    if "data" not in record:
        raise Unfit('it has neither "data" nor "body"')
    if record.get("type") == "bytes":
        raise Unfit('bytes need a "body" in base64')
    return to_json(record["data"])


def _given_headers(take: "_Parts") -> bytes:
    for name in _ADDRESSES:
        take.optional(name)
    if not isinstance(take.record.get("metadata", {}), dict):
        raise Unfit('"metadata" must be an object')
    return _headers(take.record)


class _Parts:
    """Takes parts out of a record and checks what they are."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record

    def text(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.record.get(name)
        if not isinstance(value, str):
            raise Unfit(f'"{name}" must be a text')
        return value

    def optional(self, name: str) -> str | None:
        """Return a text, or None if it is not there."""
        return self.text(name) if name in self.record else None

    def number(self, name: str) -> float:
        """Return a number that must be there."""
        value = self.record.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Unfit(f'"{name}" must be a finite number')
        return float(value)

    def count(self, name: str, least: int = 0) -> int:
        """Return a whole number, 0 if it is not there."""
        value = self.record.get(name, 0)
        if type(value) is not int or not least <= value < 2**31:
            raise Unfit(f'"{name}" must be a whole number')
        return value

    def encoded(self, name: str) -> bytes:
        """Return the bytes that base64 stands for."""
        value = self.record[name]
        try:
            return b64decode(value, validate=True)
        except (TypeError, ValueError) as exc:
            raise Unfit(f'"{name}" must be base64') from exc


def value_parts(value: bytes) -> dict[str, str]:
    """Return the value of a record of the store: as text if it is one."""
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def value_of(record: Mapping[str, Any]) -> bytes:
    """Return what ``value_parts`` took apart."""
    if isinstance(text := record.get("text"), str):
        return text.encode()
    if "base64" not in record:
        raise Unfit('it has neither "text" nor "base64"')
    return _Parts(record).encoded("base64")
