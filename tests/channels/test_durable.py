"""Durable subscriptions: at-least-once, retried in place, one owner a name."""

import asyncio
import json
import logging
from pathlib import Path

import pytest

from sssnbus import (
    BroadcastChannel,
    Bus,
    ChannelMessage,
    ClosedError,
    Gap,
    Retry,
    StoreTimeout,
    SubscriptionInUse,
    SubscriptionLost,
    UnknownMessage,
)
from sssnbus.delivery.policy import NOTED
from sssnbus.stores import MemoryStore, Records
from sssnbus.testing import ManualClock, run_until_idle
from tests.channels.tools import Failing, Gate, Recorder, cancelled, data, quiet, until

STEADY = Retry(initial=1, factor=2, maximum=5, jitter=False)


async def place(channel: BroadcastChannel, name: str = "a") -> tuple[int, int, bool]:
    """Return a durable subscription's position, lag and whether it is owned."""
    (found,) = (s for s in await channel.subscriptions() if s.name == name)
    return found.position, found.lag, found.active


async def test_goes_on_where_it_stopped(store_url: str) -> None:
    """A durable subscription gets, later, what was written while it was away (FX-06)."""
    async with Bus(store_url) as bus:
        channel, first, second = bus.broadcast("events"), Recorder(), Recorder()
        await channel.write("service", 0)
        async with channel.subscribe("a", first, durable=True):
            await channel.write("service", 1)
        await channel.write("service", 2)
        async with channel.subscribe("a", second, durable=True):
            await channel.write("service", 3)
            await second.reach(2)
        assert (first.seen, second.seen) == ([1], [2, 3])


async def test_survives_a_restart(file_url: str) -> None:
    """The place is in the store: another process goes on from it."""
    async with Bus(file_url) as bus:
        async with bus.broadcast("events").subscribe("a", Recorder(), durable=True):
            await bus.broadcast("events").write("service", 1)
    async with Bus(file_url) as bus:
        channel, recorder = bus.broadcast("events"), Recorder()
        await channel.write("service", 2)
        async with channel.subscribe("a", recorder, durable=True):
            await recorder.reach(1)
        assert recorder.seen == [2]


async def test_start_counts_once(bus: Bus) -> None:
    """A durable subscription goes by start only when its record is made."""
    channel = bus.broadcast("events")
    await channel.write_many("service", range(3))
    for expected in ([0, 1, 2], []):
        recorder = Recorder()
        async with channel.subscribe("a", recorder, durable=True, start="earliest"):
            await recorder.reach(len(expected))
        assert recorder.seen == expected


