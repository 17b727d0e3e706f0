"""The parts that the demo's child processes play. They talk to each other, and to the parent, by the bus."""

import asyncio
import hashlib
import json
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import islice
from typing import Any, Final

from sssnbus import Bus, ChannelMessage, GenericContent
from sssnbus.cli.demo.tally import milliseconds

EVENTS, JOBS, RESULTS, STATS = "events", "jobs", "results", "stats"
FOUND, END = "file.found", "end"
"""The topics of events: a file, and that no more will come."""

EVERY: Final = 0.25
"""Seconds between two reports of a child."""

CONCURRENCY: Final = 2
BATCH: Final = 4
"""How many jobs a worker handles at a time, and how many it takes in one step."""


def data_of(message: ChannelMessage) -> Any:
    """Return the plain data of a message."""
    assert isinstance(message.content, GenericContent)
    return message.content.data


class Reports:
    """What a child tells of itself on the channel for that."""

    def __init__(self, bus: Bus, name: str) -> None:
        self._stats = bus.broadcast(STATS)
        self._name = name

    async def say(self, state: str, **figures: Any) -> None:
        """Report once."""
        await self._stats.write(self._name, {"state": state, **figures}, confirm="stored")

    async def keep(self, figures: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """Report again and again, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.say("running", **await figures())


def library_files(limit: int) -> Iterator[tuple[str, int]]:
    """Yield path and size of files of Python's standard library."""
    return islice(_walk(sysconfig.get_path("stdlib")), limit)


def _walk(root: str) -> Iterator[tuple[str, int]]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "site-packages"))
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.access(path, os.R_OK):
                yield path, os.path.getsize(path)


async def publish(bus: Bus, name: str, files: int, rate: float, burst: int) -> None:
    """Write an event and a job for each file, in bursts, at a steady rate."""
    events, jobs, reports = bus.broadcast(EVENTS), bus.work_queue(JOBS), Reports(bus, name)
    found = enumerate(await asyncio.to_thread(lambda: list(library_files(files))))
    published, began = 0, time.monotonic()

    async def figures() -> dict[str, Any]:
        return {"published": published}

    reporting = asyncio.create_task(reports.keep(figures))
    while batch := [{"n": n, "path": path, "size": size} for n, (path, size) in islice(found, burst)]:
        await events.write_many(name, batch, topic=FOUND, confirm="stored")
        await jobs.write_many(name, batch)
        published += len(batch)
        if rate:
            await asyncio.sleep(max(0.0, began + published / rate - time.monotonic()))
    reporting.cancel()
    await events.write(name, {"files": published}, topic=END, confirm="stored")
    await reports.say("done", published=published)


class Watcher:
    """What a subscriber keeps of the events it sees."""

    def __init__(self, history: int) -> None:
        self._history = history
        self._digest = hashlib.sha256()
        self._ids: set[str] = set()
        self._latencies: list[float] = []
        self._last = self._doubled = self._disordered = 0

    def see(self, message: ChannelMessage) -> None:
        """Note one event."""
        now = time.time()
        self._doubled += message.id in self._ids
        self._disordered += message.sequence != self._last + 1
        self._ids.add(message.id)
        self._digest.update(message.id.encode())
        self._last = message.sequence
        if message.sequence > self._history:
            self._latencies.append(now - message.timestamp)

    def figures(self) -> dict[str, Any]:
        """Return what is to be reported."""
        return {
            "seen": len(self._ids),
            "doubled": self._doubled,
            "disordered": self._disordered,
            "history": min(self._history, len(self._ids)),
            "fingerprint": self._digest.hexdigest()[:16],
            "p50_ms": milliseconds(self._latencies, 50),
            "p99_ms": milliseconds(self._latencies, 99),
        }


async def watch(bus: Bus, name: str, start: str) -> None:
    """Take every event until the end, and check that none is missing, doubled or out of order."""
    events, reports = bus.broadcast(EVENTS), Reports(bus, name)
    async with events.subscribe(name, start=start) as subscription:
        watcher = Watcher((await events.statistics()).last)
        await reports.say("ready", **watcher.figures())

        async def figures() -> dict[str, Any]:
            return watcher.figures() | {"behind": await subscription.lag()}

        reporting = asyncio.create_task(reports.keep(figures))
        try:
            async for message in subscription:
                if message.topic == END:
                    break
                watcher.see(message)
        finally:
            reporting.cancel()
    await reports.say("done", **watcher.figures())


async def work(bus: Bus, name: str, freeze_at: int | None = None) -> None:
    """Hash files until told to stop; with ``freeze_at``, stop moving at that one and wait for the end."""
    jobs, results, reports = (
        bus.work_queue(JOBS, claim_timeout=60.0),
        bus.broadcast(RESULTS),
        Reports(bus, name),
    )
    begun = 0

    async def hash_file(message: ChannelMessage) -> None:
        nonlocal begun
        begun += 1
        if freeze_at is not None and begun >= freeze_at:
            await reports.say("frozen")
            await asyncio.Event().wait()
        job = data_of(message)
        digest = await asyncio.to_thread(_sha256, job["path"])
        result = {"n": job["n"], "sha256": digest, "attempt": 1 + message.metadata.get("retries", 0)}
        await results.write(name, result | {"waited": time.time() - message.timestamp})

    await jobs.subscribe(name, hash_file, concurrency=CONCURRENCY, batch=BATCH)
    await reports.say("ready")
    await bus.serve()


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


PARTS: Final[dict[str, Callable[..., Coroutine[Any, Any, None]]]] = {
    "publish": publish,
    "watch": watch,
    "work": work,
}


def main(part: str, url: str, name: str, options: str) -> None:
    """Play one part in this process, until it is over or the parent is gone."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    asyncio.run(_play(part, url, name, json.loads(options)))


async def _play(part: str, url: str, name: str, options: dict[str, Any]) -> None:
    async with Bus(url) as bus:
        await PARTS[part](bus, name, **options)


def _die_with_parent() -> None:
    """End this process as soon as the pipe from its parent is closed, however the parent ended."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)
