"""Bad input is refused before anything happens, the same on every store, and the bus stays usable."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from sssnbus import (
    BroadcastChannel,
    Bus,
    HandlerError,
    InvalidName,
    InvalidOption,
    InvalidTopic,
    InvalidURL,
    PayloadError,
    PayloadTooLarge,
    Retry,
    UsageError,
    WorkQueueChannel,
)
from tests.channels.tools import Recorder, data

NAMES = ["", ".", ".a", "-a", "a b", "a/b", "a!dead", "ü", "a\n", "a" * 513, None, 5, "a\0b"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_channel_names(name: Any) -> None:
    """A channel name that breaks the rule is refused when the channel is made."""
    with pytest.raises(InvalidName):
        BroadcastChannel(name)
    with pytest.raises(InvalidName):
        Bus().work_queue(name)


@pytest.mark.parametrize("name", NAMES, ids=repr)
async def test_consumer_names(bus: Bus, name: Any) -> None:
    """A consumer or worker name that breaks the rule is refused."""
    channel, queue = bus.broadcast("c"), bus.work_queue("q")
    with pytest.raises(InvalidName):
        channel.subscribe(name, Recorder())
    with pytest.raises(InvalidName):
        queue.subscribe(name, Recorder())
    with pytest.raises(InvalidName):
        queue.claim(name)
    with pytest.raises(InvalidName):
        await channel.read(name)
    with pytest.raises(InvalidName):
        await queue.read(name, exclusive=True)


def nested(depth: int) -> Any:
    """Return a list so deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "payload",
    [
        math.nan,
        math.inf,
        {"a": [-math.inf]},
        "\ud800",
        {"\udfff": 1},
        2**64,
        -(2**63) - 1,
        {1: 2},
        (1, 2),
        {1, 2},
        object,
        datetime(2024, 1, 1, tzinfo=UTC),
        1j,
        nested(65),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_payloads(bus: Bus, payload: Any) -> None:
    """What JSON cannot hold is refused at write and nothing is stored (BV-08)."""
    channel, queue, recorder = bus.broadcast("c"), bus.work_queue("q"), Recorder()
    await channel.subscribe("a", recorder)
    with pytest.raises(PayloadError, match="Content cannot be stored"):
        await channel.write("s", payload)
    with pytest.raises(PayloadError):
        await channel.write_many("s", [1, payload, 2])
    with pytest.raises(PayloadError):
        await queue.write("s", payload)
    with pytest.raises(PayloadError):
        await channel.write("s", 1, metadata={"x": payload})
    assert await channel.read("x") == []
    await channel.write("s", nested(64))
    assert len(recorder.messages) == 1


async def test_size(bus: Bus) -> None:
    """Size is UTF-8 bytes of a string, raw bytes of bytes, else of the JSON; too much is refused."""
    channel = bus.broadcast("c", max_payload=10)
    for payload in ("x" * 11, "üüüüüü", b"x" * 11, [1] * 6):
        with pytest.raises(PayloadTooLarge, match="maximum size of 10 bytes"):
            await channel.write("s", payload)
    for payload in ("x" * 10, "üüüüü", b"x" * 10, [1] * 4):
        await channel.write("s", payload)
    assert len(await channel.read("x")) == 4


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        ({"topic": "a..b"}, InvalidTopic),
        ({"topic": ""}, InvalidTopic),
        ({"topic": "a.*"}, InvalidTopic),
        ({"topic": "a b"}, InvalidTopic),
        ({"topic": 5}, InvalidTopic),
        ({"id": ""}, InvalidName),
        ({"id": "a b"}, InvalidName),
        ({"id": "x" * 129}, InvalidName),
        ({"id": 5}, InvalidName),
        ({"metadata": {"a": object}}, PayloadError),
        ({"metadata": {"a": "x" * 70_000}}, PayloadTooLarge),
        ({"correlation_id": 5}, PayloadError),
        ({"reply_to": "\ud800"}, PayloadError),
        ({"timeout": -1}, InvalidOption),
        ({"dedupe": ""}, InvalidName),
        ({"dedupe": "\0"}, InvalidName),
        ({"topik": "a.b"}, TypeError),
    ],
    ids=repr,
)
async def test_envelopes(bus: Bus, envelope: Any, error: type[Exception]) -> None:
    """A part of the envelope that breaks its rule, or that there is not, is refused; nothing is stored."""
    channel, queue = bus.broadcast("c"), bus.work_queue("q")
    for target in (channel, queue):
        with pytest.raises(error):
            await target.write("s", 1, **envelope)
    assert await channel.read("x") == []
    assert (await queue.statistics()).ready == 0
    await channel.write("s", 1)


@pytest.mark.parametrize("sender", ["", None, 5, "x" * 513, "\ud800", "a\0"], ids=repr)
async def test_senders(bus: Bus, sender: Any) -> None:
    """A sender is 1 to 512 characters of text."""
    channel = bus.broadcast("c")
    with pytest.raises(InvalidName, match="sender_id"):
        await channel.write(sender, 1)
    assert await channel.read("x") == []


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": math.nan},
        {"delay": 1, "key": "k"},
        {"delay": 1, "at": datetime(2024, 1, 1, tzinfo=UTC)},
        {"at": datetime(2024, 1, 1)},
        {"key": ""},
        {"key": 5},
        {"priority": 2**31},
        {"priority": 1.0},
        {"priority": True},
        {"timeout": -1},
    ],
    ids=repr,
)
async def test_queue_options(bus: Bus, options: Any) -> None:
    """An option of a queue's write that makes no sense is refused; nothing is stored."""
    queue = bus.work_queue("q")
    with pytest.raises(UsageError):
        await queue.write("s", 1, **options)
    with pytest.raises(UsageError):
        await queue.write_many("s", [1, 2], **options)
    assert (await queue.statistics()).ready == 0


