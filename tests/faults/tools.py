"""What the tests of faults share."""

import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from sssnbus import Bus, ChannelMessage

ROOT = Path(__file__).resolve().parents[2]
"""Where the package and the programs of the tests are imported from."""


def seed() -> int:
    """Return the seed of a test: another one each time, unless a failure is to be played again."""
    return int(os.environ.get("SSSNBUS_FAULT_SEED", random.randrange(10**6)))


def run(module: str, *arguments: object, **environment: str) -> str:
    """Run a program of ``tests.faults`` to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


async def contents(path: Path) -> dict[str, list[ChannelMessage]]:
    """Open a database with the product and return all that its two channels hold."""
    async with Bus(f"sqlite:///{path}?durability=process") as bus:
        return {
            "events": await bus.broadcast("events").read("auditor", limit=10**6),
            "jobs": await bus.work_queue("jobs").read("auditor", limit=10**6, exclusive=True),
        }


def integrity(path: Path) -> str:
    """Return what SQLite finds in a closed database: "ok", or what is wrong."""
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(row[0] for row in connection.execute("PRAGMA integrity_check"))
