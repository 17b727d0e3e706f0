"""What happens when a subscriber's buffer is full: five policies, and what is told of skipped messages."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from sssnbus import (
    BroadcastChannel,
    Bus,
    ChannelMessage,
    DeliveryTimeout,
    Gap,
    InvalidOption,
    Lagged,
    Subscription,
    SubscriptionOverflow,
)
from sssnbus.settings import OnFull
from sssnbus.testing import ManualClock
from tests.channels.tools import Gate, Recorder, data, quiet, until

Events = list[int | Lagged | Gap]


async def stuck(
    channel: BroadcastChannel, on_full: OnFull, buffer: int = 2, concurrency: int = 1
) -> tuple[Gate, Events, Subscription]:
    """Subscribe a callback that is at work on message 0 and stays there."""
    gate, events = Gate(), Events()

    async def handler(message: ChannelMessage) -> None:
        await gate(message)
        events.append(data(message))

    async def notice(what: Lagged | Gap) -> None:
        events.append(what)

    subscription = await channel.subscribe(
        "a", handler, buffer=buffer, on_full=on_full, on_notice=notice, concurrency=concurrency
    )
    await channel.write("service", 0, confirm="stored")
    await gate.entered.wait()
    return gate, events, subscription


async def test_catch_up(bus: Bus) -> None:
    """By default nothing is lost: what finds no room stays in the store until there is (FX-06)."""
    channel = bus.broadcast("events")
    gate, events, _ = await stuck(channel, "catch_up")
    for n in range(1, 50):
        await channel.write("service", n, confirm="stored")
    gate.opened.set()
    await until(lambda: len(events) == 50)
    assert events == list(range(50))


async def test_catch_up_does_not_hold_writers(bus: Bus) -> None:
    """A writer does not wait for what was left in the store."""
    channel = bus.broadcast("events")
    gate, events, _ = await stuck(channel, "catch_up")
    await channel.write_many("service", [1, 2], confirm="stored")
    await channel.write("service", 3, timeout=10)
    gate.opened.set()
    await until(lambda: events == [0, 1, 2, 3])


async def test_block(bus: Bus) -> None:
    """Block loses nothing either, and holds local writers back until the message is handled."""
    channel = bus.broadcast("events")
    gate, events, _ = await stuck(channel, "block")
    writing = [asyncio.ensure_future(channel.write("service", n)) for n in range(1, 8)]
    await quiet(bus)
    assert not any(task.done() for task in writing)
    gate.opened.set()
    receipts = await asyncio.gather(*writing)
    order = sorted(range(1, 8), key=lambda n: receipts[n - 1].sequence)
    assert events == [0, *order]


async def test_block_names_the_one_who_blocks(timed: Bus, clock: ManualClock) -> None:
    """A writer held back by a full buffer is told by whom, at its time-out."""
    channel = timed.broadcast("events")
    gate, events, subscription = await stuck(channel, "block", buffer=1)
    await channel.write_many("service", [1, 2], confirm="stored")
    writing = asyncio.ensure_future(channel.write("service", 3, timeout=60))
    await until(lambda: subscription.waits_for(4))
    clock.advance(61)
    with pytest.raises(DeliveryTimeout) as caught:
        await writing
    assert caught.value.waiting_for == ("a",)
    gate.opened.set()
    await until(lambda: events == [0, 1, 2, 3])


async def test_block_ends_with_the_subscription(bus: Bus) -> None:
    """A writer held back by a full buffer goes on when that subscription ends."""
    channel = bus.broadcast("events")
    gate, _, subscription = await stuck(channel, "block", buffer=1)
    await channel.write("service", 1, confirm="stored")
    writing = asyncio.ensure_future(channel.write("service", 2))
    await quiet(bus)
    closing = asyncio.ensure_future(subscription.aclose())
    await writing
    gate.opened.set()
    await closing
    assert gate.seen == [0]


async def test_drop_oldest(bus: Bus) -> None:
    """Drop_oldest keeps the newest, and tells how many went, at their place."""
    channel = bus.broadcast("events")
    gate, events, subscription = await stuck(channel, "drop_oldest")
    for n in range(1, 8):
        await channel.write("service", n, confirm="stored")
    gate.opened.set()
    await until(lambda: 7 in events)
    assert events == [0, Lagged(5), 6, 7]
    assert subscription.statistics().dropped == 5


async def test_drop_newest(bus: Bus) -> None:
    """Drop_newest keeps the oldest, and tells how many went, at their place."""
    channel = bus.broadcast("events")
    gate, events, subscription = await stuck(channel, "drop_newest")
    for n in range(1, 8):
        await channel.write("service", n, confirm="stored")
    gate.opened.set()
    await until(lambda: Lagged(5) in events)
    await channel.write("service", 8)
    assert events == [0, 1, 2, Lagged(5), 8]
    assert subscription.statistics().dropped == 5


async def test_disconnect(bus: Bus) -> None:
    """Disconnect ends the subscription after what is buffered, and says so; the others go on."""
    channel = bus.broadcast("events")
    gate, events, subscription = await stuck(channel, "disconnect")
    other = Recorder()
    await channel.subscribe("other", other)
    for n in range(1, 5):
        await channel.write("service", n, confirm="stored")
    gate.opened.set()
    await until(lambda: len(events) == 3)
    assert events == [0, 1, 2]
    assert isinstance(subscription.error, SubscriptionOverflow)
    await channel.write("service", 5, timeout=10)
    assert other.seen == [1, 2, 3, 4, 5]
    assert events == [0, 1, 2]


async def test_disconnected_iterator(bus: Bus) -> None:
    """An iterator that is disconnected gets what is buffered, then the error."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a", buffer=2, on_full="disconnect") as subscription:
        await channel.write_many("service", range(3))
        assert [data(await anext(subscription)) for _ in range(2)] == [0, 1]
        with pytest.raises(SubscriptionOverflow, match="buffer of 2"):
            await anext(subscription)


