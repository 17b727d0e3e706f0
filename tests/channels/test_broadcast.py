"""The broadcast channel: every subscriber gets every message."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import sssnbus
from sssnbus import (
    BroadcastChannel,
    Bus,
    BytesContent,
    ChannelMessage,
    Gap,
    GenericContent,
    HandlerError,
    MessageConflict,
    MessageContent,
    NotStarted,
    Receipt,
)
from tests.channels.tools import Failing, Recorder, data, python


class Login(MessageContent):
    """A typed payload."""

    type_name = "tests.broadcast.login"

    user: str
    at: datetime


async def test_created_by_id_and_name() -> None:
    """A channel is made with the keywords id and name (SN-01)."""
    channel = BroadcastChannel(id="events", name="Event Bus")
    assert (channel.id, channel.name) == ("events", "Event Bus")
    assert BroadcastChannel("events").name == "events"


async def test_start_makes_it_ready(store_url: str) -> None:
    """After start a channel on its own takes messages (SN-02, BV-01)."""
    channel = BroadcastChannel(id="events", name="Event Bus", store=store_url)
    await channel.start()
    assert await channel.write("service", 1)
    await channel.stop()


async def test_writing_before_start() -> None:
    """Writing before start is refused with words that say what to do (SN-03)."""
    channel = BroadcastChannel(id="events")
    with pytest.raises(NotStarted, match=r"not started.*await start\(\)"):
        await channel.write("service", 1)
    with pytest.raises(RuntimeError):
        await channel.read("carol")


def test_import_surface() -> None:
    """The channel and the message come from the top of the package (SN-04)."""
    assert sssnbus.BroadcastChannel is BroadcastChannel
    assert sssnbus.ChannelMessage is ChannelMessage


def test_whole_program() -> None:
    """Three subscribers, four metrics: twelve lines, and the program ends by itself (SN-05, SN-35, SN-36)."""
    ended = python(
        """
        import asyncio
        from sssnbus import BroadcastChannel, ChannelMessage

        async def main():
            log = []
            bus = BroadcastChannel(id="metrics", name="Metrics")
            await bus.start()
            for name in ("dashboard", "alerting", "archiver"):
                async def handler(message: ChannelMessage, name=name):
                    log.append((name, message.content.data["value"]))
                await bus.subscribe(name, handler)
            for value in range(4):
                await bus.write("monitor", {"type": "cpu", "value": value})
            assert len(log) == 12, log
            for name in ("dashboard", "alerting", "archiver"):
                assert [value for who, value in log if who == name] == [0, 1, 2, 3]
            await bus.stop()
            assert len(asyncio.all_tasks()) == 1
            print("done")

        asyncio.run(main())
        """
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


async def test_handler_gets_one_message(bus: Bus) -> None:
    """A handler is called with one ChannelMessage, whose content holds the value written (SN-06, SN-07)."""
    recorder = Recorder()
    channel = bus.broadcast("events")
    await channel.subscribe("a", recorder)
    await channel.write("service", {"type": "user.login"})
    (message,) = recorder.messages
    assert type(message) is ChannelMessage
    assert message.content.data["type"] == "user.login"


async def test_envelope(bus: Bus) -> None:
    """A message carries who, when, where and what for; all of it comes back from the store (SN-08, BV-40)."""
    channel = bus.broadcast("events")
    before = datetime.now(UTC).timestamp()
    id = await channel.write(
        "service",
        {"n": 1},
        topic="user.login",
        metadata={"trace": "x", "n": [1, None]},
        correlation_id="c",
        reply_to="replies",
        recipient_id="carol",
    )
    (message,) = await channel.read("carol")
    assert message.id == id
    assert message.sequence == id.sequence == 1
    assert before <= message.timestamp <= datetime.now(UTC).timestamp()
    assert message.model_dump(exclude={"id", "sequence", "timestamp", "content"}) == {
        "sender_id": "service",
        "topic": "user.login",
        "metadata": {"trace": "x", "n": [1, None]},
        "correlation_id": "c",
        "reply_to": "replies",
        "recipient_id": "carol",
    }


async def test_message_is_frozen(bus: Bus) -> None:
    """A message cannot be changed, and can be a key and a member (SN-09)."""
    channel = bus.broadcast("events")
    await channel.write("service", {"n": 1})
    (message,) = await channel.read("carol")
    with pytest.raises(ValueError, match="frozen"):
        message.sender_id = "other"
    assert {message: 1}[message] == 1
    assert len({message, message}) == 1


async def test_contents(bus: Bus) -> None:
    """Typed content keeps its class, bytes stay bytes, all else is wrapped (SN-10)."""
    channel = bus.broadcast("events")
    login = Login(user="ann", at=datetime(2024, 1, 15, tzinfo=UTC))
    for item in (login, b"\x00\xff", {"n": 1}):
        await channel.write("service", item)
    contents = [message.content for message in await channel.read("carol")]
    assert contents == [login, BytesContent(data=b"\x00\xff"), GenericContent(data={"n": 1})]
    assert [type(content) for content in contents] == [Login, BytesContent, GenericContent]


async def test_ready_message(bus: Bus) -> None:
    """A ready ChannelMessage may be written; its envelope and id go with it (SN-10)."""
    channel = bus.broadcast("events")
    message = ChannelMessage(id="my-1", content=GenericContent(data=5), topic="a.b", metadata={"k": 1})
    assert await channel.write("service", message, topic="c.d") == "my-1"
    (stored,) = await channel.read("carol")
    assert (stored.id, stored.topic, stored.metadata, data(stored)) == ("my-1", "c.d", {"k": 1}, 5)
    assert stored.sender_id == "service"


async def test_typed_channel(bus: Bus) -> None:
    """A channel with content classes takes only those (SN-10)."""
    channel = bus.broadcast("logins", content=Login)
    with pytest.raises(
        sssnbus.PayloadError, match=r"plain data, but the channel takes only tests\.broadcast\.login"
    ):
        await channel.write("service", {"user": "ann"})
    await channel.write("service", Login(user="ann", at=datetime.now(UTC)))
    assert len(await channel.read("carol")) == 1


async def test_receipt(bus: Bus) -> None:
    """Write returns the stable id, which also says where and how it was stored (SN-11)."""
    channel = bus.broadcast("events")
    receipt = await channel.write("service", 1)
    assert isinstance(receipt, str)
    assert isinstance(receipt, Receipt)
    assert len(receipt) == 19
    assert receipt.isdigit()
    assert (receipt.sequence, receipt.duplicate) == (1, False)
    assert receipt.durability == (await bus.store()).durability
    (message,) = await channel.read("carol", after=0)
    assert message.id == receipt


async def test_same_id_is_a_duplicate(bus: Bus) -> None:
    """The same id with the same body is stored once, with another body refused (SN-11)."""
    channel, recorder = bus.broadcast("events"), Recorder()
    await channel.subscribe("a", recorder)
    first = await channel.write("service", 1, id="one")
    again = await channel.write("service", 1, id="one")
    assert (again, again.sequence, again.duplicate) == ("one", first.sequence, True)
    with pytest.raises(MessageConflict):
        await channel.write("service", 2, id="one")
    assert recorder.seen == [1]


async def test_dedupe_key(bus: Bus) -> None:
    """A repeated write under one dedupe key is harmless."""
    channel, recorder = bus.broadcast("events"), Recorder()
    await channel.subscribe("a", recorder)
    first = await channel.write("service", 1, dedupe="k")
    again = await channel.write("service", 1, dedupe="k")
    assert (again, again.duplicate) == (first, True)
    with pytest.raises(MessageConflict, match="dedupe key"):
        await channel.write("service", 2, dedupe="k")
    assert recorder.seen == [1]


async def test_every_subscriber_gets_every_message(bus: Bus) -> None:
    """A, B and C each get all, with no claim, no ack and nothing consumed (SN-12, SN-13, SN-14, BV-02)."""
    channel = bus.broadcast("events")
    recorders = {name: Recorder() for name in "abc"}
    for name, recorder in recorders.items():
        await channel.subscribe(f"consumer-{name}", recorder)
    for n in range(5):
        await channel.write("service", n)
    assert [recorder.seen for recorder in recorders.values()] == [[0, 1, 2, 3, 4]] * 3
    assert [data(message) for message in await channel.read("carol")] == [0, 1, 2, 3, 4]


async def test_callbacks_have_run_when_write_returns(bus: Bus) -> None:
    """By the time write returns, every callback of this process has run (SN-15, SN-21)."""
    channel = bus.broadcast("events")
    a, b = Recorder(), Recorder()
    await channel.subscribe("a", a)
    await channel.subscribe("b", b)
    await channel.write("service", "user.login")
    assert (a.seen, b.seen) == (["user.login"], ["user.login"])
    await channel.write("service", "user.logout")
    assert (a.seen, b.seen) == (["user.login", "user.logout"],) * 2


async def test_slow_callback_is_waited_for(bus: Bus) -> None:
    """Write waits for a callback that itself waits (SN-15)."""
    channel, done = bus.broadcast("events"), []

    async def slow(message: ChannelMessage) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        done.append(data(message))

    await channel.subscribe("slow", slow)
    await channel.write("service", 1)
    assert done == [1]


async def test_subscribers_run_concurrently(bus: Bus) -> None:
    """Two callbacks of one message run at the same time (SN-16)."""
    channel, both = bus.broadcast("events"), asyncio.Barrier(2)

    async def meet(message: ChannelMessage) -> None:
        await both.wait()

    await channel.subscribe("a", meet)
    await channel.subscribe("b", meet)
    await channel.write("service", 1, timeout=10)


async def test_one_subscriber_in_write_order(bus: Bus) -> None:
    """One subscriber handles its messages one after the other, in the order of writing (SN-16, BV-19)."""
    channel = bus.broadcast("events")
    running, seen = [0], list[int]()

    async def handler(message: ChannelMessage) -> None:
        running[0] += 1
        assert running[0] == 1
        await asyncio.sleep(0)
        seen.append(data(message))
        running[0] -= 1

    await channel.subscribe("a", handler)
    receipts = await asyncio.gather(*(channel.write("service", n) for n in range(20)))
    by_sequence = sorted(range(20), key=lambda n: receipts[n].sequence)
    assert seen == by_sequence


async def test_failing_subscriber(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises is logged and counted; writer and others do not notice (SN-17, FX-16)."""
    channel = bus.broadcast("events")
    failing, good = Failing(), Recorder()
    await channel.subscribe("failing", failing)
    await channel.subscribe("good", good)
    with caplog.at_level(logging.ERROR, "sssnbus"):
        id = await channel.write("service", 1)
    assert good.seen == [1]
    assert f"Subscriber 'failing' of channel 'events' failed on message {id}." in caplog.messages
    failed = {s.name: (s.delivered, s.failed) for s in (await channel.statistics()).subscriptions}
    assert failed == {"failing": (0, 1), "good": (1, 0)}


