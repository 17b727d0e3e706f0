"""What a channel accepts comes back equal and of the same type; all else is refused before it is stored."""

import json
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_core import to_json

from sssnbus.errors import InvalidName, MessageCorrupt, PayloadError, PayloadTooLarge
from sssnbus.message import (
    MAX_HEADERS,
    BytesContent,
    ChannelMessage,
    GenericContent,
    MessageContent,
    UnknownContent,
    decode_content,
    encode_content,
    encode_headers,
    to_message,
)
from sssnbus.stored import MAX_PAYLOAD, Receipt, Stored, check_id, check_name, checksum, encode_text

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


class Colour(StrEnum):
    """A field type with a fixed set of values."""

    RED = "red"


class Inner(BaseModel):
    """A model inside a content."""

    price: Decimal
    tags: frozenset[str] = frozenset()


class Order(MessageContent):
    """A content with the field types that people use."""

    id: UUID = UUID(int=7)
    at: datetime
    day: date = date(2024, 2, 29)
    took: timedelta = timedelta(days=1, microseconds=1)
    amount: Decimal = Decimal("0.10")
    raw: bytes = b"\xff\x00"
    colour: Colour = Colour.RED
    parts: list[Inner] = Field(default_factory=list)
    pair: tuple[int, str] = (1, "ä")
    by_name: str = Field(default="x", alias="byName")
    note: str | None = None


class Old(MessageContent):
    """A content whose messages carry another name than the class."""

    type_name: ClassVar[str] = "order.v1"

    n: int


class Loose(MessageContent):
    """A content that lets anything in."""

    value: Any


class Picky(MessageContent):
    """A content whose own check fails in a way of its own."""

    n: int

    @field_validator("n")
    @classmethod
    def small(cls, n: int) -> int:
        """Refuse with an error that pydantic does not turn into one of its own."""
        if n > 9:
            raise LookupError("too large")
        return n


