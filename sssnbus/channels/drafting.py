"""From what a writer hands in to what a store takes: checked and encoded before anything happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from sssnbus.clock import Clock
from sssnbus.errors import InvalidName, InvalidOption, PayloadError
from sssnbus.settings import check_seconds
from sssnbus.stored import Dedupe, Draft, Envelope, Receipt, Stored, check_id, checksum, encode_text
from sssnbus.topics import check_topic

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage, MessageContent

_MAX_TEXT: Final = 512

_MAX_PRIORITY: Final = 2**31 - 1

_PARTS: Final = Envelope.__optional_keys__


class Drafter:
    """Makes the drafts of one channel."""

    def __init__(
        self,
        channel: str,
        types: Mapping[str, type[MessageContent]],
        max_payload: int,
        dedupe_window: float,
        clock: Clock,
    ) -> None:
        self._channel, self._types, self._clock = channel, types, clock
        self._max_payload, self._dedupe_window = max_payload, dedupe_window

    def draft(
        self,
        sender_id: str,
        data: object,
        envelope: Envelope,
        dedupe: str | None = None,
        priority: int = 0,
        key: str | None = None,
        due: float | None = None,
    ) -> Draft:
        """Return the checked and encoded message.

        Raises:
            UsageError: a part of it breaks its rule; the error says which.
        """
        if envelope and not envelope.keys() <= _PARTS:
            unknown = ", ".join(sorted(envelope.keys() - _PARTS))
            raise TypeError(f"a message has no part {unknown}; there are {', '.join(sorted(_PARTS))}")
        if type(data) is not str and isinstance(data, self._ready_made):
            envelope = _merged(data, envelope)
            data = data.content
        check_text("sender_id", sender_id)
        topic = envelope.get("topic")
        if topic is not None:
            check_topic(topic)
        id = envelope.get("id")
        if id is not None:
            check_id(id)
        if type(data) is str:
            kind, body = "json", encode_text(data, self._max_payload)
        else:
            kind, body = self._encode(data, self._max_payload)
        if self._types and kind not in self._types:
            given = "plain data" if kind == "json" else repr(kind)
            raise PayloadError("content", f"is {given}, but the channel takes only {', '.join(self._types)}")
        headers = b""
        if len(envelope) > (topic is not None) + (id is not None):
            headers = self._encode_headers(
                envelope.get("metadata"),
                envelope.get("correlation_id"),
                envelope.get("reply_to"),
                envelope.get("recipient_id"),
            )
        return Draft(
            self._channel,
            id,
            self._clock.time(),
            sender_id,
            topic,
            kind,
            headers,
            body,
            checksum(sender_id, topic, kind, headers, body),
            priority,
            key,
            due,
            None if dedupe is None else self._dedupe(dedupe, kind, body),
        )

    # The models are loaded with the first message that is more than text: pydantic takes longer to import
    # than a whole command that writes one line.

    @cached_property
    def _ready_made(self) -> type[ChannelMessage]:
        from sssnbus.message import ChannelMessage

        return ChannelMessage

    @cached_property
    def _encode(self) -> Callable[[object, int], tuple[str, bytes]]:
        from sssnbus.message import encode_content

        return encode_content

    @cached_property
    def _encode_headers(
        self,
    ) -> Callable[[Mapping[str, Any] | None, str | None, str | None, str | None], bytes]:
        from sssnbus.message import encode_headers

        return encode_headers

    def _dedupe(self, key: str, kind: str, body: bytes) -> Dedupe:
        check_text("dedupe key", key)
        return Dedupe(
            key, blake2b(kind.encode() + b"\n" + body, digest_size=16).digest(), self._dedupe_window
        )


def placed(draft: Draft, receipt: Receipt) -> Stored:
    """Return the message as the store keeps it, now that its place is known."""
    return Stored(
        str(receipt),
        receipt.sequence,
        draft.timestamp,
        draft.sender_id,
        draft.topic,
        draft.type,
        draft.headers,
        draft.body,
        draft.crc,
        draft.priority,
        draft.key,
    )


def dead_draft(channel: str, message: ChannelMessage, note: dict[str, Any]) -> Draft:
    """Return a message rewritten as a dead letter: ``note`` goes into its metadata under ``dead``."""
    from sssnbus.message import encode_content, encode_headers

    kind, body = encode_content(message.content)
    headers = encode_headers(
        {**message.metadata, "dead": note}, message.correlation_id, message.reply_to, message.recipient_id
    )
    crc = checksum(message.sender_id, message.topic, kind, headers, body)
    return Draft(
        channel,
        message.id or None,
        message.timestamp,
        message.sender_id,
        message.topic,
        kind,
        headers,
        body,
        crc,
    )


def damaged_draft(channel: str, stored: Stored, reason: str, time: float) -> Draft:
    """Return what is left of a message that cannot be decoded, as a dead letter of raw bytes."""
    from sssnbus.message import encode_headers

    headers = encode_headers({"dead": {"reason": reason, "sequence": stored.sequence, "time": time}})
    # A sender or topic that is damaged too could not be written again; the body is what may be of use.
    crc = checksum("sssnbus", None, "bytes", headers, stored.body)
    id = f"damaged-{stored.sequence}"
    return Draft(channel, id, time, "sssnbus", None, "bytes", headers, stored.body, crc)


def failure_note(reason: str, attempts: int, error: str | None, time: float) -> dict[str, Any]:
    """Return what a dead letter says of its end."""
    return {"reason": reason, "attempts": attempts, "error": error, "time": time}


def _merged(message: ChannelMessage, envelope: Envelope) -> Envelope:
    """Return a ready message's envelope; what the caller gives beside it wins."""
    ready: Envelope = {
        "topic": message.topic,
        "metadata": message.metadata,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "recipient_id": message.recipient_id,
        "id": message.id or None,
    }
    return {**ready, **envelope}


def check_priority(priority: object) -> None:
    """Refuse a priority that not every store could keep."""
    if type(priority) is not int or abs(priority) > _MAX_PRIORITY:
        raise InvalidOption("priority", priority, "it must be a whole number of at most 31 bits")


def due_time(
    delay: float | timedelta | None, at: datetime | None, key: str | None, clock: Clock
) -> float | None:
    """Return when a message may be handed out, in seconds since the epoch; None for at once."""
    if key is not None:
        check_text("ordering key", key)
    if delay is None and at is None:
        return None
    if key is not None:
        raise InvalidOption("delay", delay or at, "a message with an ordering key cannot be delayed")
    if at is not None:
        if delay is not None:
            raise InvalidOption("at", at, "give either at or delay")
        if at.tzinfo is None:
            raise InvalidOption("at", at, "a time needs a zone, as datetime.now(UTC) has")
        return at.timestamp()
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    return clock.time() + check_seconds("delay", seconds)


def check_text(what: str, text: object) -> None:
    """Refuse a sender or key that is not 1 to 512 characters of text."""
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_TEXT or "\0" in text:
        raise InvalidName(what, text, f"it must be 1 to {_MAX_TEXT} characters")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidName(what, text, "it holds a lone surrogate, which is no text") from None