async def test_names_do_not_imply_durability(bus: Bus) -> None:
    """A live subscription under a name leaves nothing in the store."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a", Recorder()):
        await channel.write("service", 1)
    assert await channel.subscriptions() == []


async def test_failing_message_is_retried_in_place(timed: Bus, clock: ManualClock) -> None:
    """A message that fails is tried again after a pause, and the next one waits for it."""
    channel, failing = timed.broadcast("events"), Failing(times=2)
    await channel.subscribe("a", failing, durable=True, retry=STEADY)
    await channel.write("service", 1)
    await channel.write("service", 2, confirm="stored")
    await quiet(timed)
    assert failing.seen == [1]
    clock.advance(1)
    await failing.reach(2)
    await quiet(timed)
    clock.advance(2)
    await failing.reach(4)
    assert failing.seen == [1, 1, 1, 2]


async def test_pauses_grow(clock: ManualClock) -> None:
    """The pauses between attempts grow exponentially up to their limit."""
    store = MemoryStore(clock=clock)
    async with BroadcastChannel("events", store=store, clock=clock) as channel:
        failing = Failing()
        await channel.subscribe("a", failing, durable=True, retry=STEADY, max_deliveries=6)
        await channel.write("service", 1)
        for pause in (1, 2, 4, 5, 5):
            count = len(failing.messages)
            clock.advance(pause - 0.01)
            await run_until_idle()
            assert len(failing.messages) == count
            clock.advance(0.01)
            await run_until_idle()
            assert len(failing.messages) == count + 1
    await store.aclose()


async def test_writer_waits_for_the_first_attempt_only(timed: Bus, clock: ManualClock) -> None:
    """Write returns when the first attempt has ended; retries are not waited for (SN-17)."""
    channel, failing = timed.broadcast("events"), Failing()
    await channel.subscribe("a", failing, durable=True, retry=STEADY)
    await channel.write("service", 1, timeout=3600)
    assert failing.seen == [1]


async def test_dead_letter_after_the_last_attempt(bus: Bus) -> None:
    """After max_deliveries a copy becomes a dead letter, and the next message follows (SN-46)."""
    channel, seen = bus.broadcast("events"), list[int]()

    async def handler(message: ChannelMessage) -> None:
        seen.append(data(message))
        if data(message) == 1:
            raise ValueError("no good")

    await channel.subscribe("a", handler, durable=True, retry=Retry(initial=0), max_deliveries=3)
    receipt = await channel.write("service", 1, topic="t.u", metadata={"k": "v"})
    await channel.write("service", 2)
    await until(lambda: seen == [1, 1, 1, 2])
    (letter,) = await channel.dead_letters.list()
    assert letter.id != receipt
    assert (data(letter), letter.topic, letter.metadata["k"]) == (1, "t.u", "v")
    dead = letter.metadata["dead"]
    assert isinstance(dead.pop("time"), float)
    assert dead == {
        "reason": "failed",
        "attempts": 3,
        "error": "ValueError: no good",
        "id": receipt,
        "sequence": receipt.sequence,
        "subscription": "a",
    }
    assert (await channel.statistics()).dead == 1
    assert len(await channel.read("x")) == 2


@pytest.mark.parametrize("attempts", [1, 2])
async def test_closed_while_it_gives_up(bus: Bus, attempts: int) -> None:
    """Closed while the dead letter is written, a subscription goes on behind it: there is no second one."""
    channel, seen, tried = bus.broadcast("events"), list[int](), asyncio.Event()

    async def failing(message: ChannelMessage) -> None:
        tried.set()
        raise ValueError("no good")

    async def handler(message: ChannelMessage) -> None:
        seen.append(data(message))

    await channel.write("service", 1)
    await channel.write("service", 2)
    for _ in range(attempts):
        subscription = channel.subscribe(
            "a", failing, start="earliest", durable=True, retry=Retry(initial=60), max_deliveries=attempts
        )
        await subscription
        await tried.wait()
        tried.clear()
        await subscription.aclose(0)
    await channel.subscribe("a", handler, durable=True)
    await until(lambda: seen == [2])
    assert [data(letter) for letter in await channel.dead_letters.list()] == [1]


async def test_no_limit(bus: Bus) -> None:
    """Without a limit a message is tried until it succeeds."""
    channel, failing = bus.broadcast("events"), Failing(times=30)
    await channel.subscribe("a", failing, durable=True, retry=Retry(initial=0), max_deliveries=None)
    await channel.write("service", 1)
    await failing.reach(31)
    assert await channel.dead_letters.list() == []


async def test_attempts_are_counted_before_the_handler(bus: Bus) -> None:
    """An attempt is in the store before the handler runs: one that kills its process counts too."""
    channel = bus.broadcast("events")
    store = await bus.store()
    assert isinstance(store, Records)
    found = []

    async def handler(message: ChannelMessage) -> None:
        assert isinstance(store, Records)
        record = await store.get("subscription:events", "a")
        assert record is not None
        found.append(json.loads(record.value)["attempts"])

    await channel.subscribe("a", handler, durable=True)
    await channel.write("service", 1)
    assert found == [{"1": 1}]


async def test_message_that_kills_its_process(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A message whose attempts all ended without a word becomes a dead letter before the next one begins."""
    channel, recorder = bus.broadcast("events"), Recorder()
    store = await bus.store()
    assert isinstance(store, Records)
    await channel.write_many("service", [1, 2])
    dead_owner = {"position": 0, "attempts": {"1": 2}, "done": [], "owner": "0-gone#1"}
    await store.put("subscription:events", "a", json.dumps(dead_owner).encode(), version=None)
    async with channel.subscribe("a", recorder, durable=True, max_deliveries=2):
        await recorder.reach(1)
    assert recorder.seen == [2]
    (letter,) = await channel.dead_letters.list()
    assert (letter.metadata["dead"]["reason"], letter.metadata["dead"]["attempts"]) == ("died", 2)


