"""The one task that follows the stores."""

import asyncio
from collections.abc import Sequence

import pytest

from sssnbus import BroadcastChannel, Bus, FanOutDied, Pattern, StoreReset, StoreUnavailable
from sssnbus.delivery.fanout import FanOut
from sssnbus.stores import MemoryStore, News, Page, Record
from sssnbus.testing import run_until_idle
from tests.channels.tools import Recorder, data, until


async def test_one_for_all() -> None:
    """All buses and channels of a loop share one task; it ends with the last of them (BV-31, BV-33)."""
    loop = asyncio.get_running_loop()
    assert FanOut._running.get(loop) is None
    async with Bus() as one:
        fanout = FanOut._running[loop]
        async with Bus() as two, BroadcastChannel("c") as alone:
            for channel in (one.broadcast("c"), two.broadcast("c"), alone):
                await channel.subscribe("a", Recorder())
            names = [task.get_name() for task in asyncio.all_tasks()]
            assert names.count("sssnbus-fanout") == 1
        assert FanOut._running[loop] is fanout
        assert not fanout._task.done()
    assert fanout._task.done()
    assert FanOut._running.get(loop) is None


async def test_death_is_loud() -> None:
    """An error of ours ends live delivery loudly: the next call and the exit raise it, chained."""
    channel = BroadcastChannel("c")
    await channel.start()
    recorder = Recorder()
    await channel.subscribe("a", recorder)
    (tail,) = FanOut._running[asyncio.get_running_loop()]._tails.values()

    async def broken() -> None:
        raise ZeroDivisionError

    tail.follow = broken  # type: ignore[method-assign]  # the mistake that this is about
    tail.check()
    await run_until_idle()
    with pytest.raises(FanOutDied) as caught:
        await channel.write("s", 1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(FanOutDied):
        await channel.stop()
    async with channel:
        await channel.write("s", 1)


class Moody(MemoryStore):
    """A store that does not answer for a while."""

    failures = 0
    error: type[Exception] = StoreUnavailable
    behind = 0

    async def last(self, logs: Sequence[str]) -> dict[str, int]:
        self._answer()
        return {name: last - self.behind for name, last in (await super().last(logs)).items()}

    async def read(
        self, log: str, *, after: int, limit: int, upto: int | None = None, topics: Sequence[Pattern] = ()
    ) -> Page:
        self._answer()
        page = await super().read(log, after=after, limit=limit, upto=upto, topics=topics)
        return page._replace(last=page.last - self.behind)

    def _answer(self) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error("it is away")


async def test_failure_that_passes() -> None:
    """A store that is away for a moment is asked again, and nothing is missed (BV-15)."""
    store, recorder = Moody(), Recorder()
    await store.open()
    async with BroadcastChannel("c", store=store) as channel:
        await channel.subscribe("a", recorder)
        store.failures = 2
        draft = channel._drafter.draft("other", 1, {})
        await store.append([draft])
        (tail,) = FanOut._running[asyncio.get_running_loop()]._tails.values()
        tail.check()
        await recorder.reach(1)
        assert recorder.seen == [1]
    await store.aclose()


class Slow(MemoryStore):
    """A store that keeps those waiting who ask it for a broadcast channel's settings."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def get(self, space: str, name: str) -> Record | None:
        if name == "retention":
            self.asked.set()
            await self.answer.wait()
        return await super().get(space, name)


async def test_stopping_beside_a_start() -> None:
    """A channel that is still starting when the only other one is stopped gets the news of its store."""
    store, recorder = Slow(), Recorder()
    await store.open()
    async with Bus(store) as bus:
        events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
        await jobs.start()
        subscribing = asyncio.ensure_future(events.subscribe("a", recorder))
        await store.asked.wait()
        await jobs.stop()
        store.answer.set()
        await subscribing
        await store.append([events._drafter.draft("other", 1, {})])
        await events.write("me", 2, confirm="stored")
        await recorder.reach(2)
        assert recorder.seen == [1, 2]
    await store.aclose()


async def test_news_without_messages() -> None:
    """News of a channel that brings no messages makes the fan-out look for them."""
    store, recorder = MemoryStore(), Recorder()
    await store.open()
    async with BroadcastChannel("c", store=store) as channel:
        await channel.subscribe("a", recorder)
        await run_until_idle()
        await store.append([channel._drafter.draft("other", 1, {})])
        (tail,) = FanOut._running[asyncio.get_running_loop()]._tails.values()
        tail.take(News("c", []))
        await recorder.reach(1)
        assert recorder.seen == [1]
    await store.aclose()


async def test_failure_that_stays(caplog: pytest.LogCaptureFixture) -> None:
    """A failure that does not pass ends the subscriptions of that store with it, and only those."""

    class Broken(StoreUnavailable):
        retryable = False

    store, recorder = Moody(), Recorder()
    async with BroadcastChannel("c", store=store) as channel, BroadcastChannel("d") as other:
        subscription = await channel.subscribe("a", Recorder())
        await other.subscribe("a", recorder)
        store.error, store.failures = Broken, 1
        (tail,) = (t for t in FanOut._running[asyncio.get_running_loop()]._tails.values() if t.store is store)
        tail.check()
        await until(lambda: isinstance(subscription.error, Broken))
        await other.write("s", 1)
        assert recorder.seen == [1]
    await store.aclose()


async def test_store_that_lost_its_data(caplog: pytest.LogCaptureFixture) -> None:
    """A store whose newest message is older than what was delivered ends the subscription, and says so."""
    store = Moody()
    async with BroadcastChannel("c", store=store) as channel:
        async with channel.subscribe("a") as subscription:
            await channel.write_many("s", range(3))
            assert [data(await anext(subscription)) for _ in range(3)] == [0, 1, 2]
            store.behind = 2
            (tail,) = FanOut._running[asyncio.get_running_loop()]._tails.values()
            tail.check()
            with pytest.raises(StoreReset, match="ends at 1, but the reader had reached 3"):
                await anext(subscription)
        store.behind = 0
    await store.aclose()


async def test_hints_after_the_end() -> None:
    """A hint that comes after the last stop starts nothing."""
    store = MemoryStore()
    async with BroadcastChannel("c", store=store) as channel:
        await channel.subscribe("a", Recorder())
        (tail,) = FanOut._running[asyncio.get_running_loop()]._tails.values()
    tail.check()
    assert tail._unwatch is None
    await store.aclose()


async def test_stop_awaits_the_end() -> None:
    """The last stop awaits the end of every task of ours (SN-36)."""
    before = asyncio.all_tasks()
    async with Bus() as bus:
        await bus.broadcast("c").subscribe("a", Recorder(), concurrency=3)
        await bus.work_queue("q").subscribe("w", Recorder(), concurrency=3)
        assert len(asyncio.all_tasks() - before) >= 7
    assert asyncio.all_tasks() == before