def identical(left: object, right: object) -> bool:
    """Return whether two values are equal in value and type all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(identical(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(identical, left, right))
    return repr(left) == repr(right)


def stored(content: object, *, metadata: dict[str, Any] | None = None, **changes: Any) -> Stored:
    """Return a message as a store gives it back."""
    kind, body = encode_content(content)
    headers = encode_headers(metadata)
    crc = checksum("writer", "a.b", kind, headers, body)
    row = Stored("1", 1, 5.0, "writer", "a.b", kind, headers, body, crc)
    return row._replace(**changes)


def refused(value: object) -> str:
    """Return the path and rule with which a value is refused."""
    with pytest.raises(PayloadError) as caught:
        encode_content(value)
    return f"{caught.value.path} {caught.value.rule}"


def nested(depth: int, leaf: object = None) -> object:
    """Return a value inside so many lists and dicts."""
    for level in range(depth):
        leaf = [leaf] if level % 2 else {"k": leaf}
    return leaf


@given(json_values)
@settings(max_examples=300)
def test_json_values_come_back(value: object) -> None:
    """Every JSON value comes back equal and of the same type (BV-06, BV-07, BV-10, SB-120)."""
    kind, body = encode_content(value)
    content = decode_content(kind, body)
    assert isinstance(content, GenericContent)
    assert identical(content.data, value)
    assert encode_content(content) == (kind, body)


@pytest.mark.parametrize(
    "value",
    [
        -0.0,
        5e-324,
        1.7976931348623157e308,
        1e16,
        0.1 + 0.2,
        2**64 - 1,
        -(2**63),
        "\0",
        "\ud7ff\ue000",
        "",
        {},
        [],
    ],
    ids=repr,
)
def test_edges_come_back(value: object) -> None:
    """The edges of what is accepted come back as well."""
    content = decode_content(*encode_content({"": [value]}))
    assert isinstance(content, GenericContent)
    assert identical(content.data, {"": [value]})


@given(st.text() | st.text('\x00\x1f\x7f\\"/é\u2028\U0001f600'))
def test_text_is_encoded_alike(value: str) -> None:
    """The short way that text takes gives the bytes that every other JSON value would get."""
    assert encode_text(value, MAX_PAYLOAD) == to_json(value)


@given(st.binary(max_size=300))
def test_bytes_come_back(value: bytes) -> None:
    """Bytes travel as they are (FX-22)."""
    assert encode_content(value) == ("bytes", value)
    assert decode_content("bytes", value) == BytesContent(data=value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "content is not a finite number"),
        ([1, float("inf")], "content[1] is not a finite number"),
        ({"a": -float("inf")}, "content['a'] is not a finite number"),
        ("\ud800", "content holds a lone surrogate, which is no text"),
        ({"a": ["x", "\udfff"]}, "content['a'][1] holds a lone surrogate, which is no text"),
        ({"a\ud800": 1}, r"content['a\ud800'] holds a lone surrogate, which is no text"),
        (2**64, "content is an int of more than 64 bits"),
        ({"a": {"b": -(2**63) - 1}}, "content['a']['b'] is an int of more than 64 bits"),
        ({1: "a"}, "content has the key 1, which is not a str"),
        ({"a": {None: 1}}, "content['a'] has the key None, which is not a str"),
        ({"a": b"x"}, "content['a'] is bytes, which JSON cannot hold"),
        ([(1, 2)], "content[0] is tuple, which JSON cannot hold"),
        ((1, 2), "content is tuple, which JSON cannot hold"),
        ({1, 2}, "content is set, which JSON cannot hold"),
        ({"a": object}, "content['a'] is type, which JSON cannot hold"),
        (Colour.RED, "content is Colour, which JSON cannot hold"),
        ({Colour.RED: 1}, "is not a str"),
        (bytearray(b"x"), "content is bytearray, which JSON cannot hold"),
        (Inner(price=Decimal(1)), "content is Inner, which JSON cannot hold"),
        (datetime(2024, 1, 1, tzinfo=UTC), "content is datetime, which JSON cannot hold"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_refusals_name_the_path(value: object, expected: str) -> None:
    """What JSON would lose or change is refused, and the error says where it is (BV-08)."""
    assert expected in refused(value)
    assert expected in refused(GenericContent(data=value))


def test_nesting_is_bounded() -> None:
    """Lists and dicts nest 64 deep at most; so do cycles, which never end."""
    deep = nested(64)
    content = decode_content(*encode_content(deep))
    assert isinstance(content, GenericContent)
    assert content.data == deep
    assert "nests deeper than 64 levels" in refused(nested(65))
    cycle: list[object] = []
    cycle.append(cycle)
    assert "nests deeper than 64 levels" in refused(cycle)


@pytest.mark.parametrize(
    ("fits", "too_large", "size"),
    [
        ("ä" * 50, "ä" * 50 + "x", 101),
        ('"' * 100, '"' * 101, 101),
        (b"x" * 100, b"x" * 101, 101),
        (BytesContent(data=b"x" * 100), BytesContent(data=b"x" * 101), 101),
        (["x" * 96], ["x" * 97], 101),
        ({"k": "x" * 92}, {"k": "x" * 93}, 101),
        (Loose(value="x" * 88), Loose(value="x" * 89), 101),
        (UnknownContent(type="T", data="x" * 98), UnknownContent(type="T", data="x" * 99), 101),
    ],
    ids=lambda value: type(value).__name__,
)
def test_size_limit(fits: object, too_large: object, size: int) -> None:
    """The limit counts UTF-8 of a str, raw bytes, else the JSON; it is met exactly (SB-122)."""
    encode_content(fits, limit=100)
    with pytest.raises(PayloadTooLarge, match="exceeds maximum size of 100 bytes") as caught:
        encode_content(too_large, limit=100)
    assert (caught.value.size, caught.value.limit) == (size, 100)


def test_default_size_limit() -> None:
    """Ten MiB are accepted, one byte more is not."""
    assert MAX_PAYLOAD == 10 * 1024 * 1024
    encode_content("x" * MAX_PAYLOAD)
    with pytest.raises(PayloadTooLarge):
        encode_content("x" * (MAX_PAYLOAD + 1))


def test_typed_content_comes_back() -> None:
    """A content class comes back as that class, with fields that JSON does not have (SN-10)."""
    order = Order(
        at=datetime(2024, 5, 1, 12, 30, 0, 123456, tzinfo=UTC),
        parts=[Inner(price=Decimal("1.50"), tags=frozenset({"a", "ü"}))],
        byName="alias",
    )
    kind, body = encode_content(order)
    assert kind == "Order"
    again = decode_content(kind, body)
    assert type(again) is Order
    assert again == order
    assert repr(again.amount) == "Decimal('0.10')"


def test_type_name_travels() -> None:
    """A class is known by its ``type_name``, so it can be renamed without losing its messages."""
    kind, body = encode_content(Old(n=1))
    assert kind == "order.v1"
    assert decode_content(kind, body) == Old(n=1)


def test_subclasses_of_the_built_in_contents_come_back() -> None:
    """Classes made from the built-in contents keep their own type and fields."""

    class Picture(BytesContent):
        format: str

    class Event(GenericContent):
        type_name: ClassVar[str] = "test.Event"

        level: int = 0

    class Guess(UnknownContent):
        type_name: ClassVar[str] = "test.Guess"

    for content in (Picture(data=b"\xff", format="png"), Event(data=[1], level=2), Guess(type="T", data={})):
        again = decode_content(*encode_content(content))
        assert type(again) is type(content)
        assert again == content


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), (1, 2), {1}, Decimal("1.0"), object, "\ud800", nested(300)],
    ids=lambda value: ascii(value)[:30],
)
def test_typed_content_that_changes_is_refused(value: object) -> None:
    """A field that would come back as something else, or not at all, is refused at once."""
    assert "Loose" in refused(Loose(value=value))


def test_infinity_in_a_float_field_is_refused() -> None:
    """Infinities are refused in typed fields too, since not every reader of JSON takes them."""

    class Measure(MessageContent):
        x: float

    assert "Measure" in refused(Measure(x=float("inf")))
    assert decode_content(*encode_content(Measure(x=1e308))) == Measure(x=1e308)


def test_hidden_field_is_refused() -> None:
    """A field that is left out of the JSON, and is not its default, is refused."""

    class Hidden(MessageContent):
        secret: int = Field(default=0, exclude=True)

    assert decode_content(*encode_content(Hidden())) == Hidden()
    assert "does not read back equal" in refused(Hidden(secret=1))


def test_unknown_content_is_passed_on_unchanged() -> None:
    """Content of a class that this program lacks keeps its name and its bytes."""
    body = b'{"z":1,"a":[1.0,"\xc3\xa4"],"n":null}'
    content = decode_content("not.defined.here", body)
    assert content == UnknownContent(type="not.defined.here", data={"z": 1, "a": [1.0, "ä"], "n": None})
    assert encode_content(content) == ("not.defined.here", body)


def test_ambiguous_type_names() -> None:
    """Two classes under one name are told at write; read gives unknown content, unless the channel chose."""

    def make(extra: str) -> type[MessageContent]:
        class Twin(MessageContent):
            """One of two."""

        Twin.__doc__ = extra
        return Twin

    first, second = make("first"), make("second")
    assert "type_name 'Twin' does not tell it from others" in refused(first())
    assert isinstance(decode_content("Twin", b"{}"), UnknownContent)
    assert type(decode_content("Twin", b"{}", {second.type_name: second})) is second


def test_the_bare_base_class_is_no_content() -> None:
    """``MessageContent`` itself has no name to travel under."""
    assert "set a type_name" in refused(MessageContent())


def test_damaged_messages_never_come_back_altered() -> None:
    """After a flip of any single bit a message is told as damaged; it is never decoded to another one."""
    whole = stored({"amount": 100, "to": "ä" * 20}, metadata={"trace": "x" * 20})
    expected = to_message("c", whole)
    dice = random.Random(20240501)
    for _ in range(300):
        name = dice.choice(["sender_id", "topic", "type", "headers", "body", "crc"])
        changes: dict[str, Any] = {name: _flipped(getattr(whole, name), dice)}
        with pytest.raises(MessageCorrupt) as caught:
            to_message("c", whole._replace(**changes))
        assert (caught.value.channel, caught.value.sequence) == ("c", 1)
    assert to_message("c", whole) == expected


def _flipped(value: object, dice: random.Random) -> object:
    if isinstance(value, int):
        return value ^ (1 << dice.randrange(32))
    assert isinstance(value, str | bytes)
    data = bytearray(value.encode() if isinstance(value, str) else value)
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    # A store gives text back as text; what is no UTF-8 any more comes with replacement characters.
    return data.decode("utf-8", "replace") if isinstance(value, str) else bytes(data)


@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("json", b"{"),
        ("json", b"NaN"),
        ("json", b"[" * 500),
        ("Order", b'{"at":1}x'),
        ("Order", b'{"at":"never, says the secret"}'),
        ("Picky", b'{"n":10}'),
        ("nobody.knows", b"\xff"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_unreadable_content_is_corrupt(type: str, body: bytes) -> None:
    """Bytes that are no content of their type are told as damage, without their text."""
    row = Stored("1", 7, 5.0, "w", None, type, b"", body, checksum("w", None, type, b"", body))
    with pytest.raises(MessageCorrupt, match="Message 7 of channel 'c' is damaged") as caught:
        to_message("c", row)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("headers", [b"[]", b'{"metadata":3}', b"{"])
def test_unreadable_headers_are_corrupt(headers: bytes) -> None:
    """Headers that are none are told as damage."""
    row = stored(1)
    crc = checksum(row.sender_id, row.topic, row.type, headers, row.body)
    with pytest.raises(MessageCorrupt):
        to_message("c", row._replace(headers=headers, crc=crc))


def test_headers_cannot_take_the_place_of_the_rest() -> None:
    """What stands in the message's own fields is not overruled by its headers."""
    row = stored(1)
    headers = b'{"id":"2","sequence":9,"sender_id":"x","topic":"y","content":3,"timestamp":0}'
    crc = checksum(row.sender_id, row.topic, row.type, headers, row.body)
    assert to_message("c", row._replace(headers=headers, crc=crc)) == to_message("c", row)