async def test_in_use(bus: Bus) -> None:
    """A durable subscription has one live owner; a second is told so."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a", durable=True):
        with pytest.raises(SubscriptionInUse, match="'a' of channel 'events' is in use"):
            await channel.subscribe("a", durable=True)
        assert await place(channel) == (0, 0, True)
    assert await place(channel) == (0, 0, False)
    async with channel.subscribe("a", durable=True):
        pass


async def test_in_use_by_another_handle(file_url: str) -> None:
    """The owner may be in another process; when its store is gone, the name is free."""
    async with Bus(file_url) as one:
        two = Bus(file_url)
        await two.start()
        subscription = two.broadcast("events").subscribe("a", durable=True)
        await subscription
        with pytest.raises(SubscriptionInUse):
            await one.broadcast("events").subscribe("a", durable=True)
        await two.stop()
        async with one.broadcast("events").subscribe("a", durable=True):
            pass


async def test_standby(timed: Bus, clock: ManualClock) -> None:
    """On standby a subscription waits, and goes on where the owner stopped."""
    channel, first, second = timed.broadcast("events"), Recorder(), Recorder()
    owner = channel.subscribe("a", durable=True)
    async with owner:
        waiting = asyncio.ensure_future(channel.subscribe("a", second, durable=True, standby=True))
        await channel.write_many("service", [1, 2], confirm="stored")
        await first(await anext(owner))
        await quiet(timed)
        clock.advance(1)
        await quiet(timed)
        assert not waiting.done()
    while not waiting.done():
        clock.advance(1)
        await asyncio.sleep(0.001)
    await second.reach(1)
    assert (first.seen, second.seen) == ([1], [2])
    await (await waiting).aclose()


async def test_standby_ends_with_its_channel(timed: Bus, clock: ManualClock) -> None:
    """Whoever stands by is told when the channel stops, and does not become the owner."""
    channel = timed.broadcast("events")
    await channel.subscribe("a", durable=True)
    waiting = asyncio.ensure_future(channel.subscribe("a", Recorder(), durable=True, standby=True))
    await quiet(timed)
    await channel.stop()
    while not waiting.done():
        clock.advance(1)
        await asyncio.sleep(0.001)
    assert isinstance(waiting.exception(), ClosedError)
    async with BroadcastChannel("events", store=await timed.store(), clock=clock) as again:
        assert (await place(again))[2] is False


async def test_lag_and_position(bus: Bus) -> None:
    """The channel tells how far each durable subscription is, whoever owns it."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a", durable=True) as subscription:
        await channel.write_many("service", range(5))
        for _ in range(3):
            await anext(subscription)
        assert await subscription.lag() == 2
    position, lag, active = await place(channel)
    assert (position, lag, active) == (3, 2, False)


