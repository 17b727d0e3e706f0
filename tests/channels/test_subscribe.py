"""Subscriptions: how they begin, iterate, filter and end."""

import asyncio
import gc
from datetime import UTC, datetime, timedelta

import pytest

from sssnbus import (
    Bus,
    BusTimeout,
    ChannelMessage,
    ClosedError,
    Gap,
    InvalidOption,
    NotStarted,
    StateError,
    Subscription,
    UnknownMessage,
)
from sssnbus.testing import ManualClock
from tests.channels.tools import Gate, Recorder, cancelled, data, quiet, until


async def take(subscription: Subscription, count: int) -> list[int]:
    """Take so many messages from an iterator."""
    return [data(await anext(subscription)) for _ in range(count)]


async def test_subscription_object(bus: Bus) -> None:
    """Subscribe returns a subscription, which tells its name and place (BV-11)."""
    async with bus.broadcast("events").subscribe("a") as subscription:
        assert isinstance(subscription, Subscription)
        assert (subscription.name, subscription.position, subscription.error) == ("a", 0, None)


async def test_forgotten_await(bus: Bus) -> None:
    """A subscription that nobody awaited warns that it did nothing."""
    with pytest.warns(RuntimeWarning, match=r"subscribe\('a'\) was never awaited"):  # noqa: PT031  # collecting is what warns
        bus.broadcast("events").subscribe("a", Recorder())
        gc.collect()
    with pytest.warns(RuntimeWarning, match=r"subscribe\('w'\) was never awaited"):  # noqa: PT031  # collecting is what warns
        bus.work_queue("jobs").subscribe("w", Recorder())
        gc.collect()


async def test_context_manager(bus: Bus) -> None:
    """Leaving the block unsubscribes, also by an exception, and nothing more arrives (BV-12, BV-13)."""
    channel = bus.broadcast("events")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # the block is what raises
        async with channel.subscribe("a") as subscription:
            await channel.write("service", 1)
            raise ZeroDivisionError
    assert (await channel.statistics()).subscriptions == ()
    await channel.write("service", 2)
    assert [message async for message in subscription] == []


async def test_block_round_a_callback(bus: Bus) -> None:
    """A subscription with a callback can be a block too (BV-12)."""
    channel, recorder = bus.broadcast("events"), Recorder()
    async with channel.subscribe("a", recorder):
        await channel.write("service", 1)
    await channel.write("service", 2)
    assert recorder.seen == [1]


async def test_many_subscribers(bus: Bus) -> None:
    """A hundred subscribers of one channel each get each message once (BV-14)."""
    channel = bus.broadcast("events")
    recorders = [Recorder() for _ in range(100)]
    for number, recorder in enumerate(recorders):
        await channel.subscribe(f"client-{number}", recorder)
    for n in range(3):
        await channel.write("service", n)
    assert all(recorder.seen == [0, 1, 2] for recorder in recorders)


async def test_iterators_under_one_name(bus: Bus) -> None:
    """Iterators may share a name: each of them gets every message (BV-14)."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a") as one, channel.subscribe("a") as two:
        await channel.write("service", 1)
        assert (await take(one, 1), await take(two, 1)) == ([1], [1])


async def test_iterate(bus: Bus) -> None:
    """Async for yields messages as they are written, in order (BV-15, BV-19, BV-21)."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a") as subscription:
        taking = asyncio.ensure_future(take(subscription, 5))
        for n in range(5):
            await channel.write("service", n)
        assert await taking == [0, 1, 2, 3, 4]


async def test_iterator_blocks(bus: Bus) -> None:
    """Without a time-out an iterator waits until a message comes, and others run meanwhile (BV-16, BV-23)."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a") as subscription:
        waiting = asyncio.ensure_future(anext(subscription))
        await quiet(bus)
        assert not waiting.done()
        await channel.write("service", 1)
        assert data(await waiting) == 1


async def test_listen_times_out(timed: Bus, clock: ManualClock) -> None:
    """Listening ends by a TimeoutError when nothing comes for so long; then it may go on (BV-17)."""
    channel = timed.broadcast("events")
    async with channel.subscribe("a") as subscription:
        waiting = asyncio.ensure_future(anext(subscription.listen(timeout=10)))
        await quiet(timed)
        clock.advance(9.9)
        await quiet(timed)
        assert not waiting.done()
        clock.advance(0.2)
        with pytest.raises(TimeoutError) as caught:
            await waiting
        assert isinstance(caught.value, BusTimeout)
        await channel.write("service", 1)
        assert data(await anext(subscription.listen(timeout=10))) == 1


async def test_time_out_counts_from_the_last_message(timed: Bus, clock: ManualClock) -> None:
    """A busy channel never times out, however long one listens (BV-18)."""
    channel = timed.broadcast("events")
    async with channel.subscribe("a") as subscription:
        listening = subscription.listen(timeout=10)
        for n in range(5):
            waiting = asyncio.ensure_future(anext(listening))
            await quiet(timed)
            clock.advance(9)
            await channel.write("service", n)
            assert data(await waiting) == n


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), float("inf"), "1", True])
async def test_bad_time_out(bus: Bus, timeout: float) -> None:
    """A time-out that is no span of time is refused (FX-13)."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a") as subscription:
        with pytest.raises(ValueError, match="timeout"):
            await anext(subscription.listen(timeout=timeout))
    with pytest.raises(InvalidOption):
        channel.subscribe("a", Recorder(), timeout=timeout)
    with pytest.raises(InvalidOption):
        await channel.write("service", 1, timeout=timeout)