@pytest.mark.parametrize(
    "options",
    [
        {"max_payload": 0},
        {"max_payload": 1.5},
        {"dedupe_window": -1},
        {"claim_timeout": 0},
        {"claim_timeout": -1},
        {"claim_timeout": math.inf},
        {"max_deliveries": 0},
        {"max_depth": 0},
    ],
    ids=repr,
)
def test_channel_options(options: Any) -> None:
    """An option that is out of range is refused when the channel is made."""
    with pytest.raises(InvalidOption):
        WorkQueueChannel("q", **options)


def test_unknown_option() -> None:
    """An option that there is not is refused when the channel is made."""
    with pytest.raises(TypeError):
        Bus().broadcast("c", retenti0n=None)  # type: ignore[call-arg]  # that is the point


@pytest.mark.parametrize(
    "url",
    [
        "",
        "events.db",
        "sqlite://host/x.db",
        "sqlite:///",
        "memory://x",
        "postgresql://h",
        "x://y",
        "sqlite:///x?a=b",
    ],
)
def test_urls(url: str) -> None:
    """A URL that cannot be understood is refused by whoever is given it, before any I/O."""
    with pytest.raises(InvalidURL):
        Bus(url)
    with pytest.raises(InvalidURL):
        BroadcastChannel("c", store=url)


async def test_ids_of_many(bus: Bus) -> None:
    """One id cannot name several messages."""
    for target in (bus.broadcast("c"), bus.work_queue("q")):
        with pytest.raises(InvalidOption, match="several"):
            await target.write_many("s", [1, 2], id="x")


@pytest.mark.parametrize("limit", [0, -1, 1.5, True], ids=repr)
async def test_limits(bus: Bus, limit: Any) -> None:
    """A limit is a whole number from 1."""
    with pytest.raises(InvalidOption):
        await bus.broadcast("c").read("x", limit=limit)
    with pytest.raises(InvalidOption):
        await bus.work_queue("q").read("x", limit=limit, exclusive=True)


@pytest.mark.parametrize("topic", ["", "a..b", "a.>.b", "a b", ["a", ""]], ids=repr)
async def test_patterns(bus: Bus, topic: Any) -> None:
    """A pattern that breaks the rules is refused at subscribe."""
    channel = bus.broadcast("c")
    with pytest.raises(InvalidTopic):
        channel.subscribe("a", Recorder(), topic=topic)
    with pytest.raises(InvalidOption):
        channel.subscribe("a", Recorder(), topic="a", syntax="mqtt")  # type: ignore[arg-type]  # the point
    await channel.write("s", 1)
    assert [data(m) for m in await channel.read("x")] == [1]


async def test_evict_options(bus: Bus) -> None:
    """Evicting goes by times with a zone and by whole numbers."""
    channel = bus.broadcast("c")
    with pytest.raises(InvalidOption):
        await channel.evict(before=datetime(2024, 1, 1))
    with pytest.raises(InvalidOption):
        await channel.evict(max_count=-1)


@pytest.mark.parametrize("items", ["abc", b"abc", {"a": 1}, 5], ids=repr)
async def test_items_are_a_list(bus: Bus, items: Any) -> None:
    """A lone value is not taken for the list of its parts."""
    channel, queue = bus.broadcast("events"), bus.work_queue("jobs")
    for write_many in (channel.write_many, queue.write_many):
        with pytest.raises(InvalidOption, match="items"):
            await write_many("service", items)
    assert (await channel.statistics()).messages == (await queue.statistics()).ready == 0


async def test_dead_letters_want_ids(bus: Bus) -> None:
    """A lone id is not taken for the list of its letters."""
    channel = bus.broadcast("events")
    for verb in (channel.dead_letters.redrive, channel.dead_letters.purge, channel.remove):
        with pytest.raises(InvalidOption, match="ids"):
            await verb("abc")


async def test_options_that_mean_nothing(bus: Bus) -> None:
    """What would be ignored is refused."""
    channel, queue = bus.broadcast("events"), bus.work_queue("jobs")
    for options in ({"standby": True}, {"retry": Retry()}, {"timeout": 1.0}):
        with pytest.raises(InvalidOption):
            channel.subscribe("a", **options)
    with pytest.raises(InvalidOption, match="batch"):
        queue.subscribe("w", batch=5)
    with pytest.raises(InvalidOption, match="retention"):
        BroadcastChannel("events", retention=100)  # type: ignore[arg-type]  # wrong on purpose


async def test_handler_takes_a_message(bus: Bus) -> None:
    """A callback that has no place for the message is refused at once, not at every message."""

    async def nothing() -> None: ...

    with pytest.raises(HandlerError):
        bus.broadcast("events").subscribe("a", nothing)  # type: ignore[arg-type]  # wrong on purpose
