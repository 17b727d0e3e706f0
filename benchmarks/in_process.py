"""Deliveries per second inside one process, against the limit of what isolated runners can do.

The limit is the least that keeps subscribers isolated and ordered: for each a task with a deque, and a
writer that waits until all of them are through. It makes the validated envelope that subscribers are
promised, but checks no content, keeps nothing and has no bounds. The bare limit makes no envelope either.
"""

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from benchmarks.harness import SMOKE, Rows, compare
from sssnbus import BroadcastChannel, ChannelMessage, GenericContent, Retention

log = logging.getLogger("bench")

BATCH: Final = 500
DATA = {"type": "user.login", "user": "carol", "attempt": 1}


async def handler(message: object) -> None:
    """Do nothing, as every contender's subscriber does."""


class _Entry:
    __slots__ = ("done", "message", "pending")

    def __init__(self, message: object, pending: int, done: "asyncio.Future[None] | None") -> None:
        self.message, self.pending, self.done = message, pending, done


class Limit:
    """One runner task and one deque for each subscriber, and nothing else."""

    def __init__(self, subscribers: int) -> None:
        self._deques: list[deque[_Entry]] = [deque() for _ in range(subscribers)]
        self._wakes: list[asyncio.Future[None] | None] = [None] * subscribers
        self._tasks = [asyncio.create_task(self._run(n)) for n in range(subscribers)]

    async def _run(self, number: int) -> None:
        mine, loop = self._deques[number], asyncio.get_running_loop()
        while True:
            while mine:
                entry = mine.popleft()
                try:
                    await handler(entry.message)
                except Exception:
                    log.exception("a subscriber failed")
                entry.pending -= 1
                if not entry.pending and entry.done is not None:
                    entry.done.set_result(None)
            self._wakes[number] = wake = loop.create_future()
            await wake

    def put(self, message: object, done: "asyncio.Future[None] | None") -> None:
        """Hand a message to every subscriber."""
        entry = _Entry(message, len(self._deques), done)
        for number, mine in enumerate(self._deques):
            mine.append(entry)
            wake = self._wakes[number]
            if wake is not None:
                self._wakes[number] = None
                wake.set_result(None)

    async def write(self, message: object) -> None:
        """Hand a message to every subscriber and wait until all are through."""
        done = asyncio.get_running_loop().create_future()
        self.put(message, done)
        await done

    async def close(self) -> None:
        """End the runners."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


def envelope(number: int) -> ChannelMessage:
    """Make what a subscriber is promised."""
    return ChannelMessage(
        id=str(number), sequence=number, timestamp=1.0, sender_id="bench", content=GenericContent(data=DATA)
    )


async def limit_awaited(subscribers: int, messages: int) -> None:
    """Write one message after the other."""
    limit = Limit(subscribers)
    for number in range(messages):
        await limit.write(envelope(number))
    await limit.close()


async def bare_awaited(subscribers: int, messages: int) -> None:
    """The same without envelopes."""
    limit = Limit(subscribers)
    for _ in range(messages):
        await limit.write(DATA)
    await limit.close()


async def limit_pipelined(subscribers: int, messages: int) -> None:
    """Write hundreds at a time, then wait for all of those."""
    limit, loop = Limit(subscribers), asyncio.get_running_loop()
    for start in range(0, messages, BATCH):
        receipts = []
        for number in range(start, min(start + BATCH, messages)):
            done = loop.create_future()
            limit.put(envelope(number), done)
            receipts.append(done)
        for done in receipts:
            await done
    await limit.close()


async def gather_awaited(subscribers: int, messages: int) -> None:
    """Make a task per delivery, as many buses do."""
    for number in range(messages):
        message = envelope(number)
        await asyncio.gather(*(handler(message) for _ in range(subscribers)))


async def _channel(subscribers: int) -> BroadcastChannel:
    bus = BroadcastChannel("events", retention=Retention(max_count=10_000))
    await bus.start()
    for number in range(subscribers):
        await bus.subscribe(f"s{number}", handler)
    return bus


async def sssnbus_awaited(subscribers: int, messages: int) -> None:
    """Write one message after the other, each until it is delivered."""
    bus = await _channel(subscribers)
    for _ in range(messages):
        await bus.write("bench", DATA)
    await bus.stop()


async def sssnbus_pipelined(subscribers: int, messages: int) -> None:
    """Write hundreds at a time, then wait for all of those."""
    bus = await _channel(subscribers)
    for start in range(0, messages, BATCH):
        await bus.write_many("bench", [DATA] * min(BATCH, messages - start))
    await bus.stop()


async def sssnbus_pipelined_writes(subscribers: int, messages: int) -> None:
    """The same with single writes that wait for the commit, and one at the end that waits for delivery."""
    bus = await _channel(subscribers)
    for number in range(1, messages + 1):
        await bus.write("bench", DATA, confirm="stored" if number % BATCH else "delivered")
    await bus.stop()


Work = Callable[[int, int], Coroutine[Any, Any, None]]

AWAITED: Final[dict[str, Work]] = {
    "limit": limit_awaited,
    "bare limit": bare_awaited,
    "sssnbus": sssnbus_awaited,
    "gather, with envelopes": gather_awaited,
}
PIPELINED: Final[dict[str, Work]] = {
    "limit": limit_pipelined,
    "sssnbus": sssnbus_pipelined,
    "sssnbus, single writes": sssnbus_pipelined_writes,
    "gather, with envelopes": gather_awaited,
}


def case(rows: Rows, title: str, contenders: dict[str, Work], subscribers: int, messages: int) -> None:
    """Compare contenders at one task; their work never waits, so the time of the processor counts."""

    def runner(work: Work) -> Callable[[], None]:
        return lambda: asyncio.run(work(subscribers, messages))

    runs = {name: runner(work) for name, work in contenders.items()}
    rows.add(title, compare(runs, subscribers * messages, clock=time.process_time))


def main() -> None:
    """Print the table."""
    scale = 20 if SMOKE else 1
    version = ".".join(map(str, sys.version_info[:2]))
    rows = Rows(f"Deliveries/s in process, memory store, confirm=delivered, Python {version}")
    case(rows, "awaited, 1 subscriber", AWAITED, 1, 5000 // scale)
    case(rows, "awaited, 100 subscribers", AWAITED, 100, 500 // scale)
    case(rows, "pipelined, 100 subscribers", PIPELINED, 100, 2000 // scale)
    rows.print()


if __name__ == "__main__":
    main()
