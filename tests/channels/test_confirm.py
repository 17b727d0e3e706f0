"""When write returns."""

import asyncio

import pytest

from sssnbus import Bus, ChannelMessage, DeliveryTimeout, InvalidOption
from sssnbus.testing import ManualClock
from tests.channels.tools import Gate, Recorder, cancelled, data, quiet, until


async def test_stored(bus: Bus) -> None:
    """With confirm="stored" write returns after the commit, whatever the callbacks do (SN-15)."""
    channel, gate = bus.broadcast("events"), Gate()
    await channel.subscribe("a", gate)
    await channel.write("service", 1, confirm="stored")
    assert gate.seen == []
    assert len(await channel.read("x")) == 1
    gate.opened.set()
    await gate.reach(1)


async def test_delivered_waits_for_all(bus: Bus) -> None:
    """By default write waits for the slowest callback (SN-15)."""
    channel, gate, fast = bus.broadcast("events"), Gate(), Recorder()
    await channel.subscribe("a", gate)
    await channel.subscribe("b", fast)
    writing = asyncio.ensure_future(channel.write("service", 1))
    await gate.entered.wait()
    await quiet(bus)
    assert not writing.done()
    assert fast.seen == [1]
    gate.opened.set()
    await writing
    assert gate.seen == [1]


async def test_other_topics_are_not_waited_for(bus: Bus) -> None:
    """A callback whose topic does not include the message is not waited for."""
    channel, gate = bus.broadcast("events"), Gate()
    await channel.subscribe("a", gate, topic="user.*")
    await channel.write("service", 1, topic="user.login", confirm="stored")
    await gate.entered.wait()
    await channel.write("service", 2, topic="system.start", timeout=10)
    gate.opened.set()


