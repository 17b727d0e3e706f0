"""The parts that children play.

A child says what happens in JSON lines, begins with ``{"ready": …}``, and waits for a word of the test where
that wants to hold the reins.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from typing import Any

from sssnbus import Bus, ChannelMessage, ClaimLost, ClosedError, Retry, SubscriptionInUse

CHANNEL, QUEUE = "events", "jobs"


def enter(
    part: str, url: str, options: dict[str, Any], words: Connection, lines: Connection, errors: str
) -> None:
    """Play a part in this process."""
    os.setsid()
    os.dup2(words.fileno(), 0)
    os.dup2(lines.fileno(), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND), 2)
    sys.stdin, sys.stderr = os.fdopen(0), os.fdopen(2, "w", buffering=1)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    asyncio.run(_PARTS[part](url, **options))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def say(**line: Any) -> None:
    """Print one line, at once."""
    # One write call, so that lines of several tasks never mix and a kill cuts at most the last one.
    os.write(1, (json.dumps(line) + "\n").encode())


async def word() -> None:
    """Wait for the next word of the test."""
    await asyncio.to_thread(sys.stdin.readline)


async def serve(bus: Bus, name: str) -> signal.Signals | None:
    """Wait for a signal; be ready when one may come."""
    serving = asyncio.create_task(bus.serve())
    for _ in range(10):
        await asyncio.sleep(0)
    say(ready=name)
    return await serving


async def publish(
    url: str, name: str, count: int | None = None, batch: int = 1, tasks: int = 1, kind: str = "log"
) -> None:
    """Write ``count`` batches in each of ``tasks`` and say each one that is acknowledged.

    Without a count it writes until the next word.
    """
    async with Bus(url) as bus:
        channel = bus.broadcast(CHANNEL) if kind == "log" else bus.work_queue(QUEUE)
        await channel.start()
        say(ready=name)
        await word()
        stop = asyncio.create_task(word()) if count is None else None

        async def write(task: int) -> None:
            number = task
            while stop is None or not stop.done():
                if count is not None and number >= count * tasks:
                    return
                items = [{"by": name, "batch": number, "item": item} for item in range(batch)]
                receipts = await channel.write_many(name, items)
                say(acked=[[number, receipt.sequence, str(receipt)] for receipt in receipts])
                number += tasks

        await asyncio.gather(*map(write, range(tasks)))
    say(done=name)


async def subscribe(
    url: str, name: str, start: Any = "new", ends: int = 1, aloud: bool = False, durable: bool = False
) -> None:
    """Take events until so many goodbyes came; say them all at the end, with ``aloud`` each at once too."""
    seen: list[list[Any]] = []
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus(url))
        events = bus.broadcast(CHANNEL)
        options: dict[str, Any] = {"start": start, "durable": durable}
        subscription = await stack.enter_async_context(events.subscribe(name, **options))
        say(ready=name, last=(await events.statistics()).last)
        async for message in subscription:
            item = [message.sequence, message.id, message.content.data]
            seen.append(item)
            if aloud:
                say(heard=item)
            ends -= item[2] == "end"
            if not ends:
                break
    say(seen=seen)


async def follow(url: str, name: str, standby: bool = False, max_deliveries: int = 5) -> None:
    """Handle events under a durable name until a signal asks to stop; each says what is to happen to it."""
    async with Bus(url) as bus:
        events = bus.broadcast(CHANNEL)
        await events.start()
        say(alive=name)

        async def handle(message: ChannelMessage) -> None:
            data = message.content.data
            say(begun=[message.sequence, data])
            await act(data, name, bus)
            say(handled=[message.sequence, data])

        try:
            await events.subscribe(
                name, handle, durable=True, standby=standby, start="earliest", max_deliveries=max_deliveries
            )
        except SubscriptionInUse:
            say(refused=name)
            return
        await serve(bus, name)


async def end(url: str) -> None:
    """Say goodbye to subscribers."""
    async with Bus(url) as bus:
        await bus.broadcast(CHANNEL).write("end", "end")


async def work(
    url: str,
    name: str,
    concurrency: int = 1,
    batch: int = 1,
    claim_timeout: float = 300.0,
    grace: float = 5.0,
    max_deliveries: int = 5,
) -> None:
    """Work on jobs until a signal asks to stop; each job says what is to happen to it."""
    retry = Retry(initial=0.01)
    async with Bus(url) as bus:
        jobs = bus.work_queue(QUEUE, claim_timeout=claim_timeout, max_deliveries=max_deliveries, retry=retry)

        async def handle(message: ChannelMessage) -> None:
            data = message.content.data
            attempt = 1 + message.metadata.get("retries", 0)
            say(begun=[message.id, data, attempt])
            await act(data, name, bus)
            say(handled=[message.id, data, attempt])

        workers = await jobs.subscribe(name, handle, concurrency=concurrency, batch=batch)
        received = await serve(bus, name)
        say(signal=received and received.name)
        await bus.stop(grace)
        say(done=workers.statistics().done)


async def hold(url: str, name: str, claim_timeout: float = 300.0) -> None:
    """Claim one job by hand, wait for a word, and say whether the ack was good."""
    async with Bus(url) as bus:
        jobs = bus.work_queue(QUEUE, claim_timeout=claim_timeout)
        await jobs.start()
        say(ready=name)
        try:
            async with jobs.claim(name) as claim:
                say(claimed=[claim.message.id, claim.attempt])
                await word()
        except ClaimLost as error:
            say(lost=list(error.ids))
        else:
            say(kept=claim.message.id)


async def act(data: Any, name: str, bus: Bus) -> None:
    """Do what a message asks for, if it does."""
    if isinstance(data, dict) and "act" in data:
        await _ACTS[data["act"]](name, bus)


async def _wait(name: str, bus: Bus) -> None:
    await word()


async def _exit(name: str, bus: Bus) -> None:
    os._exit(9)


async def _hang_victim(name: str, bus: Bus) -> None:
    """Hang in a worker called ``victim`` only."""
    if name == "victim":
        await asyncio.Event().wait()


async def _outlast(name: str, bus: Bus) -> None:
    """End only after the bus has begun to stop."""
    try:
        while True:
            await bus.store()
            await asyncio.sleep(0.01)
    except ClosedError:
        # The channels are told in the loop's next steps.
        await asyncio.sleep(0.05)


_ACTS: dict[str, Callable[[str, Bus], Awaitable[None]]] = {
    "exit": _exit,
    "hang-victim": _hang_victim,
    "outlast": _outlast,
    "wait": _wait,
}
_PARTS: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "publish": publish,
    "subscribe": subscribe,
    "end": end,
    "follow": follow,
    "work": work,
    "hold": hold,
}
