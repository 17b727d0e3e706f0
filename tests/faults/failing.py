"""A program whose disk fails for a while, under the shim; it says in JSON lines how each time went.

Run it as ``python -m tests.faults.failing FOLDER PLANS``; the plans are a JSON list. Each one is played on
a new database: the bus is opened, a call fails, or all from there on, it ends, and the same bus goes on. A
plan for "serve" has a worker besides, which has to have done everything in the end.
"""

import asyncio
import ctypes
import json
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sssnbus import Bus, ChannelMessage, StoreError
from tests.channels.tools import data
from tests.faults.tools import integrity

STEPS, BATCH = 10, 3


class Attempt:
    """One bus on a disk that fails."""

    def __init__(self, path: Path, shim: ctypes.CDLL, plan: dict[str, Any]) -> None:
        self._path, self._shim, self._plan = path, shim, plan
        self._bus = Bus(f"sqlite:///{path}")
        self._hits = 0
        self._acked: list[tuple[str, int]] = []
        self._refused: list[tuple[str, int]] = []
        self._done: set[tuple[str, int]] = set()
        self._errors: set[str] = set()

    async def play(self) -> dict[str, Any]:
        """Return what came of it."""
        await self._change("start", self._bus.start)
        await self._write(0)
        await self._change("work", self._take_turns)
        await self._change("stop", self._bus.stop)
        await self._change("restart", self._bus.start)
        if self._plan["at"] == "serve":
            await self._bus.work_queue("jobs").subscribe("steady", self._handle)
            await self._change("serve", self._fill)
        before = len(self._refused)
        await self._write(STEPS)
        if self._plan["at"] == "serve":
            await self._drain()
        live = await self._contents()
        report = {
            "plan": self._plan,
            "hits": self._hits,
            "errors": sorted(self._errors),
            "stuck": len(self._refused) - before,
            "wrong": self._compare(live),
            "left": len(live["jobs"]) if self._plan["at"] == "serve" else 0,
        }
        await self._bus.stop()
        report["integrity"] = integrity(self._path)
        with closing(sqlite3.connect(self._path)) as connection:
            counts = dict(connection.execute("SELECT name, count FROM log"))
        report["counted"] = {name: counts[name] for name in live}
        report["there"] = {name: len(items) for name, items in live.items()}
        return report

    async def _change(self, at: str, verb: Callable[[], Awaitable[None]]) -> None:
        """Do something, on a bad disk if the plan says so; what did not succeed then is done again."""
        if self._plan["at"] != at:
            await verb()
            return
        self._arm()
        done = await self._try(verb())
        self._hits = int(self._shim.fault_hits())
        self._shim.fault_arm(0, ctypes.c_long(0), ctypes.c_long(0), 0)
        if not done:
            await verb()

    async def _take_turns(self) -> None:
        for step in range(1, STEPS):
            await self._write(step)
            await self._work()

    async def _fill(self) -> None:
        for step in range(STEPS + 1, 2 * STEPS):
            await self._write(step)
            # Some of the faults are for the worker.
            await asyncio.sleep(0.01)

    async def _handle(self, message: ChannelMessage) -> None:
        self._done.add(("jobs", data(message)))

    async def _drain(self) -> None:
        """Give the worker time to finish; what is left is reported."""
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                while await self._left():  # noqa: ASYNC110  # what is waited for has no event
                    await asyncio.sleep(0.01)

    async def _left(self) -> int:
        now = await self._bus.work_queue("jobs").statistics()
        return now.ready + now.delayed + now.leased

    def _arm(self) -> None:
        plan = self._plan
        self._shim.fault_arm(
            plan["kinds"], ctypes.c_long(plan["nth"]), ctypes.c_long(plan["times"]), plan["errno"]
        )

    async def _try(self, verb: Awaitable[object]) -> bool:
        """Return whether the store did it; no error but its own is allowed."""
        try:
            await verb
        except StoreError as error:
            self._errors.add(type(error).__name__)
            return False
        return True

    async def _write(self, step: int) -> None:
        """Write a message, and a batch, to each channel; note for each whether it was acknowledged."""
        for channel in (self._bus.broadcast("events"), self._bus.work_queue("jobs")):
            for first, count in ((100 * step, 1), (100 * step + 50, BATCH)):
                items = [first + number for number in range(count)]
                noted = self._acked if await self._try(channel.write_many("writer", items)) else self._refused
                noted += [(channel.id, item) for item in items]

    async def _work(self) -> None:
        """Do one job; it is gone if, and only if, that was acknowledged."""
        jobs = self._bus.work_queue("jobs")

        async def work() -> None:
            for message in await jobs.read("worker", exclusive=True):
                await jobs.acknowledge("worker", [message.id])
                self._done.add(("jobs", data(message)))

        await self._try(work())

    async def _contents(self) -> dict[str, list[int]]:
        events = await self._bus.broadcast("events").read("auditor", limit=10**6)
        store = await self._bus.store()
        jobs = await store.read("jobs", after=0, limit=10**6)
        return {
            "events": [data(message) for message in events],
            "jobs": [json.loads(stored.body) for stored in jobs.messages],
        }

    def _compare(self, live: dict[str, list[int]]) -> list[str]:
        """Return what is not as the callers were told."""
        there = {(channel, item) for channel, items in live.items() for item in items}
        wrong = [f"lost {item}" for item in sorted(set(self._acked) - self._done - there)]
        wrong += [f"done but there {item}" for item in sorted(self._done & there)]
        wrong += [f"refused but there {item}" for item in sorted(set(self._refused) & there)]
        return wrong + [f"twice in {name}" for name, items in live.items() if len(set(items)) < len(items)]


async def main(folder: str, plans: str) -> None:
    """Play one plan after the other."""
    shim = ctypes.CDLL(None)
    shim.fault_hits.restype = ctypes.c_long
    for number, plan in enumerate(json.loads(plans)):
        report = await Attempt(Path(folder) / f"{number}.db", shim, plan).play()
        sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