async def test_break_and_go_on(bus: Bus) -> None:
    """Leaving the loop and coming back neither loses nor repeats messages (BV-20)."""
    channel = bus.broadcast("events")
    seen = []
    async with channel.subscribe("a") as subscription:
        await channel.write_many("service", range(6))
        for _ in range(3):
            async for message in subscription:
                seen.append(data(message))
                if len(seen) % 2 == 0:
                    break
    assert seen == [0, 1, 2, 3, 4, 5]


async def test_cancelled_iterator(bus: Bus) -> None:
    """Cancelling the task that listens unsubscribes cleanly (BV-24)."""
    channel = bus.broadcast("events")

    async def listen() -> None:
        async with channel.subscribe("a") as subscription:
            async for _ in subscription:
                pass

    listening = asyncio.ensure_future(listen())
    await until(lambda: bool(channel._running and channel._running.subscriptions))
    await cancelled(listening)
    assert listening.cancelled()
    assert (await channel.statistics()).subscriptions == ()


async def test_cancelled_wait_takes_nothing(bus: Bus) -> None:
    """A wait that is cancelled takes nothing: the next wait gets the message."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a") as subscription:
        for n in range(10):
            waiting = asyncio.ensure_future(anext(subscription))
            for _ in range(n):
                await asyncio.sleep(0)
            await channel.write("service", n)
            waiting.cancel()
            try:
                got = data(await waiting)
            except asyncio.CancelledError:
                got = data(await anext(subscription))
            assert got == n


async def test_several_tasks_iterate(bus: Bus) -> None:
    """Several tasks may iterate one subscription: each message goes to one of them."""
    channel, seen = bus.broadcast("events"), list[int]()
    async with channel.subscribe("a") as subscription:

        async def work() -> None:
            async for message in subscription:
                seen.append(data(message))

        tasks = [asyncio.ensure_future(work()) for _ in range(3)]
        for n in range(20):
            await channel.write("service", n)
        await until(lambda: len(seen) == 20)
    await asyncio.gather(*tasks)
    assert sorted(seen) == list(range(20))


async def test_closing_ends_an_iteration(bus: Bus) -> None:
    """Closing a subscription ends the loop of whoever waits in it."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a") as subscription:
        waiting = asyncio.ensure_future(anext(subscription, None))
        await quiet(bus)
        await subscription.aclose()
        assert await waiting is None
        await subscription.aclose()


async def test_closed_while_it_begins(store_url: str) -> None:
    """A subscription that is closed while it begins is closed: it gets nothing and holds nobody up."""
    for steps in range(12):
        async with Bus(store_url) as bus:
            channel, recorder = bus.broadcast("events"), Recorder()
            await channel.start()
            subscription = channel.subscribe("a", recorder, start="earliest")
            opening = asyncio.ensure_future(subscription)
            for _ in range(steps):
                await asyncio.sleep(0)
            begun = opening.done()
            await subscription.aclose()
            await asyncio.gather(opening, return_exceptions=True)
            await channel.write("service", steps, timeout=5)
            assert (await channel.statistics()).subscriptions == ()
            if not begun:
                assert recorder.seen == []
                assert isinstance(opening.exception(), ClosedError)


async def test_new(bus: Bus) -> None:
    """A new subscriber sees only what is written after it subscribed (BV-35)."""
    channel = bus.broadcast("events")
    await channel.write("service", 1)
    async with channel.subscribe("a") as subscription:
        await channel.write("service", 2)
        assert await take(subscription, 1) == [2]


async def test_earliest(bus: Bus) -> None:
    """From the earliest on: history first, then live."""
    channel = bus.broadcast("events")
    await channel.write_many("service", range(3))
    async with channel.subscribe("a", start="earliest") as subscription:
        await channel.write("service", 3)
        assert await take(subscription, 4) == [0, 1, 2, 3]


async def test_start_of_history_waits_for_callback(bus: Bus) -> None:
    """A callback gets the history too, in order."""
    channel, recorder = bus.broadcast("events"), Recorder()
    await channel.write_many("service", range(600))
    await channel.subscribe("a", recorder, start="earliest")
    await recorder.reach(600)
    assert recorder.seen == list(range(600))


