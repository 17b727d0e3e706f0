"""The life of a channel: started, used, drained, stopped, and everything that comes at the wrong moment."""

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from sssnbus import (
    BroadcastChannel,
    Bus,
    BusTimeout,
    Channel,
    ChannelKindMismatch,
    ChannelMessage,
    ClosedError,
    FanOutDied,
    InvalidOption,
    MissingAbility,
    NotStarted,
    Retry,
    WorkQueueChannel,
    WrongLoop,
)
from sssnbus.delivery.fanout import FanOut
from sssnbus.stores import LogStore, MemoryStore
from sssnbus.testing import ManualClock, run_until_idle
from tests.channels.tools import Gate, Recorder, cancelled, data, python, quiet

Kind = Callable[..., Any]
KINDS = (BroadcastChannel, WorkQueueChannel)


@pytest.mark.parametrize("kind", KINDS)
async def test_not_started(kind: Kind) -> None:
    """Every verb of a channel that was not started is refused (SN-03)."""
    channel = kind("c")
    verbs: list[Callable[[], Awaitable[object]]] = [
        lambda: channel.write("s", 1),
        lambda: channel.write_many("s", [1]),
        lambda: channel.statistics(),
        lambda: channel.clear(),
        lambda: channel.remove([]),
        lambda: channel.unsubscribe("a"),
        lambda: channel.drain(),
        lambda: channel.subscribe("a"),
        lambda: channel.dead_letters.list(),
        lambda: channel.read("a", exclusive=kind is WorkQueueChannel),
    ]
    for verb in verbs:
        with pytest.raises(NotStarted):
            await verb()
    await channel.stop()


@pytest.mark.parametrize("kind", KINDS)
async def test_stopped(kind: Kind, store_url: str) -> None:
    """Every verb of a stopped channel is refused; stopping again does nothing (SN-48, FX-20)."""
    channel = kind("c", store=store_url)
    async with channel:
        await channel.write("s", 1)
    for _ in range(2):
        await channel.stop()
    for verb in (channel.write("s", 1), channel.statistics(), channel.clear()):
        with pytest.raises(ClosedError, match="stopped"):
            await verb


@pytest.mark.parametrize("kind", KINDS)
async def test_started_twice(kind: Kind, store_url: str) -> None:
    """Starting is idempotent, also by several tasks at once; one stop ends it."""
    channel = kind("c", store=store_url)
    await asyncio.gather(*(channel.start() for _ in range(3)))
    await channel.start()
    await channel.write("s", 1)
    await asyncio.gather(*(channel.stop() for _ in range(3)))
    assert FanOut._running.get(asyncio.get_running_loop()) is None


async def test_started_and_stopped_in_different_tasks(store_url: str) -> None:
    """The task that stops need not be the one that started."""
    channel = BroadcastChannel("c", store=store_url)
    await asyncio.create_task(channel.start())
    await asyncio.ensure_future(channel.subscribe("a", Recorder()))
    await asyncio.ensure_future(channel.write("s", 1))
    await asyncio.create_task(channel.stop())


async def test_restart(file_url: str) -> None:
    """A stopped channel can be started again; what is stored is still there (FX-06)."""
    channel = BroadcastChannel("c", store=file_url)
    for n in range(3):
        async with channel:
            await channel.write("s", n)
            assert [data(m) for m in await channel.read("x", after=0)] == list(range(n + 1))


def test_two_loops(store_url: str) -> None:
    """One channel object works in two event loops, one after the other, however busy each was."""
    channel = BroadcastChannel("c", store=store_url)
    queue = WorkQueueChannel("q", store=store_url)

    async def use() -> None:
        await asyncio.gather(*(c.start() for c in (channel, queue) for _ in range(3)))
        recorder = Recorder()
        async with channel.subscribe("a", recorder, start="earliest"):
            await asyncio.gather(*(channel.write("s", n) for n in range(5)))
            await asyncio.gather(*(channel.read("x", after=0) for _ in range(3)))
            await recorder.reach(5)
        await queue.write("s", 1)
        async with queue.claim("w"):
            pass
        await asyncio.gather(*(c.stop() for c in (channel, queue) for _ in range(3)))

    for _ in range(2):
        asyncio.run(use())


