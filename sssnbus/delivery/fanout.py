"""The fan-out: one task per event loop that takes news from the stores to the subscriptions.

A ``Head`` is the newest point of one channel that this process has handed out. Messages written here go
through it at once, in ``publish``; what other processes write is read from the store by the task. Either
way a head moves strictly forward, one sequence after the other, and never waits for a subscription.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, ClassVar, Final, Self
from weakref import WeakKeyDictionary

from sssnbus.delivery.handling import at_work, called_from, outside
from sssnbus.delivery.head import Decode, Head
from sssnbus.delivery.shield import PARTING, briefly, patience
from sssnbus.errors import BusError, FanOutDied
from sssnbus.stores.base import LogStore, News, Store, Wakeups

log = logging.getLogger("sssnbus")

_PAUSE: Final = (0.05, 2.0)
"""The first and the longest wait, in seconds, after a store has failed to answer."""


Listener = Callable[[int | None], None]
"""Is told how many messages are new; None if that is not known."""


class Tail:
    """One store as the fan-out follows it: its heads, and who wants to hear of any news at all."""

    def __init__(self, fanout: "FanOut", store: LogStore) -> None:
        self.fanout = fanout
        self.store = store
        self.heads: dict[str, Head] = {}
        self.listeners: dict[str, list[Listener]] = {}
        self.users = 0
        """How many were given it and have not given it back. Some of them are still starting."""
        self.due = False
        self.failures = 0
        self._wakeups = store if isinstance(store, Wakeups) else None
        self._unwatch: Callable[[], None] | None = None
        self._ended = False

    @property
    def poll_interval(self) -> float | None:
        """Seconds between looks at the store while somebody waits for its news; None: no looks."""
        if self._wakeups is None or not self.busy:
            return None
        return self._wakeups.poll_interval

    @property
    def busy(self) -> bool:
        """Whether anybody here waits for news."""
        return bool(self.listeners) or any(head.attached for head in self.heads.values())

    def head(self, channel: str, decode: Decode) -> Head:
        """Return the head of a channel, the same one for everybody in this loop."""
        head = self.heads.get(channel)
        if head is None:
            head = self.heads[channel] = Head(channel, self.store, self.check, decode)
        head.users += 1
        return head

    def leave(self, head: Head) -> None:
        """Give a head back."""
        head.users -= 1
        if not head.users:
            del self.heads[head.channel]

    def listen(self, channel: str, ring: Listener) -> Callable[[], None]:
        """Call ``ring`` when the store has news that may concern a channel; return what ends that."""
        self.listeners.setdefault(channel, []).append(ring)
        self.watch()

        def end() -> None:
            rings = self.listeners[channel]
            rings.remove(ring)
            if not rings:
                del self.listeners[channel]

        return end

    def notify(self, channel: str, count: int | None = None) -> None:
        """Tell the listeners of one channel about ``count`` new messages; None: nobody knows how many."""
        for ring in self.listeners.get(channel, ()):
            ring(count)

    def watch(self) -> None:
        """Begin to hear the store's hints."""
        if self._wakeups is not None and self._unwatch is None and not self._ended:
            self._unwatch = self._wakeups.watch(self.check, self.take)
            self.fanout.wake()

    def unwatch(self) -> None:
        """Stop hearing the store's hints, for good."""
        self._ended = True
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def check(self) -> None:
        """Have the fan-out task look for news soon."""
        self.watch()
        self.due = True
        self.fanout.wake()

    def take(self, news: News) -> None:
        """Hand on news that came with its messages: right behind the head they need no trip to the store."""
        self.notify(news.log)
        head = self.heads.get(news.log)
        if head is not None and news.messages:
            head.take(news.messages)
        elif head is not None:
            # Something there changed, and only the store can say what.
            self.check()

    async def poll(self) -> None:
        """Look whether others have written, in case a hint was lost."""
        if self._wakeups is not None and self.busy and await self._wakeups.changed():
            self.due = True

    async def follow(self) -> None:
        """Bring every head up to date with the store."""
        self.due = False
        for channel in tuple(self.listeners):
            self.notify(channel)
        heads = {name: head for name, head in self.heads.items() if head.attached}
        if len(heads) < 2:
            for head in heads.values():
                await head.look()
            return
        before = {name: head.position for name, head in heads.items()}
        for name, last in (await self.store.last(list(heads))).items():
            heads[name].heard(last, before[name])
            await heads[name].catch_up()