async def test_failing_subscriber_stays(bus: Bus) -> None:
    """A callback that raised gets the next message (SN-18)."""
    channel, failing = bus.broadcast("events"), Failing()
    await channel.subscribe("failing", failing)
    await channel.write("service", 1)
    await channel.write("service", 2)
    assert failing.seen == [1, 2]


async def test_second_callback_replaces_the_first(bus: Bus) -> None:
    """A second subscription under one id replaces the first: nothing comes twice (SN-19)."""
    channel = bus.broadcast("events")
    first, second = Recorder(), Recorder()
    await channel.subscribe("a", first)
    await channel.write("service", 1)
    await channel.subscribe("a", second)
    await channel.write("service", 2)
    assert (first.seen, second.seen) == ([1], [2])


async def test_callbacks_replaced_at_once(bus: Bus) -> None:
    """When several tasks subscribe under one id at once, one of them stays (SN-19)."""
    channel = bus.broadcast("events")
    recorders = [Recorder() for _ in range(5)]
    await channel.subscribe("a", Recorder())
    await asyncio.gather(*(channel.subscribe("a", r) for r in recorders), return_exceptions=True)
    await channel.write("service", 1)
    assert sum(recorder.seen == [1] for recorder in recorders) == 1
    assert len((await channel.statistics()).subscriptions) == 1


