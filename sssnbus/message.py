"""The message as users see it: an envelope with its content, and how both are encoded."""

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final
from weakref import WeakSet

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from sssnbus.errors import MessageCorrupt, PayloadError, PayloadTooLarge, UsageError
from sssnbus.stored import MAX_PAYLOAD, Stored, checksum, encode_text

MAX_HEADERS: Final = 64 * 1024
"""The limit of a message's metadata and addresses together, in bytes of JSON."""

MAX_DEPTH: Final = 64
"""How deep lists and dicts may nest. JSON readers give up at about 200."""


class MessageContent(BaseModel):
    """The base of typed payloads: subclass it with the fields you send.

    Messages carry the name of the class (or its ``type_name``), and every store gives them back as
    that class. Give ``type_name`` when two classes share a name, or to rename a class later.
    """

    model_config = ConfigDict(
        frozen=True, ser_json_bytes="base64", val_json_bytes="base64", hide_input_in_errors=True
    )

    type_name: ClassVar[str]
    """The name that travels with the message; the class's own name unless set."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "type_name" not in cls.__dict__:
            cls.type_name = cls.__name__
        _registry.setdefault(cls.type_name, WeakSet()).add(cls)


_registry: dict[str, WeakSet[type[MessageContent]]] = {}


class GenericContent(MessageContent):
    """Any JSON value; what ``write`` wraps around plain data."""

    type_name: ClassVar[str] = "json"

    data: Any = None


class BytesContent(MessageContent):
    """Raw bytes, stored as they are."""

    type_name: ClassVar[str] = "bytes"

    data: bytes


class UnknownContent(MessageContent):
    """Content of a class that this program has not defined, kept whole so that it can be passed on."""

    type_name: ClassVar[str] = "unknown"

    type: str
    """The ``type_name`` that the writer used."""
    data: Any
    """The fields as JSON values."""


def _as_content(value: object) -> object:
    return value if isinstance(value, MessageContent) else GenericContent(data=value)


class ChannelMessage(BaseModel):
    """One message as a subscriber, reader or worker sees it. Immutable; equal ids hash alike."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    id: str = ""
    """Who the message is: unique in its channel, kept by moves and dumps."""
    sequence: int = 0
    """Where the message stands: strictly increasing in commit order in its channel."""
    timestamp: float = Field(default_factory=time.time)
    """When it was written, in seconds since the Unix epoch by the writer's clock."""
    sender_id: str = ""
    content: Annotated[Any, BeforeValidator(_as_content)]
    """A ``MessageContent``; of plain data a ``GenericContent``, whose ``data`` it is."""
    topic: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    correlation_id: str | None = None
    reply_to: str | None = None
    recipient_id: str | None = None

    def __hash__(self) -> int:
        return hash(self.id)


# The models' own validators, without the detour through keyword arguments: half the time.
_generic_content: Callable[[Any], GenericContent] = GenericContent.__pydantic_validator__.validate_python
_channel_message: Callable[[Any], ChannelMessage] = ChannelMessage.__pydantic_validator__.validate_python


def encode_content(value: object, limit: int = MAX_PAYLOAD) -> tuple[str, bytes]:
    """Return the type name and the bytes that stand for a value.

    Raises:
        PayloadError: JSON cannot hold the value so that it reads back equal and of the same type.
        PayloadTooLarge: it is larger than ``limit`` bytes.
    """
    if isinstance(value, MessageContent):
        kind = type(value)
        if kind is not GenericContent:
            return _encode_typed(value, limit)
        value = value.__dict__["data"]
    if type(value) is bytes:
        return _encode_typed(BytesContent(data=value), limit)
    if type(value) is str:
        return "json", encode_text(value, limit)
    _check(value, "content")
    body = to_json(value)
    if len(body) > limit:
        raise PayloadTooLarge(len(body), limit)
    return "json", body


def decode_content(
    type: str, body: bytes, types: Mapping[str, type[MessageContent]] | None = None
) -> MessageContent:
    """Return the content that ``encode_content`` took apart.

    Args:
        type: The type name that travelled with it.
        body: The encoded content.
        types: Classes that a channel prefers to those defined elsewhere under the same name.

    Raises:
        ValueError: The bytes are no content of that type.
    """
    if type == "json":
        return _generic_content({"data": from_json(body, allow_inf_nan=False)})
    if type == "bytes":
        return BytesContent(data=body)
    kind = types.get(type) if types else None
    if kind is None:
        known = _registry.get(type)
        if known is None or len(known) != 1:
            return UnknownContent(type=type, data=from_json(body, allow_inf_nan=False))
        (kind,) = known
    return kind.model_validate_json(body, by_name=True)


def encode_headers(
    metadata: Mapping[str, Any] | None,
    correlation_id: str | None = None,
    reply_to: str | None = None,
    recipient_id: str | None = None,
) -> bytes:
    """Return the bytes of the envelope's less used parts; empty when there are none."""
    headers: dict[str, Any] = {}
    if metadata:
        if not isinstance(metadata, Mapping):
            raise PayloadError("metadata", f"is {type(metadata).__name__}, not a dict")
        headers["metadata"] = metadata = dict(metadata)
        _check(metadata, "metadata")
    for name, value in (
        ("correlation_id", correlation_id),
        ("reply_to", reply_to),
        ("recipient_id", recipient_id),
    ):
        if value is not None:
            if type(value) is not str:
                raise PayloadError(name, f"is {type(value).__name__}, not str")
            _check(value, name)
            headers[name] = value
    if not headers:
        return b""
    encoded = to_json(headers)
    if len(encoded) > MAX_HEADERS:
        raise PayloadTooLarge(len(encoded), MAX_HEADERS, "metadata")
    return encoded