class FanOut:
    """The one task of an event loop that follows the stores, shared by all started channels."""

    _running: ClassVar["WeakKeyDictionary[asyncio.AbstractEventLoop, FanOut]"] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._tails: dict[int, Tail] = {}
        self._users = 0
        self._news = asyncio.Event()
        self._polled = 0.0
        self.error: BaseException | None = None
        self._tasks: dict[asyncio.Task[Any], Context] = {}
        self._given_up: set[asyncio.Task[Any]] = set()
        self._task = asyncio.create_task(self._run(), name="sssnbus-fanout")

    @classmethod
    def enter(cls) -> Self:
        """Return the running loop's fan-out, starting it for the first user."""
        loop = asyncio.get_running_loop()
        fanout = cls._running.get(loop)
        if fanout is None:
            fanout = cls._running[loop] = cls()
        fanout._users += 1
        return fanout  # type: ignore[return-value]  # the registry holds only this class

    async def leave(self, patience: float = PARTING) -> Collection[asyncio.Task[Any]]:
        """Give the fan-out back; the last user awaits its end and raises what killed it, if anything.

        Returns:
            Tasks that were given up, or did not end within ``patience`` seconds: they wait for a store.
        """
        self._users -= 1
        if self._users:
            return ()
        self._running.pop(asyncio.get_running_loop(), None)
        for tail in self._tails.values():
            tail.unwatch()
        self._task.cancel()
        tasks = {self._task, *self._tasks} - self.callers() - self._given_up
        _, left = await asyncio.wait(tasks, timeout=patience)
        self.check()
        return left | self._given_up

    async def see_off(self, tasks: Collection[asyncio.Task[Any]], store: LogStore, channel: str) -> bool:
        """Wait until cancelled tasks of ours have ended; return False if some wait for a store in vain.

        A handler takes the time it needs to end, unless it may be waiting for that store too.
        """
        left = set(tasks)
        # Most handlers end at once, and then it is clear what their tasks wait for.
        await asyncio.sleep(0)
        while left:
            handling = any(at_work(self._tasks[task]) for task in left if task in self._tasks)
            _, left = await asyncio.wait(left, timeout=PARTING)
            if left and not (handling and await _answers(store, channel)):
                self._given_up |= left
                return False
        return True

    @property
    def cancelled(self) -> bool:
        """Whether the loop is being torn down round it."""
        return isinstance(self.error, asyncio.CancelledError) or self._task.cancelling() > 0

    def check(self) -> None:
        """Raise ``FanOutDied`` if messages are no longer handed out."""
        if self.error is not None:
            raise FanOutDied from self.error

    def tail(self, store: LogStore) -> Tail:
        """Return how this loop follows a store, the same object for everybody, until all ``forget`` it."""
        tail = self._tails.get(id(store))
        if tail is None:
            tail = self._tails[id(store)] = Tail(self, store)
        tail.users += 1
        return tail

    def forget(self, tail: Tail) -> None:
        """Give back what ``tail`` has returned; the last one ends it."""
        tail.users -= 1
        if not tail.users:
            tail.unwatch()
            self._tails.pop(id(tail.store), None)

    def wake(self) -> None:
        """Let the task look at what is due."""
        self._news.set()

    def spawn(
        self, work: Coroutine[Any, Any, None], name: str, context: Context | None = None
    ) -> asyncio.Task[None]:
        """Run a task of ours; should it die by an error of ours, that is logged."""
        context = outside() if context is None else context
        task = asyncio.create_task(work, name=name, context=context)
        self._tasks[task] = context
        task.add_done_callback(self._ended)
        return task

    def callers(self) -> set[asyncio.Task[Any]]:
        """Return those of our tasks whose handlers have called us: nobody may wait here for their end."""
        return {task for task, context in self._tasks.items() if called_from(context)}

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._given_up.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("Task %s has died.", task.get_name(), exc_info=error)

    async def _run(self) -> None:
        try:
            while True:
                await self._wait()
                for tail in tuple(self._tails.values()):
                    if tail.due:
                        await self._follow(tail)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and not self._users:
                raise
            self.error = error
            if isinstance(error, asyncio.CancelledError):
                # The loop is being torn down round a bus that nobody stopped; that is told elsewhere.
                log.debug("The fan-out was cancelled from outside.")
            else:
                log.critical("The fan-out has died; no more live messages are handed out.", exc_info=error)
            for tail in self._tails.values():
                for head in tail.heads.values():
                    head.fail(FanOutDied())
                # Those who wait for a job look once more, and are told then.
                for channel in tuple(tail.listeners):
                    tail.notify(channel)
            raise

    async def _wait(self) -> None:
        """Wait for a hint, or until a store is to be polled; then mark what is due."""
        loop = asyncio.get_running_loop()
        intervals = [t.poll_interval for t in self._tails.values() if t.poll_interval is not None]
        interval = min(intervals, default=None)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if interval is None else self._polled + interval):
                await self._news.wait()
        # Also when there is news all the time: it may be another store's.
        if interval is not None and loop.time() >= self._polled + interval:
            self._polled = loop.time()
            for tail in tuple(self._tails.values()):
                if tail.poll_interval is not None:
                    await _attempt(tail.poll)
        self._news.clear()

    async def _follow(self, tail: Tail) -> None:
        error = await _attempt(tail.follow)
        if error is None:
            tail.failures = 0
        elif error.retryable:
            # What was not read stays due: a store that is away is asked again, ever more slowly.
            tail.failures += 1
            pause = min(_PAUSE[1], _PAUSE[0] * 2**tail.failures)
            asyncio.get_running_loop().call_later(pause, tail.check)
        else:
            for head in tuple(tail.heads.values()):
                head.fail(error)


async def depart(fanout: FanOut | None, store: Store | None, end: float) -> None:
    """Give the fan-out back and close a store that nobody else uses; ``end`` is when the grace is over."""
    left: Collection[asyncio.Task[Any]] = ()
    try:
        if fanout is not None:
            left = await fanout.leave(patience(end))
    finally:
        if store is not None:
            await store.aclose(patience(end))
            if left:
                # Closing it has ended what they waited for.
                await asyncio.wait(left, timeout=PARTING)


async def _attempt(step: Callable[[], Coroutine[Any, Any, None]]) -> BusError | None:
    """Run a step against a store; log and return the store's failure instead of raising it."""
    try:
        await step()
    except BusError as error:
        log.warning("The store does not answer: %s", error)
        return error
    return None


async def _answers(store: LogStore, channel: str) -> bool:
    """Return whether a store answers at all, be it by a refusal."""
    try:
        return await briefly(store.last([channel]), PARTING)
    except BusError as error:
        return not error.retryable