async def test_sync_callback_is_refused(bus: Bus) -> None:
    """A plain function is refused by subscribe, before any write (SN-20)."""
    channel = bus.broadcast("events")

    def handler(message: ChannelMessage) -> None: ...

    with pytest.raises(HandlerError, match=r"handler.*async def"):
        channel.subscribe("a", handler)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError):
        channel.subscribe("a", print)  # type: ignore[arg-type]  # that is the point
    assert await channel.write("service", 1)


async def test_unsubscribe(bus: Bus) -> None:
    """After unsubscribe nothing further comes to that one; the others go on (SN-29)."""
    channel = bus.broadcast("events")
    a, b = Recorder(), Recorder()
    await channel.subscribe("consumer-a", a)
    await channel.subscribe("consumer-b", b)
    await channel.write("service", "system.start")
    await channel.unsubscribe("consumer-a")
    await channel.write("service", "system.reboot")
    assert (a.seen, b.seen) == (["system.start"], ["system.start", "system.reboot"])


async def test_unsubscribe_unknown(bus: Bus) -> None:
    """Unsubscribing an unknown id does nothing (SN-30)."""
    await bus.broadcast("events").unsubscribe("nobody")


async def test_channels_are_apart(bus: Bus) -> None:
    """A subscriber of one channel never sees another's messages (BV-03)."""
    a, b = bus.broadcast("a"), bus.broadcast("b")
    seen = Recorder()
    await a.subscribe("x", seen)
    await b.write("service", "b")
    await a.write("service", "a")
    assert seen.seen == ["a"]
    assert [data(message) for message in await b.read("x")] == ["b"]