async def test_from_a_sequence_or_id(bus: Bus) -> None:
    """A start at a message, by sequence or id, begins with that message."""
    channel = bus.broadcast("events")
    receipts = await channel.write_many("service", range(5))
    for start in (receipts[2].sequence, str(receipts[2])):
        async with channel.subscribe("a", start=start) as subscription:
            assert await take(subscription, 3) == [2, 3, 4]
    async with channel.subscribe("a", start=6) as subscription:
        await channel.write("service", 5)
        assert await take(subscription, 1) == [5]


async def test_from_a_time(timed: Bus, clock: ManualClock) -> None:
    """A start at a time begins with what was stored then or after."""
    channel = timed.broadcast("events")
    begun = datetime.fromtimestamp(clock.time(), UTC)
    for n in range(5):
        clock.advance(10)
        await channel.write("service", n)
    async with channel.subscribe("a", start=begun + timedelta(seconds=30)) as subscription:
        assert await take(subscription, 3) == [2, 3, 4]
    async with channel.subscribe("a", start=begun) as subscription:
        assert await take(subscription, 5) == [0, 1, 2, 3, 4]


async def test_bad_starts(bus: Bus) -> None:
    """A start that names no place is refused, and leaves no subscription behind."""
    channel = bus.broadcast("events")
    await channel.write("service", 1)
    with pytest.raises(UnknownMessage):
        await channel.subscribe("a", start="nonsense")
    for start in (0, -1, 3, True, datetime(2024, 1, 1)):
        with pytest.raises(InvalidOption):
            await channel.subscribe("a", start=start)
    assert (await channel.statistics()).subscriptions == ()


async def test_read_then_subscribe(bus: Bus) -> None:
    """After catching up by read, a subscriber gets future events live, once (SN-27)."""
    channel, carol = bus.broadcast("events"), Recorder()
    await channel.write("service", "user.login")
    assert len(await channel.read("carol", limit=100)) == 1
    await channel.subscribe("carol", carol)
    await channel.write("service", "user.purchase")
    assert carol.seen == ["user.purchase"]


async def test_between_read_and_subscribe(bus: Bus) -> None:
    """What is written between the read and the subscribe is neither lost nor doubled (SN-28)."""
    channel, carol = bus.broadcast("events"), Recorder()
    await channel.write("service", 1)
    await channel.read("carol")
    await channel.write("service", 2)
    await channel.subscribe("carol", carol)
    await channel.write("service", 3)
    await carol.reach(2)
    assert carol.seen == [2, 3]


async def test_topics(bus: Bus) -> None:
    """A subscription gets what matches its patterns, history and live alike (FX-51)."""
    channel = bus.broadcast("events")
    await channel.write("service", 0, topic="user.login")
    await channel.write("service", 1, topic="system.start")
    one, two = Recorder(), Recorder()
    await channel.subscribe("one", one, topic="user.>", start="earliest")
    await channel.subscribe("two", two, topic=["user.*", "*.start", "user.login"], start="earliest")
    for n, topic in enumerate(("user.a.b", "other.stop", None, "user.x", "sub.start"), 2):
        await channel.write("service", n, topic=topic)
    await one.reach(3)
    await two.reach(4)
    assert one.seen == [0, 2, 5]
    assert two.seen == [0, 1, 5, 6]


async def test_equals_plus(bus: Bus) -> None:
    """The second dialect of patterns is named by the caller."""
    channel, recorder = bus.broadcast("events"), Recorder()
    await channel.subscribe("a", recorder, topic="logs.=", syntax="equals-plus")
    for topic in ("logs.info", "logs.app.info", "logsXinfo", "logs"):
        await channel.write("service", topic, topic=topic)
    assert recorder.seen == ["logs.info"]


async def test_events_tell_gaps(bus: Bus) -> None:
    """Events are messages and, at their place, notices."""
    channel = bus.broadcast("events")
    await channel.write_many("service", range(5))
    await channel.evict(max_count=2)
    async with channel.subscribe("a", start=2) as subscription:
        events = subscription.events()
        found = [await anext(events) for _ in range(3)]
    assert found[0] == Gap(2, 3)
    assert [data(event) for event in found if isinstance(event, ChannelMessage)] == [3, 4]


async def test_wrong_ways_to_iterate(bus: Bus) -> None:
    """A subscription with a callback cannot be iterated, nor one that has not begun."""
    channel = bus.broadcast("events")
    subscription = await channel.subscribe("a", Recorder())
    with pytest.raises(StateError, match="callback"):
        await anext(subscription)
    unopened = channel.subscribe("b")
    with pytest.raises(NotStarted):
        await anext(unopened)
    await unopened.aclose()