async def test_next_confirms(bus: Bus) -> None:
    """In a loop, asking for the next message confirms the last; leaving the block normally does too."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a", durable=True, start="earliest") as subscription:
        await channel.write_many("service", range(4))
        async for message in subscription:
            if data(message) == 2:
                break
    async with channel.subscribe("a", durable=True) as subscription:
        assert data(await anext(subscription)) == 3


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_exception_does_not_confirm(bus: Bus, error: type[BaseException]) -> None:
    """Leaving the block by an exception does not confirm the last message: it comes again."""
    channel = bus.broadcast("events")
    await channel.start()
    with pytest.raises(error):  # noqa: PT012  # the block is what raises
        async with channel.subscribe("a", durable=True) as subscription:
            await channel.write_many("service", range(3))
            async for message in subscription:
                if data(message) == 1:
                    raise error
    async with channel.subscribe("a", durable=True) as subscription:
        assert data(await anext(subscription)) == 1


async def test_tasks_confirm_their_own(bus: Bus) -> None:
    """When several tasks iterate, each confirms only what it had itself."""
    channel, hold = bus.broadcast("events"), asyncio.Event()
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # the block is what raises
        async with channel.subscribe("a", durable=True) as subscription:
            await channel.write_many("service", range(3))

            async def slow() -> None:
                seen.append(data(await anext(subscription)))
                await hold.wait()

            task = asyncio.ensure_future(slow())
            await until(lambda: seen == [0])
            assert [data(await anext(subscription)) for _ in range(2)] == [1, 2]
            await cancelled(task)
            raise ZeroDivisionError
    async with channel.subscribe("a", durable=True) as subscription:
        assert data(await anext(subscription)) == 0


async def test_cancelled_handler_is_no_attempt(timed: Bus) -> None:
    """A handler cancelled by the end of its subscription has not failed: the message comes again."""
    channel, gate, recorder = timed.broadcast("events"), Gate(), Recorder()
    subscription = await channel.subscribe("a", gate, durable=True, max_deliveries=1)
    await channel.write("service", 1, confirm="stored")
    await gate.entered.wait()
    await subscription.aclose(grace=0)
    async with channel.subscribe("a", recorder, durable=True, max_deliveries=1):
        await recorder.reach(1)
    assert recorder.seen == [1]


async def test_low_water(bus: Bus) -> None:
    """With concurrency the place stays before the oldest unfinished message; what is done is not repeated."""
    channel, hold, done = bus.broadcast("events"), asyncio.Event(), list[int]()

    async def handler(message: ChannelMessage) -> None:
        if data(message) == 1:
            await hold.wait()
        done.append(data(message))

    subscription = await channel.subscribe("a", handler, durable=True, concurrency=2)
    await channel.write_many("service", range(5), confirm="stored")
    await until(lambda: len(done) == 4)
    assert sorted(done) == [0, 2, 3, 4]
    await subscription.aclose(grace=0)
    assert (await place(channel))[0] == 1
    recorder = Recorder()
    async with channel.subscribe("a", recorder, durable=True):
        await channel.write("service", 5)
        await recorder.reach(2)
    assert recorder.seen == [1, 5]


async def test_pause_of_one_does_not_hold_the_others(timed: Bus) -> None:
    """With concurrency, a message that waits for its retry does not hold up new ones."""
    channel, seen = timed.broadcast("events"), list[int]()

    async def handler(message: ChannelMessage) -> None:
        seen.append(data(message))
        if data(message) == 0:
            raise ValueError

    await channel.subscribe(
        "a", handler, durable=True, concurrency=2, retry=Retry(initial=9, maximum=9, jitter=False)
    )
    for n in range(6):
        await channel.write("service", n, timeout=3600)
    assert seen == [0, 1, 2, 3, 4, 5]


async def test_closing_ends_a_pause(timed: Bus) -> None:
    """A subscription that waits for a retry ends at once when it is closed."""
    channel, failing = timed.broadcast("events"), Failing()
    subscription = await channel.subscribe("a", failing, durable=True, retry=STEADY)
    await channel.write("service", 1)
    await asyncio.wait_for(subscription.aclose(grace=3600), 10)


async def test_seek(bus: Bus) -> None:
    """Seeking moves the record: back repeats, forward skips, and a restart keeps it."""
    channel = bus.broadcast("events")
    await channel.write_many("service", range(6))
    async with channel.subscribe("a", durable=True, start="earliest") as subscription:
        assert [data(await anext(subscription)) for _ in range(3)] == [0, 1, 2]
        await subscription.seek(2)
        assert [data(await anext(subscription)) for _ in range(2)] == [1, 2]
        await subscription.seek(6)
        with pytest.raises(UnknownMessage):
            await subscription.seek("nonsense")
    assert (await place(channel))[0] == 5
    async with channel.subscribe("a", durable=True) as subscription:
        assert data(await anext(subscription)) == 5


async def test_forget(bus: Bus) -> None:
    """Forgetting removes the record; a living owner loses its subscription."""
    channel = bus.broadcast("events")
    subscription = channel.subscribe("a", durable=True)
    async with subscription:
        assert await channel.forget("a")
        assert not await channel.forget("a")
        await channel.write("service", 1)
        with pytest.raises(SubscriptionLost, match="'a' of channel 'events'"):
            await anext(subscription)
    assert await channel.subscriptions() == []


async def test_gap_behind_retention(bus: Bus) -> None:
    """Retention may pass a durable place: the reader gets a gap, then what is left (SN-47)."""
    channel = bus.broadcast("events")
    async with channel.subscribe("a", durable=True, start="earliest") as subscription:
        await channel.write_many("service", range(3))
        assert data(await anext(subscription)) == 0
    await channel.evict(max_count=1)
    async with channel.subscribe("a", durable=True) as subscription:
        events = subscription.events()
        assert await anext(events) == Gap(2, 2)
        message = await anext(events)
        assert isinstance(message, ChannelMessage)
        assert data(message) == 2


async def test_filtered_messages_move_the_place(bus: Bus) -> None:
    """What does not match the topic is not before the subscription for ever."""
    channel, recorder = bus.broadcast("events"), Recorder()
    async with channel.subscribe("a", recorder, durable=True, topic="x.*"):
        for n in range(4):
            await channel.write("service", n, topic="y.z")
    assert (await place(channel))[:2] == (4, 0)


@pytest.mark.parametrize("handled", [True, False])
async def test_filtered_messages_move_the_place_meanwhile(
    timed: Bus, clock: ManualClock, handled: bool
) -> None:
    """Others see a subscription that waits for a rare topic as level, though it goes on waiting."""
    channel = timed.broadcast("events")
    subscription = channel.subscribe("a", Recorder() if handled else None, durable=True, topic="x.*")
    async with subscription:
        waiting = None if handled else asyncio.ensure_future(anext(subscription))
        await quiet(timed)
        for n in range(4):
            await channel.write("service", n, topic="y.z")
        await quiet(timed)
        clock.advance(NOTED)
        await quiet(timed)
        assert await place(channel) == (4, 0, True)
        if waiting is not None:
            await cancelled(waiting)


async def test_filtered_history_moves_the_place(bus: Bus) -> None:
    """What the store passes over in a history is not before the subscription for ever either."""
    channel, recorder = bus.broadcast("events"), Recorder()
    for n in range(9):
        await channel.write("service", n, topic="x.y" if n == 4 else "y.z")
    async with channel.subscribe("a", recorder, durable=True, topic="x.*", start="earliest"):
        await recorder.reach(1)
        await quiet(bus)
        assert (await place(channel))[:2] == (9, 0)
    async with channel.subscribe("b", recorder, durable=True, topic="none", start="earliest"):
        await quiet(bus)
    assert [info.position for info in await channel.subscriptions()] == [9, 9]
    assert recorder.seen == [4]


class Moody(MemoryStore):
    """A store whose records cannot be written for a while."""

    failures = 0

    async def put(self, space: str, name: str, value: bytes, *, version: int | None) -> int | None:
        if self.failures:
            self.failures -= 1
            raise StoreTimeout("Saving", 5)
        return await super().put(space, name, value, version=version)


async def test_store_in_trouble(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A durable subscription outlives a store that fails for a while, and counts each attempt once."""
    store, recorder = Moody(clock=clock), Recorder()
    async with BroadcastChannel("events", store=store, clock=clock) as channel:
        subscription = await channel.subscribe("a", recorder, durable=True)
        store.failures = 3
        writing = asyncio.ensure_future(channel.write("service", 1))
        while not writing.done():
            await run_until_idle()
            clock.advance(1)
        assert (recorder.seen, subscription.error) == ([1], None)
        await run_until_idle()
    await store.aclose()


async def test_shared_record_in_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two processes' handles under one name never both own it (FX-50)."""
    url = f"sqlite:///{tmp_path}/deep.db?durability=process"
    caplog.set_level(logging.CRITICAL)
    async with Bus(url) as one, Bus(url) as two:
        buses = (one, two, one, two)
        tried = await asyncio.gather(
            *(bus.broadcast("events").subscribe("a", durable=True) for bus in buses), return_exceptions=True
        )
        assert sum(isinstance(result, SubscriptionInUse) for result in tried) == 3
