"""Running a callback on what an inbox holds: once for a live subscription, until done for a durable one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from sssnbus.delivery.cursor import Cursor
from sssnbus.delivery.feed import Feed, Handler, Notice, Terms
from sssnbus.delivery.handling import Begun, begin, call, failure, mark, outside, text_of, within
from sssnbus.delivery.head import Entry
from sssnbus.delivery.inbox import Inbox, Item
from sssnbus.delivery.policy import STRIDE, exhausted, retry_delay
from sssnbus.delivery.shield import complete, insist
from sssnbus.errors import BusError, SubscriptionDied

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage

log = logging.getLogger("sssnbus")

Bury = Callable[["ChannelMessage", str, int, BaseException | None, str], Coroutine[Any, Any, None]]
"""Puts a copy of a message among the dead letters: message, subscription, attempts, last error, and a key
by which a try whose answer was lost is known when it is made again."""


class Attempts:
    """What a durable subscription does beyond a live one: count, repeat, give up, remember."""

    def __init__(self, cursor: Cursor, inbox: Inbox, terms: Terms, bury: Bury) -> None:
        self.cursor = cursor
        self._inbox = inbox
        self._max = terms.max_deliveries
        self._bury = bury

    async def begin(self, entry: Entry) -> int | None:
        """Count one more attempt, durably; return its number, or None if the message has had its last.

        The second happens when the last attempt took the whole process with it.
        """
        if self.cursor.finished(entry.sequence):
            return None
        try:
            attempt = await self.cursor.begin(entry.sequence)
            if exhausted(attempt - 1, self._max):
                await self.give_up(entry, attempt - 1, None)
                return None
        except asyncio.CancelledError:
            self.cursor.interrupt(entry.sequence)
            raise
        return attempt

    async def give_up(self, entry: Entry, attempts: int, error: BaseException | None) -> None:
        """Put a copy among the dead letters and let the next message come."""

        key = token_hex(8)

        async def bury() -> None:
            await self._bury(entry.message, self.cursor.name, attempts, error, key)
            # Here, since a caller that was cancelled meanwhile goes no further: it would be buried twice.
            self.finish(entry)

        await insist(lambda: complete(bury()), self.cursor.clock)

    def finish(self, entry: Entry) -> None:
        """Note that a message is done."""
        self.cursor.finish(entry.sequence, self._inbox.taken)

    def last(self, attempt: int) -> bool:
        """Return whether a message gets no attempt after this one."""
        return exhausted(attempt, self._max)

    async def idle(self) -> None:
        """Save how far the subscription has come while nothing else is to do."""
        self.note()
        await self.cursor.save()

    def note(self) -> None:
        """Note how far the subscription has come if nothing is left to take, by what did not match too."""
        if (level := self._inbox.level) is not None:
            self.cursor.reached(level)


class Runner:
    """The tasks that run one subscription's callback."""

    def __init__(
        self, feed: Feed, inbox: Inbox, handler: Handler, terms: Terms, attempts: Attempts | None
    ) -> None:
        self._feed, self._inbox, self._terms = feed, inbox, terms
        self._handler = within(handler, terms.timeout, feed.clock)
        self._attempts = attempts
        self._current: dict[int, Entry] = {}
        self._context = outside()
        self._tasks = [
            feed.fanout.spawn(
                self._run(number),
                f"sssnbus-{feed.channel}-{inbox.name}-{number}",
                self._context if number == 0 else self._context.copy(),
            )
            for number in range(terms.concurrency)
        ]
        if attempts is None and terms.concurrency == 1:
            inbox.eager = self._begin

    @property
    def busy(self) -> bool:
        """Whether a callback is at work now."""
        return bool(self._current)

    def handles(self, sequence: int) -> bool:
        """Return whether a callback is at work on a message now."""
        return any(entry.sequence == sequence for entry in self._current.values())

    async def stop(self, grace: float) -> bool:
        """Wait for running callbacks to end, and cancel them after ``grace`` seconds.

        Called by a callback of ours, it does not wait for that one.

        Returns:
            False if a task waits for the store in vain, and was left to itself.
        """
        callers = self._feed.fanout.callers()
        tasks = [task for task in self._tasks if task not in callers]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=grace)
        finally:
            for task in tasks:
                task.cancel()
        return await self._feed.fanout.see_off(tasks, self._feed.store, self._feed.channel)

    async def _run(self, number: int) -> None:
        """Handle what comes, until the inbox is closed or fails."""
        inbox, attempts = self._inbox, self._attempts
        on_idle = None if attempts is None else attempts.idle
        try:
            while (item := await self._next(on_idle)) is not None:
                if isinstance(item, Begun):
                    await self._finish(number, item)
                elif not isinstance(item, Entry):
                    await notify(self._feed, self._terms, inbox.name, item)
                elif attempts is None:
                    await self._handle_live(number, item)
                else:
                    self._current[number] = item
                    await self._handle_durably(attempts, item)
                    del self._current[number]
        except BusError as error:
            inbox.fail(error)
            inbox.drop()
        except BaseException as error:
            # Whatever else ends this task, nobody may go on waiting for it.
            self._abandon()
            if not isinstance(error, asyncio.CancelledError) or not inbox.closed:
                inbox.fail(SubscriptionDied(self._feed.channel, inbox.name, error))
                inbox.drop()
            raise

    async def _next(self, on_idle: Callable[[], Awaitable[None]] | None) -> Item | None:
        try:
            return await self._inbox.next(None, on_idle)
        except asyncio.CancelledError:
            # A handler that was begun for us may have had itself cancelled before we could take it over.
            items = self._inbox.items
            begun = items[0] if items else None
            if not isinstance(begun, Begun):
                raise
            items.popleft()
            begun.cancel()
            return begun

    def _abandon(self) -> None:
        """Let go of a message that was begun and will not be finished."""
        for item in self._inbox.items:
            if isinstance(item, Begun):
                item.close()
                for entry in self._current.values():
                    entry.settle()

    async def _handle_live(self, number: int, entry: Entry) -> None:
        """Handle a message and those right behind it."""
        items, counters, current = self._inbox.items, self._inbox.counters, self._current
        handler, take = self._handler, self._inbox.items.popleft
        for _ in range(STRIDE):
            current[number] = entry
            # What follows is handling.call, written out: a coroutine less for each delivery.
            mark(turn := [True])
            try:
                await handler(entry.message)
                counters.delivered += 1
            except BaseException as error:
                self._failed(entry.message, failure(error))
            finally:
                turn[0] = False
                entry.pending -= 1
                if not entry.pending and entry.waiters:
                    entry.release()
            if not items or type(items[0]) is not Entry:
                break
            entry = take()  # type: ignore[assignment]  # the type was compared
        else:
            self._inbox.put_back(entry)
            await asyncio.sleep(0)
        del current[number]

    def _begin(self, entry: Entry) -> None:
        """Begin handling a message while our task waits for one.

        A handler that does not wait for anything is through when this returns. For one that does, the
        task is woken to finish it.
        """
        inbox = self._inbox
        # The message counts as in hand, also for what the handler itself does to the subscription.
        inbox.eager, self._current[0] = None, entry
        outcome = begin(self._handler, entry.message, self._tasks[0], self._context)
        if isinstance(outcome, Begun):
            entry.pending += 1
            inbox.resume(outcome)
            return
        del self._current[0]
        if outcome is None:
            inbox.counters.delivered += 1
        else:
            self._failed(entry.message, outcome)
        if not inbox.closed:
            inbox.eager = self._begin

    async def _finish(self, number: int, begun: Begun) -> None:
        entry = self._current[number]
        try:
            error = await begun.finish()
        finally:
            entry.settle()
            del self._current[number]
        if error is None:
            self._inbox.counters.delivered += 1
        else:
            self._failed(entry.message, error)
        self._inbox.eager = self._begin

    async def _handle_durably(self, attempts: Attempts, entry: Entry) -> None:
        unsettled = True
        try:
            while not self._inbox.closed and (attempt := await attempts.begin(entry)) is not None:
                try:
                    error = await call(self._handler, entry.message)
                except asyncio.CancelledError:
                    attempts.cursor.interrupt(entry.sequence)
                    raise
                if unsettled:
                    unsettled = False
                    entry.settle()
                if error is None:
                    self._inbox.counters.delivered += 1
                    return attempts.finish(entry)
                if attempts.last(attempt):
                    self._failed(entry.message, error)
                    return await attempts.give_up(entry, attempt, error)
                self._stumbled(entry.message, error, attempt)
                await self._inbox.pause(retry_delay(self._terms.retry, attempt))
        finally:
            if unsettled:
                entry.settle()

    def _stumbled(self, message: ChannelMessage, error: BaseException, attempt: int) -> None:
        """Count and report a failure that another attempt may make good."""
        self._inbox.counters.failed += 1
        log.warning(
            "Subscriber %r of channel %r will try message %s again after attempt %d: %s",
            self._inbox.name,
            self._feed.channel,
            message.id,
            attempt,
            text_of(error),
        )

    def _failed(self, message: ChannelMessage, error: BaseException) -> None:
        """Count and report a failure that stands."""
        self._inbox.counters.failed += 1
        log.error(
            "Subscriber %r of channel %r failed on message %s.",
            self._inbox.name,
            self._feed.channel,
            message.id,
            exc_info=error,
        )


async def notify(feed: Feed, terms: Terms, name: str, notice: Notice) -> None:
    """Tell the subscriber what was skipped; without a callback for that, the log."""
    if terms.on_notice is None:
        log.warning("Subscription %r of channel %r: %s", name, feed.channel, notice)
    elif error := await call(within(terms.on_notice, terms.timeout, feed.clock), notice):
        log.error("on_notice of subscription %r failed.", name, exc_info=error)