async def test_iterators_are_not_waited_for(bus: Bus) -> None:
    """Iterators never hold a writer."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a"):
        await channel.write("service", 1, timeout=10)


async def test_other_handles_are_not_waited_for(file_url: str) -> None:
    """Callbacks of another process are not waited for; they get the message all the same (SN-15)."""
    async with Bus(file_url) as one, Bus(file_url) as two:
        gate = Gate()
        await two.broadcast("events").subscribe("a", gate)
        await one.broadcast("events").write("service", 1, timeout=10)
        gate.opened.set()
        await gate.reach(1)


async def test_ended_subscription_settles(bus: Bus) -> None:
    """A writer goes on when the subscription it waits for ends."""
    channel, gate = bus.broadcast("events"), Gate()
    await channel.subscribe("a", gate)
    await channel.write("service", 0, confirm="stored")
    await gate.entered.wait()
    writing = asyncio.ensure_future(channel.write("service", 1))
    await quiet(bus)
    assert not writing.done()
    await channel.unsubscribe("a", grace=0)
    await writing


async def test_delivery_timeout(timed: Bus, clock: ManualClock) -> None:
    """At its time-out write says which message is stored and who has not finished with it (SN-15)."""
    channel, gates = timed.broadcast("events"), [Gate(), Gate()]
    await channel.subscribe("slow", gates[0])
    await channel.subscribe("slower", gates[1])
    await channel.subscribe("fast", Recorder())
    writing = asyncio.ensure_future(channel.write("service", 1, timeout=5))
    await gates[1].entered.wait()
    clock.advance(4.9)
    await quiet(timed)
    assert not writing.done()
    clock.advance(0.2)
    with pytest.raises(DeliveryTimeout, match=r"slow, slower.*Do not write it again") as caught:
        await writing
    (message,) = await channel.read("x")
    assert caught.value.id == message.id
    assert caught.value.waiting_for == ("slow", "slower")
    assert not caught.value.retryable
    for gate in gates:
        gate.opened.set()
        await gate.reach(1)


async def test_timeout_counts_behind_others(timed: Bus, clock: ManualClock) -> None:
    """A message that waits in the buffer behind a slow one is waited for too, by name."""
    channel, gate = timed.broadcast("events"), Gate()
    subscription = await channel.subscribe("a", gate)
    await channel.write("service", 0, confirm="stored")
    await gate.entered.wait()
    writing = asyncio.ensure_future(channel.write("service", 1, timeout=60))
    await until(lambda: bool(subscription.statistics().buffered))
    clock.advance(61)
    with pytest.raises(DeliveryTimeout) as caught:
        await writing
    assert caught.value.waiting_for == ("a",)
    gate.opened.set()
    await gate.reach(2)


async def test_write_inside_a_handler(bus: Bus) -> None:
    """Inside a handler a write waits for the commit only."""
    channel, order = bus.broadcast("events"), list[str]()

    async def echo(message: ChannelMessage) -> None:
        if data(message) < 3:
            await channel.write("echo", data(message) + 1)
        order.append(f"handled {data(message)}")

    await channel.subscribe("a", echo)
    await channel.write("service", 0, timeout=10)
    await until(lambda: len(order) == 4)
    assert order == [f"handled {n}" for n in range(4)]


async def test_handlers_that_write_to_each_other(bus: Bus) -> None:
    """Two handlers that write to each other do not deadlock (SN-15)."""
    a, b, seen = bus.broadcast("a"), bus.broadcast("b"), list[str]()

    async def to_b(message: ChannelMessage) -> None:
        seen.append(f"a{data(message)}")
        if data(message) < 20:
            await b.write("a", data(message) + 1)

    async def to_a(message: ChannelMessage) -> None:
        seen.append(f"b{data(message)}")
        await a.write("b", data(message) + 1)

    await a.subscribe("x", to_b)
    await b.subscribe("x", to_a)
    await asyncio.gather(*(a.write("service", 0, timeout=10) for _ in range(5)))
    await until(lambda: len(seen) == 5 * 21)


async def test_mark_ends_with_the_handler(bus: Bus) -> None:
    """A task that outlives the handler that started it waits for callbacks again."""
    channel, other, recorder = bus.broadcast("events"), bus.broadcast("other"), Recorder()
    go, tasks = asyncio.Event(), list[asyncio.Task[None]]()

    async def later() -> None:
        await go.wait()
        await other.write("later", 1)
        assert recorder.seen == [1]

    async def handler(message: ChannelMessage) -> None:
        tasks.append(asyncio.create_task(later()))

    await other.subscribe("a", recorder)
    await channel.subscribe("a", handler)
    await channel.write("service", 0)
    go.set()
    await tasks[0]


async def test_cancelled_write(bus: Bus) -> None:
    """A writer that stops waiting takes nothing from the callback."""
    channel, gate = bus.broadcast("events"), Gate()
    await channel.subscribe("a", gate)
    writing = asyncio.ensure_future(channel.write("service", 1))
    await gate.entered.wait()
    await cancelled(writing)
    assert writing.cancelled()
    gate.opened.set()
    await gate.reach(1)
    await channel.write("service", 2)
    assert gate.seen == [1, 2]


async def test_handler_cancels_itself(bus: Bus) -> None:
    """A CancelledError out of a handler that nobody cancelled is a failure like any other (SN-17)."""
    channel, recorder = bus.broadcast("events"), Recorder()

    async def handler(message: ChannelMessage) -> None:
        raise asyncio.CancelledError

    subscription = await channel.subscribe("a", handler)
    await channel.subscribe("b", recorder)
    for n in range(2):
        await channel.write("service", n, timeout=10)
    assert recorder.seen == [0, 1]
    assert subscription.statistics().failed == 2


async def test_shared_message(bus: Bus) -> None:
    """Handlers of one process share one message object."""
    channel, a, b = bus.broadcast("events"), Recorder(), Recorder()
    await channel.subscribe("a", a)
    await channel.subscribe("b", b)
    await channel.write("service", {"n": 1})
    assert a.messages[0] is b.messages[0]


async def test_content_is_taken_at_write(bus: Bus) -> None:
    """What a writer changes after write is not what handlers see."""
    channel, recorder, value = bus.broadcast("events"), Recorder(), {"n": 1}
    await channel.subscribe("a", recorder)
    writing = asyncio.ensure_future(channel.write("service", value))
    await asyncio.sleep(0)
    value["n"] = 2
    await writing
    assert recorder.seen == [{"n": 1}]


@pytest.mark.parametrize("confirm", ["deliverd", "", 1])
async def test_unknown_word(bus: Bus, confirm: str) -> None:
    """A word that is no way to confirm is refused, and nothing is stored."""
    channel = bus.broadcast("events")
    with pytest.raises(InvalidOption, match="confirm"):
        await channel.write("service", 1, confirm=confirm)  # type: ignore[arg-type]  # that is the point
    assert await channel.read("x") == []