def test_the_envelope_comes_back() -> None:
    """Every part of the envelope comes back (SN-08, SN-10, BV-40)."""
    headers = encode_headers({"a": [1]}, "corr", "replies", "someone")
    kind, body = encode_content({"type": "user.login"})
    crc = checksum("service", "user.login", kind, headers, body)
    row = Stored("17", 3, 1.5, "service", "user.login", kind, headers, body, crc)
    assert to_message("c", row) == ChannelMessage(
        id="17",
        sequence=3,
        timestamp=1.5,
        sender_id="service",
        content={"type": "user.login"},
        topic="user.login",
        metadata={"a": [1]},
        correlation_id="corr",
        reply_to="replies",
        recipient_id="someone",
    )


def test_the_barest_message_comes_back() -> None:
    """What was left out is left out again."""
    row = Stored("1", 1, 5.0, "w", None, "json", b"", b"null", checksum("w", None, "json", b"", b"null"))
    message = to_message("c", row)
    assert (message.topic, message.metadata, message.reply_to) == (None, {}, None)
    assert message.content == GenericContent(data=None)


def test_plain_values_are_wrapped() -> None:
    """A message holds contents only: plain data is wrapped, contents stay what they are (SN-10)."""
    assert ChannelMessage.model_validate({"content": [1]}).content == GenericContent(data=[1])
    assert ChannelMessage(content=Old(n=1)).content == Old(n=1)