def to_message(
    channel: str, stored: Stored, types: Mapping[str, type[MessageContent]] | None = None
) -> ChannelMessage:
    """Return the message that a store kept.

    Raises:
        MessageCorrupt: The checksum is wrong, or the bytes are no content of their type.
    """
    id, sequence, timestamp, sender_id, topic, kind, headers, body, crc, _, _ = stored
    if crc != checksum(sender_id, topic, kind, headers, body):
        raise MessageCorrupt(channel, sequence, "its checksum does not match")
    try:
        fields = from_json(headers) if headers else {}
        fields["id"] = id
        fields["sequence"] = sequence
        fields["timestamp"] = timestamp
        fields["sender_id"] = sender_id
        fields["content"] = decode_content(kind, body, types)
        if topic is not None:
            fields["topic"] = topic
        return _channel_message(fields)
    except Exception as exc:
        # Not only ValueError: a content class may have checks of its own, which raise what they like.
        reason = f"its content is no {kind!r}"
        if isinstance(exc, ValidationError):
            reason += f" ({exc.error_count()} validation errors)"
        raise MessageCorrupt(channel, sequence, reason) from exc


def _encode_typed(content: MessageContent, limit: int) -> tuple[str, bytes]:
    kind = type(content)
    # Their subclasses have fields of their own and travel as other classes do.
    if type(content) is BytesContent:
        if len(content.data) > limit:
            raise PayloadTooLarge(len(content.data), limit)
        return "bytes", content.data
    if type(content) is UnknownContent:
        _check(content.data, "content")
        body = to_json(content.data)
        if len(body) > limit:
            raise PayloadTooLarge(len(body), limit)
        return content.type, body
    if kind is MessageContent or len(_registry.get(kind.type_name, ())) > 1:
        raise PayloadError(
            "content",
            f"is of class {kind.__qualname__}, whose type_name {getattr(kind, 'type_name', '')!r} does "
            "not tell it from others; set a type_name of its own on each class",
        )
    try:
        body = to_json(content, bytes_mode="base64", by_alias=False)
        same = kind.model_validate_json(body, by_name=True) == content
    except (PydanticSerializationError, ValidationError, ValueError) as exc:
        raise PayloadError("content", f"({kind.__name__}) does not survive JSON") from exc
    if not same:
        raise PayloadError("content", f"({kind.__name__}) does not read back equal from JSON")
    if len(body) > limit:
        raise PayloadTooLarge(len(body), limit)
    return kind.type_name, body


def _check(value: object, name: str) -> None:
    """Refuse what JSON would lose or change; the error names the path of the value."""
    try:
        _check_value(value, MAX_DEPTH)
    except _Refused as exc:
        raise PayloadError(name + "".join(reversed(exc.path)), exc.rule) from None


class _Refused(UsageError):
    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.path: list[str] = []


def _check_value(value: object, depth: int) -> None:
    kind = type(value)
    if kind is str:
        if not value.isascii():  # type: ignore[attr-defined]  # the exact type was compared
            _check_text(value)  # type: ignore[arg-type]  # the exact type was compared
    elif kind is dict:
        _check_dict(value, depth)  # type: ignore[arg-type]  # the exact type was compared
    elif kind is int:
        if not -(2**63) <= value < 2**64:  # type: ignore[operator]  # the exact type was compared
            raise _Refused("is an int of more than 64 bits")
    elif kind is list:
        _check_list(value, depth)  # type: ignore[arg-type]  # the exact type was compared
    elif kind is float:
        if value - value != 0.0:  # type: ignore[operator]  # NaN and both infinities fail this
            raise _Refused("is not a finite number")
    elif value is not None and kind is not bool:
        raise _Refused(
            f"is {kind.__name__}, which JSON cannot hold; use str, int, float, bool, None, list or "
            "dict, or a MessageContent subclass"
        )


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Refused("holds a lone surrogate, which is no text") from None


def _check_dict(value: dict[object, object], depth: int) -> None:
    if not depth:
        raise _Refused(f"nests deeper than {MAX_DEPTH} levels")
    for key, item in value.items():
        if type(key) is not str:
            raise _Refused(f"has the key {key!r:.40}, which is not a str")
        try:
            if not key.isascii():
                _check_text(key)
            if type(item) is not str or not item.isascii():
                _check_value(item, depth - 1)
        except _Refused as exc:
            exc.path.append(f"[{key!r}]")
            raise


def _check_list(value: list[object], depth: int) -> None:
    if not depth:
        raise _Refused(f"nests deeper than {MAX_DEPTH} levels")
    for index, item in enumerate(value):
        try:
            _check_value(item, depth - 1)
        except _Refused as exc:
            exc.path.append(f"[{index}]")
            raise
