"""A program that fills a store and says what was acknowledged, in a file beside the database.

Run it as ``python -m tests.faults.writing FOLDER DURABILITY RUNS ROUNDS SEED``. The last of its runs
ends like a crash, without closing anything.
"""

import asyncio
import json
import os
import random
import sys
from typing import Any

from sssnbus import BroadcastChannel, Bus, WorkQueueChannel
from tests.faults.disk import ACKS

BATCH = 5


class Writing:
    """Two tasks that write side by side, so that commits are shared."""

    def __init__(self, folder: str, durability: str, rounds: int, seed: int) -> None:
        self._url = f"sqlite:///{folder}/bus.db?durability={durability}"
        self._acks = os.open(f"{folder}/{ACKS}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._rounds = rounds
        self._luck = random.Random(seed)
        self._batch = 0

    async def run(self, *, crash: bool = False) -> None:
        """Open the bus, write, and close it."""
        async with Bus(self._url) as bus:
            events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
            await events.start()
            await jobs.start()
            self._say({"open": True})
            await asyncio.gather(self._fill(events), self._fill(jobs))
            if crash:
                os._exit(0)

    async def _fill(self, channel: BroadcastChannel | WorkQueueChannel) -> None:
        for number in range(self._rounds):
            self._batch += 1
            count = BATCH if number % 3 == 0 else 1
            items = [
                {
                    "batch": f"{os.getpid()}-{self._batch}",
                    "of": count,
                    "text": "x" * self._luck.randrange(1500),
                }
                for _ in range(count)
            ]
            if count == 1:
                receipts = [await channel.write("writer", items[0])]
            else:
                receipts = await channel.write_many("writer", items)
            self._say({"channel": channel.id, "ids": [str(receipt) for receipt in receipts]})

    def _say(self, line: dict[str, Any]) -> None:
        os.write(self._acks, json.dumps(line).encode() + b"\n")


async def main(folder: str, durability: str, runs: int, rounds: int, seed: int) -> None:
    """Write in several runs."""
    writing = Writing(folder, durability, rounds, seed)
    for run in range(1, runs + 1):
        await writing.run(crash=run == runs)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