def test_messages_are_frozen_and_hashable() -> None:
    """Messages cannot be changed, and can be members of sets (SN-09)."""
    message = to_message("c", stored({"a": 1}))
    with pytest.raises(ValidationError):
        message.id = "2"
    with pytest.raises(ValidationError):
        message.content.data = 2
    assert len({message, to_message("c", stored({"a": 1}))}) == 1


def test_headers_are_checked() -> None:
    """Metadata and addresses follow the rules of contents and have a limit of their own (FX-23)."""
    assert encode_headers(None) == encode_headers({}) == b""
    with pytest.raises(PayloadError, match=r"metadata\['a'\]\[0\] is bytes"):
        encode_headers({"a": [b""]})
    with pytest.raises(PayloadError, match="reply_to is int, not str"):
        encode_headers(None, reply_to=3)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(PayloadError, match="correlation_id holds a lone surrogate"):
        encode_headers(None, correlation_id="\ud800")
    room = MAX_HEADERS - len(b'{"metadata":{"a":""}}')
    assert len(encode_headers({"a": "x" * room})) == MAX_HEADERS
    with pytest.raises(PayloadTooLarge, match="metadata has 65537 bytes"):
        encode_headers({"a": "x" * (room + 1)})


def test_receipt_is_the_id() -> None:
    """What write returns is the id as text, and tells where the message stands (SN-11)."""
    receipt = Receipt("17", 3, True, "disk")
    assert receipt == "17"
    assert hash(receipt) == hash("17")
    assert json.loads(json.dumps([receipt])) == ["17"]
    assert (receipt.sequence, receipt.duplicate, receipt.durability) == (3, True, "disk")


@pytest.mark.parametrize("name", ["a", "_x", "0", "a.b-c_d", "A" * 512, "a..b", "a."])
def test_good_names(name: str) -> None:
    """Names of letters, digits, periods, underscores and hyphens are accepted (SB-121)."""
    assert check_name("queue name", name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".a", "-a", "a/b", "../x", "a b", "a\n", "a\0", "*", ">", "ä", "а", "e\u0301", "😀", "\u202ea", "%s",
     "'; DROP TABLE x", "$SYS", "a!dead", "@a", "A" * 513, None, 1, b"a"],
    ids=ascii,
)  # fmt: skip
def test_bad_names(name: object) -> None:
    """All other names are refused, and the error cannot forge a line of a log (SB-121)."""
    with pytest.raises(InvalidName, match="Invalid queue name") as caught:
        check_name("queue name", name)
    assert "\n" not in str(caught.value)
    if name == "A" * 513:
        assert "exceeds 512 characters" in str(caught.value)


@given(st.text(max_size=10))
def test_any_name(name: str) -> None:
    """The rule for names is the one that is written down, for any text."""
    ascii_only = all(char.isascii() and (char.isalnum() or char in "._-") for char in name)
    good = bool(name) and ascii_only and name[0] not in ".-"
    try:
        assert check_name("name", name) == name
    except InvalidName:
        assert not good
    else:
        assert good


def test_ids() -> None:
    """Given ids are 1 to 128 of a few characters."""
    for id in ("1", "a:b", "x" * 128, ".-_:"):
        assert check_id(id) == id
    for bad in ("", "x" * 129, "a b", "ä", "a\n", "a/b", 1, None):
        with pytest.raises(InvalidName, match="message id"):
            check_id(bad)