@pytest.mark.parametrize("on_full", ["drop_oldest", "drop_newest", "disconnect", "catch_up"])
async def test_dropped_messages_hold_nobody(bus: Bus, on_full: OnFull) -> None:
    """A message that is dropped has settled: its writer waits no longer."""
    channel = bus.broadcast("events")
    gate, _, _ = await stuck(channel, on_full, buffer=1)
    first = asyncio.ensure_future(channel.write("service", 1))
    await quiet(bus)
    second = asyncio.ensure_future(channel.write("service", 2))
    settled, waiting = (first, second) if on_full == "drop_oldest" else (second, first)
    await until(settled.done)
    assert not waiting.done()
    gate.opened.set()
    await asyncio.gather(first, second)


async def test_events_of_an_iterator(bus: Bus) -> None:
    """Events of an iterator are messages and notices in one order."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a", buffer=2, on_full="drop_oldest") as subscription:
        await channel.write_many("service", range(5))
        events = subscription.events()
        assert await anext(events) == Lagged(3)
        assert [data(m) for m in [await anext(subscription), await anext(subscription)]] == [3, 4]


async def test_gap_in_order(bus: Bus) -> None:
    """What retention removed while a subscriber was behind is told between what was before and after."""
    channel = bus.broadcast("events")
    gate, events, subscription = await stuck(channel, "catch_up")
    for n in range(1, 10):
        await channel.write("service", n, confirm="stored")
    await channel.evict(max_count=3)
    gate.opened.set()
    await until(lambda: 9 in events)
    assert events == [0, 1, 2, Gap(4, 7), 7, 8, 9]
    assert subscription.statistics().missed == 4


async def test_notices_are_logged(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """Without a callback for notices they are logged as warnings, and loops see messages only."""
    channel = bus.broadcast("events")
    with caplog.at_level(logging.WARNING, "sssnbus"):
        async with channel.subscribe("a", buffer=1, on_full="drop_oldest") as subscription:
            await channel.write_many("service", range(3))
            assert data(await anext(subscription)) == 2
    assert "Subscription 'a' of channel 'events': Lagged(count=2)" in caplog.messages


async def test_failing_on_notice(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A callback for notices that raises is logged, and the messages go on."""
    channel = bus.broadcast("events")

    async def notice(what: Lagged | Gap) -> None:
        raise ValueError

    async with channel.subscribe("a", buffer=1, on_full="drop_oldest", on_notice=notice) as subscription:
        await channel.write_many("service", range(3))
        assert data(await anext(subscription)) == 2
    assert "on_notice of subscription 'a' failed." in caplog.messages


async def test_notice_before_message(bus: Bus) -> None:
    """A message is handled after the notice before it has been told, even if telling takes long."""
    channel, order, gate = bus.broadcast("events"), list[object](), asyncio.Event()
    await channel.write_many("service", range(3))
    await channel.evict(max_count=0)

    async def handler(message: ChannelMessage) -> None:
        order.append(data(message))

    async def notice(what: Lagged | Gap) -> None:
        await gate.wait()
        order.append(what)

    await channel.subscribe("a", handler, start=2, on_notice=notice)
    await quiet(bus)
    writing = asyncio.ensure_future(channel.write("service", 3))
    await quiet(bus)
    gate.set()
    await writing
    assert order == [Gap(2, 3), 3]


async def test_handlers_and_policies_that_do_not_fit(bus: Bus) -> None:
    """Words and combinations without meaning are refused."""
    channel = bus.broadcast("events")
    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: channel.subscribe("a", on_full="block"),
        lambda: channel.subscribe("a", concurrency=2),
        lambda: channel.subscribe("a", Recorder(), on_full="other"),  # type: ignore[arg-type]  # the point
        lambda: channel.subscribe("a", Recorder(), buffer=0),
        lambda: channel.subscribe("a", Recorder(), concurrency=0),
    ]
    for subscribe in refused:
        with pytest.raises(InvalidOption):
            await subscribe()


async def test_buffer_is_bounded(bus: Bus) -> None:
    """However much is written, no more than the buffer waits in memory."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a", buffer=8, start="earliest") as subscription:
        await channel.write_many("service", range(500))
        assert subscription.statistics().buffered <= 8
        seen = []
        for _ in range(500):
            seen.append(data(await anext(subscription)))
            assert subscription.statistics().buffered <= 8
    assert seen == list(range(500))