def test_unclosed_and_used_in_another_loop(store_url: str) -> None:
    """A channel that was left open in a loop says, in another one, where it belongs."""
    channel = BroadcastChannel("c", store=store_url)
    bus = Bus(store_url)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(channel.start())
    loop.run_until_complete(bus.start())

    async def elsewhere() -> None:
        for verb in (channel.write("s", 1), channel.start(), channel.stop(), bus.stop()):
            with pytest.raises(WrongLoop, match="another event loop"):
                await verb
        async with BroadcastChannel("c") as other:
            await other.write("s", 1, timeout=5)

    asyncio.run(elsewhere())
    loop.run_until_complete(channel.write("s", 1))
    loop.run_until_complete(channel.stop())
    loop.run_until_complete(bus.stop())
    loop.close()


async def test_foreign_loop(bus: Bus) -> None:
    """A channel used from a thread with a loop of its own refuses, and stays usable (FX-20)."""
    channel, errors = bus.broadcast("c"), list[type[BaseException]]()
    await channel.start()

    def elsewhere() -> None:
        for target in (channel, bus.broadcast("new")):
            try:
                asyncio.run(target.write("s", 1))
            except WrongLoop as error:
                errors.append(type(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert errors == [WrongLoop, WrongLoop]
    await channel.write("s", 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("url", ["memory://", "file"])
def test_fork(url: str, file_url: str) -> None:
    """After a fork the child's bus refuses to work, and the parent's goes on unharmed."""
    ended = python(
        """
        import asyncio, os, sys
        from sssnbus import Bus, ForkedProcess

        async def main():
            async with Bus(sys.argv[1]) as bus:
                events = bus.broadcast("events")
                await events.write("parent", 1)
                child = os.fork()
                if not child:
                    refused = 0
                    for verb in (events.write("c", 2), bus.broadcast("new").write("c", 2), bus.stop()):
                        try:
                            await verb
                        except ForkedProcess:
                            refused += 1
                    os._exit(refused)
                _, status = os.waitpid(child, 0)
                await events.write("parent", 3)
                history = [m.content.data for m in await events.read("x")]
                print(os.waitstatus_to_exitcode(status), history)

        asyncio.run(main())
        """,
        file_url if url == "file" else url,
    )
    assert (ended.stdout, ended.stderr) == ("3 [1, 3]\n", "")


async def test_drain(bus: Bus) -> None:
    """Drain refuses new writes, lets what is written be handled, and stops (SN-48)."""
    channel, gate = bus.broadcast("c"), Gate()
    await channel.subscribe("a", gate, buffer=2)
    await channel.write_many("s", range(10), confirm="stored")
    draining = asyncio.ensure_future(channel.drain(timeout=20))
    await gate.entered.wait()
    await quiet(bus)
    with pytest.raises(ClosedError):
        await channel.write("s", 10)
    with pytest.raises(ClosedError):
        await channel.start()
    assert not draining.done()
    gate.opened.set()
    await draining
    assert gate.seen == list(range(10))
    with pytest.raises(ClosedError):
        await channel.write("s", 10)


async def test_drain_queue(bus: Bus) -> None:
    """Draining a queue with workers waits until they have done everything (SN-48)."""
    queue, recorder = bus.work_queue("q"), Recorder()
    await queue.write_many("s", range(10))
    await queue.subscribe("w", recorder)
    await queue.drain(timeout=20)
    assert recorder.seen == list(range(10))


async def test_drain_without_workers(bus: Bus) -> None:
    """Draining a queue that nobody works on here stops it; the messages stay (SN-48)."""
    queue = bus.work_queue("q")
    await queue.write("s", 1)
    await queue.drain(timeout=20)
    async with WorkQueueChannel("q", store=await bus.store()) as again:
        assert len(await again.read("w", exclusive=True)) == 1


@pytest.mark.parametrize("kind", ["broadcast", "work_queue"])
async def test_drain_times_out(bus: Bus, kind: str) -> None:
    """At its time-out drain stops all the same, and says that work was left (SN-48)."""
    channel, gate = getattr(bus, kind)("c"), Gate()
    await channel.write("s", 0)
    await channel.subscribe("a", gate, **({"start": "earliest"} if kind == "broadcast" else {}))
    await gate.entered.wait()
    asyncio.get_running_loop().call_later(0.2, gate.opened.set)
    with pytest.raises(BusTimeout):
        await channel.drain(timeout=0.01)
    with pytest.raises(ClosedError):
        await channel.write("s", 1)
    with pytest.raises(InvalidOption):
        await channel.drain(timeout=-1)


async def test_stop_lets_handlers_finish(bus: Bus) -> None:
    """Stop waits for what runs, within its grace (FX-15)."""
    channel, queue = bus.broadcast("c"), bus.work_queue("q")
    gates = Gate(), Gate()
    await channel.subscribe("a", gates[0])
    await queue.subscribe("w", gates[1])
    await channel.write_many("s", range(2), confirm="stored")
    await queue.write_many("s", range(2))
    for gate in gates:
        await gate.entered.wait()
    stopping = asyncio.ensure_future(bus.stop(grace=30))
    await asyncio.sleep(0.01)
    assert not stopping.done()
    for gate in gates:
        gate.opened.set()
    await stopping
    assert [gate.seen for gate in gates] == [[0], [0]]


@pytest.mark.parametrize("kind", ["broadcast", "work_queue"])
async def test_stop_with_a_stuck_handler(bus: Bus, kind: str) -> None:
    """Stop does not wait for a stuck handler beyond its grace: it is cancelled."""
    channel, gate = getattr(bus, kind)("c"), Gate()
    await channel.subscribe("a", gate)
    await channel.write("s", 1, **({"confirm": "stored"} if kind == "broadcast" else {}))
    await gate.entered.wait()
    async with asyncio.timeout(10):
        await channel.stop(grace=0.01)
    assert gate.seen == []


@pytest.mark.parametrize("grace", [-1, float("nan"), "1"])
async def test_bad_grace(bus: Bus, grace: float) -> None:
    """A grace that is no span of time is refused, and nothing is stopped."""
    channel = bus.broadcast("c")
    await channel.write("s", 1)
    for stop in (channel.stop, bus.stop):
        with pytest.raises(InvalidOption, match="grace"):
            await stop(grace)
    await channel.write("s", 2)


@pytest.mark.parametrize("kind", ["broadcast", "work_queue"])
async def test_stop_from_inside_a_handler(bus: Bus, kind: str) -> None:
    """A handler may stop its own channel: it is not waited for, and runs to its end."""
    channel, ended = getattr(bus, kind)("c"), asyncio.Event()

    async def handler(message: ChannelMessage) -> None:
        await channel.stop(grace=30)
        ended.set()

    await channel.subscribe("a", handler)
    await channel.write("s", 1, **({"confirm": "stored"} if kind == "broadcast" else {}))
    async with asyncio.timeout(10):
        await ended.wait()


async def test_stop_wakes_who_waits(bus: Bus) -> None:
    """Iterators and claims that wait are told when their channel stops."""
    channel, queue = bus.broadcast("c"), bus.work_queue("q")
    async with channel.subscribe("a") as subscription, queue.subscribe("w") as workers:
        iterating = [asyncio.ensure_future(anext(it, None)) for it in (subscription, workers)]
        claiming = asyncio.ensure_future(queue.claim("b").__aenter__())
        await quiet(bus)
        await bus.stop()
        assert await asyncio.gather(*iterating) == [None, None]
        with pytest.raises(ClosedError):
            await claiming


@pytest.mark.parametrize(("first", "second"), [KINDS, KINDS[::-1]])
async def test_kind_mismatch(store_url: str, first: Kind, second: Kind) -> None:
    """A name is one kind of channel for good; the other kind is refused and named."""
    async with Bus(store_url) as bus:
        store = await bus.store()
        async with first("c", store=store):
            pass
        with pytest.raises(ChannelKindMismatch, match=r"is a (broadcast|work queue) channel"):
            await second("c", store=store).start()
        async with first("c", store=store) as channel:
            await channel.write("s", 1)


class Logs(LogStore):
    """The least that a store can be: everything it can do is borrowed."""

    url, durability = "logs://", "none"

    def __init__(self) -> None:
        self.inner = MemoryStore()

    async def open(self) -> None:
        await self.inner.open()

    async def aclose(self, grace: float = 5.0) -> None:
        await self.inner.aclose()

    async def append(self, drafts: Any, **options: Any) -> Any:
        return await self.inner.append(drafts, **options)

    async def read(self, log: str, **options: Any) -> Any:
        return await self.inner.read(log, **options)

    async def last(self, logs: Any) -> Any:
        return await self.inner.last(logs)

    async def locate(self, log: str, time: float) -> int:
        return await self.inner.locate(log, time)

    async def trim(self, log: str, **options: Any) -> int:
        return await self.inner.trim(log, **options)

    async def remove(self, log: str, ids: Any) -> int:
        return await self.inner.remove(log, ids)


async def test_missing_ability() -> None:
    """A channel that asks for what its store cannot do fails when it starts, naming what is missing."""
    store = Logs()
    with pytest.raises(MissingAbility, match="ByID") as caught:
        await BroadcastChannel("c", store=store).start()
    assert "Catalogue" in caught.value.abilities
    with pytest.raises(MissingAbility, match="QueueStore"):
        await WorkQueueChannel("c", store=store).start()
    with pytest.raises(MissingAbility, match="Priority"):
        await WorkQueueChannel("c", store=store, priorities=True).start()
    assert FanOut._running.get(asyncio.get_running_loop()) is None


@pytest.mark.parametrize("target", ["channel", "bus"])
async def test_start_cancelled(store_url: str, target: str) -> None:
    """A start that is cancelled, at whatever step, leaves nothing open, and can be repeated."""
    for steps in range(12):
        what = BroadcastChannel("c", store=store_url) if target == "channel" else Bus(store_url)
        starting = asyncio.ensure_future(what.start())
        for _ in range(steps):
            await asyncio.sleep(0)
        await cancelled(starting)
        if starting.cancelled():
            assert FanOut._running.get(asyncio.get_running_loop()) is None
            await what.start()
        await what.stop()


@pytest.mark.parametrize("make", [Bus.broadcast, Bus.work_queue])
async def test_first_verb_cancelled(bus: Bus, make: Callable[[Bus, str], Channel]) -> None:
    """A channel of a bus that was about to start when its first verb was cancelled starts with the next."""
    for steps in range(12):
        channel = make(bus, f"c{steps}")
        writing = asyncio.ensure_future(channel.write("s", 1))
        for _ in range(steps):
            await asyncio.sleep(0)
        await cancelled(writing)
        await channel.write("s", 2)


async def test_first_verb_cancelled_beside_another(bus: Bus) -> None:
    """Who begins with a channel while the verb that starts it is being cancelled has it for good."""
    for steps, later in product(range(12), range(4)):
        channel, recorder = bus.broadcast(f"c{steps}-{later}"), Recorder()
        writing = asyncio.ensure_future(channel.write("s", 1))
        for _ in range(steps):
            await asyncio.sleep(0)
        writing.cancel()
        for _ in range(later):
            await asyncio.sleep(0)
        await channel.subscribe("a", recorder)
        await asyncio.wait([writing])
        await channel.write("s", 2)
        assert recorder.seen[-1:] == [2], (steps, later)


@pytest.mark.parametrize("target", ["channel", "bus"])
async def test_stop_cancelled(store_url: str, target: str) -> None:
    """A stop that is cancelled is finished all the same."""
    for steps in range(8):
        what = BroadcastChannel("c", store=store_url) if target == "channel" else Bus(store_url)
        await what.start()
        stopping = asyncio.ensure_future(what.stop())
        for _ in range(steps):
            await asyncio.sleep(0)
        await cancelled(stopping)
        await what.stop()
        assert FanOut._running.get(asyncio.get_running_loop()) is None


async def test_store_given_as_object() -> None:
    """A store given as an object is opened if need be, and stays its owner's to close (SB-271)."""
    store = MemoryStore()
    for n in range(2):
        async with BroadcastChannel("c", store=store) as channel:
            assert (await channel.write("s", n)).sequence == n + 1
    await store.last(["c"])
    await store.aclose()


async def test_fan_out_death_is_loud(bus: Bus) -> None:
    """When the delivery task dies, the next call and the exit fail; who waits is told."""
    channel, jobs = bus.broadcast("c"), bus.work_queue("jobs")
    async with channel.subscribe("a") as subscription:
        waiting = asyncio.ensure_future(anext(subscription))
        claiming = asyncio.ensure_future(jobs.claim("w").__aenter__())
        await quiet(bus)
        fanout = FanOut._running[asyncio.get_running_loop()]
        fanout._task.cancel()
        with pytest.raises(FanOutDied):
            await waiting
        with pytest.raises(FanOutDied):
            await claiming
        with pytest.raises(FanOutDied):
            await channel.write("s", 1)
        with pytest.raises(FanOutDied):
            await channel.start()
    with pytest.raises(FanOutDied):
        await bus.stop()
    await bus.stop()
    async with Bus() as again:
        await again.broadcast("c").write("s", 1)


def test_constructors_need_no_loop(tmp_path: Path) -> None:
    """Constructors do no I/O and need no event loop."""
    bus = Bus(f"sqlite:///{tmp_path}/x.db")
    assert "not started" in repr(bus)
    assert repr(bus.broadcast("events")) == "<BroadcastChannel 'events' not started>"
    assert not list(tmp_path.iterdir())


async def test_nothing_is_left(store_url: str) -> None:
    """After stop no task of ours is left, and nothing holds what the subscribers held (SN-36, BV-13)."""
    before = asyncio.all_tasks()
    async with Bus(store_url) as bus:
        await bus.broadcast("c").subscribe("a", Recorder())
        await bus.work_queue("q").subscribe("w", Recorder())
        await bus.broadcast("c").write("s", 1)
    assert asyncio.all_tasks() == before
    gc.collect()
    assert not [o for o in gc.get_objects() if isinstance(o, Recorder)]


def test_python_version() -> None:
    """Python 3.11 is enough (FX-03)."""
    assert sys.version_info >= (3, 11)


async def test_drain_waits_for_retries(clock: ManualClock) -> None:
    """Draining a queue lets a message that failed have its next attempt (SN-48)."""
    async with Bus(clock=clock) as bus:
        queue = bus.work_queue("jobs", retry=Retry(initial=1, jitter=False))
        attempts, failed = [], asyncio.Event()

        async def flaky(message: ChannelMessage) -> None:
            attempts.append(message.content.data)
            if len(attempts) == 1:
                failed.set()
                raise ValueError("once")

        await queue.subscribe("w", flaky)
        await queue.write("service", 1)
        await failed.wait()
        draining = asyncio.ensure_future(queue.drain())
        await run_until_idle()
        assert not draining.done()
        clock.advance(1)
        await draining
        assert attempts == [1, 1]


async def test_memory_begins_anew() -> None:
    """A channel in memory that is started again is empty, and its readers begin at the beginning."""
    channel = BroadcastChannel("events")
    async with channel:
        await channel.write("service", 1)
        assert [message.content.data for message in await channel.read("carol")] == [1]
    async with channel:
        await channel.write("service", 2)
        assert [message.content.data for message in await channel.read("carol")] == [2]


@pytest.mark.parametrize("data", ["{'a': 1}", "'text'"])
def test_models_are_loaded_off_the_loop(data: str) -> None:
    """The message classes take long to import: text needs none, and nobody waits while others do."""
    program = f"""
        import asyncio, sys, threading
        from sssnbus import Bus

        class Watch:
            def find_spec(self, name, path=None, target=None):
                if name == "pydantic":
                    where = "the loop" if threading.current_thread() is main else "a thread"
                    print("pydantic is imported in", where)

        main = threading.current_thread()
        sys.meta_path.insert(0, Watch())

        async def run():
            async with Bus() as bus:
                jobs = bus.work_queue("jobs")
                await jobs.write("me", {data})
                print("written")
                (message,) = await jobs.read("w", exclusive=True)
                print(message.content.data)

        asyncio.run(run())
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    lines = ["pydantic is imported in a thread", "written"]
    assert ran.stdout.splitlines()[:2] == (lines if data.startswith("{") else lines[::-1])