async def test_closed_subscription(bus: Bus) -> None:
    """A closed subscription says so (FX-20)."""
    subscription = bus.broadcast("events").subscribe("a")
    async with subscription:
        pass
    with pytest.raises(ClosedError):
        await subscription
    with pytest.raises(RuntimeError):
        await subscription.lag()
    assert [message async for message in subscription.listen()] == []


async def test_unread_goes_with_the_subscription(bus: Bus) -> None:
    """What a live subscription had not read is gone with it; the channel still has it (FX-06, FX-19)."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a"):
        await channel.write("service", 1)
    async with channel.subscribe("a") as subscription:
        await channel.write("service", 2)
        assert await take(subscription, 1) == [2]
    assert [data(message) for message in await channel.read("b")] == [1, 2]


async def test_handler_time_out(timed: Bus, clock: ManualClock) -> None:
    """A callback that takes longer than its time-out is cancelled, has failed, and gets the next one."""
    channel, gate = timed.broadcast("events"), Gate()
    await channel.subscribe("a", gate, timeout=5)
    writing = asyncio.ensure_future(channel.write("service", 1))
    await gate.entered.wait()
    assert not writing.done()
    clock.advance(5)
    await writing
    assert gate.seen == []
    gate.opened.set()
    await channel.write("service", 2)
    assert gate.seen == [2]
    (statistics,) = (await channel.statistics()).subscriptions
    assert (statistics.delivered, statistics.failed) == (1, 1)


async def test_unsubscribe_lets_the_handler_finish(bus: Bus) -> None:
    """A message in progress is completed when its subscriber ends (FX-15)."""
    channel, gate = bus.broadcast("events"), Gate()
    await channel.subscribe("a", gate)
    await channel.write("service", 1, confirm="stored")
    await channel.write("service", 2, confirm="stored")
    await gate.entered.wait()
    ending = asyncio.ensure_future(channel.unsubscribe("a"))
    await quiet(bus)
    assert not ending.done()
    gate.opened.set()
    await ending
    assert gate.seen == [1]


async def test_unsubscribe_from_inside(bus: Bus) -> None:
    """A handler may end its own subscription."""
    channel, seen = bus.broadcast("events"), list[int]()

    async def once(message: ChannelMessage) -> None:
        await channel.unsubscribe("a")
        seen.append(data(message))

    await channel.subscribe("a", once)
    await channel.write("service", 1)
    await channel.write("service", 2)
    assert seen == [1]


async def test_position_and_lag(bus: Bus) -> None:
    """A subscription tells how far it has come and how much is before it (SN-24)."""
    channel = bus.broadcast("events")
    await channel.write_many("service", range(4))
    async with channel.subscribe("a", start="earliest") as subscription:
        assert (subscription.position, await subscription.lag()) == (0, 4)
        await take(subscription, 3)
        assert (subscription.position, await subscription.lag()) == (3, 1)


async def test_seek(bus: Bus) -> None:
    """A live subscription can go on from another place, back or forward."""
    channel = bus.broadcast("events")
    await channel.write_many("service", range(6))
    async with channel.subscribe("a", start="earliest") as subscription:
        assert await take(subscription, 4) == [0, 1, 2, 3]
        await subscription.seek(2)
        assert await take(subscription, 2) == [1, 2]
        await subscription.seek("new")
        await channel.write("service", 6)
        assert await take(subscription, 1) == [6]
        with pytest.raises(UnknownMessage):
            await subscription.seek("nonsense")


async def test_one_message_at_a_time(bus: Bus) -> None:
    """However messages come in, a callback has one at a time and in order (SN-16)."""
    channel, running, seen = bus.broadcast("events"), [0], list[tuple[int, int]]()

    async def handler(message: ChannelMessage) -> None:
        running[0] += 1
        for _ in range(3):
            await asyncio.sleep(0)
        seen.append((data(message), running[0]))
        running[0] -= 1

    await channel.subscribe("a", handler)
    for n in range(0, 30, 3):
        await channel.write("service", n, confirm="stored")
        for _ in range(n % 5):
            await asyncio.sleep(0)
        await asyncio.gather(channel.write("service", n + 1), channel.write_many("service", [n + 2]))
    await until(lambda: len(seen) == 30)
    assert seen == [(n, 1) for n in range(30)]


async def test_concurrency(bus: Bus) -> None:
    """With more concurrency a callback has so many messages at a time, and not one more."""
    channel, running, most = bus.broadcast("events"), [0], [0]
    meeting = asyncio.Barrier(3)

    async def handler(message: ChannelMessage) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await meeting.wait()
        running[0] -= 1

    await channel.subscribe("a", handler, concurrency=3)
    await channel.write_many("service", range(9), timeout=10)
    assert most == [3]