async def test_nobody_listens(bus: Bus) -> None:
    """Writing to a channel without subscribers succeeds and is stored (BV-05, BV-34, FX-11)."""
    channel = bus.broadcast("events")
    await channel.write("service", 1)
    assert [data(message) for message in await channel.read("x")] == [1]
    assert (await channel.statistics()).subscriptions == ()


VALUES: list[Any] = [
    {"a": {"b": {"c": [1, {"d": None}]}}},
    [],
    {},
    "",
    "grüße \U0001f600 \n\t\x00",
    0,
    -1,
    2**63,
    -(2**63),
    1.5e300,
    5e-324,
    -0.0,
    True,
    False,
    None,
    [1, 1.0, True, "1"],
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_values_come_back(bus: Bus, value: object) -> None:
    """Any JSON value comes back equal and of the same type, also deep ones (BV-06, BV-07, BV-10)."""
    channel, recorder = bus.broadcast("events"), Recorder()
    await channel.subscribe("a", recorder)
    await channel.write("service", value)
    (stored,) = await channel.read("x")
    for message in (stored, *recorder.messages):
        assert repr(data(message)) == repr(value)


async def test_binary(bus: Bus) -> None:
    """Bytes come back as they were (FX-22)."""
    channel, every = bus.broadcast("events"), bytes(range(256))
    await channel.write("service", every)
    (message,) = await channel.read("x")
    assert message.content == BytesContent(data=every)


async def test_metadata_keeps_types(bus: Bus) -> None:
    """Metadata come back with their values and types; the topic is the concrete one (FX-21, FX-23)."""
    channel = bus.broadcast("events")
    metadata = {"s": "x", "i": 1, "f": 1.0, "b": True, "n": None}
    await channel.write("service", 1, metadata=metadata, topic="app.service.event")
    (message,) = await channel.read("x")
    assert repr(message.metadata) == repr(metadata)
    assert message.topic == "app.service.event"


async def test_many_at_once(bus: Bus) -> None:
    """Messages of one write_many stand next to each other and are handled when it returns."""
    channel, recorder = bus.broadcast("events"), Recorder()
    await channel.subscribe("a", recorder)
    batches = await asyncio.gather(*(channel.write_many("service", range(n, n + 10)) for n in (0, 10, 20)))
    for receipts in batches:
        first = receipts[0].sequence
        assert [receipt.sequence for receipt in receipts] == list(range(first, first + 10))
    assert sorted(recorder.seen) == list(range(30))
    assert await channel.write_many("service", []) == []


async def test_clear(bus: Bus) -> None:
    """Clear removes every message of this channel only (BV-36, BV-37, SN-47)."""
    channel, other = bus.broadcast("events"), bus.broadcast("other")
    for n in range(3):
        await channel.write("service", n)
        await other.write("service", n)
    assert await channel.clear() == 3
    assert (await channel.statistics()).messages == 0
    assert (await channel.statistics()).size == 0
    assert len(await other.read("x")) == 3
    assert (await channel.write("service", 3)).sequence == 4


async def test_clear_by_topic(bus: Bus) -> None:
    """Clear can remove the messages whose topic matches a pattern (SN-47)."""
    channel = bus.broadcast("events")
    for topic in ("user.login", "user.logout", "system.start", None):
        await channel.write("service", topic, topic=topic)
    assert await channel.clear("user.*") == 2
    assert [data(message) for message in await channel.read("x")] == ["system.start", None]


async def test_clear_under_subscribers(bus: Bus) -> None:
    """Clearing while subscribers listen neither breaks them nor brings anything again (BV-38)."""
    channel, recorder = bus.broadcast("events"), Recorder()
    await channel.subscribe("a", recorder)
    async with channel.subscribe("b") as listener:
        await channel.write("service", 1)
        await channel.clear()
        await channel.write("service", 2)
        assert recorder.seen == [1, 2]
        events = [await anext(e) for e in [listener.events()] for _ in range(2)]
    assert [data(event) for event in events if isinstance(event, ChannelMessage)] == [1, 2]


async def test_remove(bus: Bus) -> None:
    """Single messages are removed by id; unknown ids do not count (SN-47)."""
    channel = bus.broadcast("events")
    ids = [await channel.write("service", n) for n in range(3)]
    assert await channel.remove([ids[1], "unknown"]) == 1
    assert [data(message) for message in await channel.read("x")] == [0, 2]


async def test_evict_tells_readers(bus: Bus) -> None:
    """Evicting moves no reader past unread messages: what is gone is a gap (SN-47)."""
    channel = bus.broadcast("events")
    for n in range(10):
        await channel.write("service", n)
    assert [data(m) for m in await channel.read("x", limit=2)] == [0, 1]
    assert await channel.evict(max_count=5) == 5
    history = await channel.read("x")
    assert history.gap == Gap(3, 5)
    assert [data(m) for m in history] == [5, 6, 7, 8, 9]


async def test_evict_by_time(bus: Bus) -> None:
    """Evicting by time removes what was stored before it (SN-47)."""
    channel = bus.broadcast("events")
    await channel.write("service", 1)
    assert await channel.evict(before=datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await channel.evict(before=datetime.now(UTC) + timedelta(hours=1)) == 1


async def test_statistics(bus: Bus) -> None:
    """Statistics count what is kept, and name the subscriptions (BV-39)."""
    channel = bus.broadcast("events")
    await channel.subscribe("b", Recorder())
    await channel.subscribe("a", Recorder())
    await channel.write_many("service", range(3))
    statistics = await channel.statistics()
    assert (statistics.id, statistics.last, statistics.messages, statistics.dead) == ("events", 3, 3, 0)
    assert [(s.name, s.position, s.delivered) for s in statistics.subscriptions] == [("a", 3, 3), ("b", 3, 3)]


async def test_replaced_callback_loses_nothing(bus: Bus) -> None:
    """What is buffered for a callback that is replaced goes to the new one (SN-19)."""
    channel = bus.broadcast("events")
    entered, gate, first = asyncio.Event(), asyncio.Event(), list[int]()

    async def stuck(message: ChannelMessage) -> None:
        entered.set()
        await gate.wait()
        first.append(data(message))

    second = Recorder()
    await channel.subscribe("a", stuck)
    for n in range(3):
        await channel.write("service", n, confirm="stored")
    await entered.wait()
    replacing = asyncio.ensure_future(channel.subscribe("a", second))
    gate.set()
    await replacing
    await second.reach(2)
    assert (first, second.seen) == ([0], [1, 2])
