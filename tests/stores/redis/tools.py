"""What the tests of the Redis store share."""

import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from sssnbus.clock import Clock
from sssnbus.stores.base import Kind, Store
from sssnbus.stores.redis import RedisStore
from sssnbus.stores.redis.url import from_url
from sssnbus.testing import StoreFactory
from tests.stores.tools import draft as draft
from tests.stores.tools import until as until

ROOT = Path(__file__).parents[3]


def stores_at(url: str) -> StoreFactory:
    """Return what makes stores on one place."""

    def factory(*, clock: Clock | None = None) -> Store:
        return from_url(url, clock)

    return factory


@asynccontextmanager
async def opened(url: str, clock: Clock | None = None) -> AsyncIterator[RedisStore]:
    """Give an open store with a queue ``jobs`` and a log ``events``."""
    store = from_url(url, clock)
    await store.open()
    try:
        await store.declare("jobs", Kind.QUEUE)
        await store.declare("events", Kind.LOG)
        yield store
    finally:
        await store.aclose()


HEADER = """
import asyncio, os, sys
from sssnbus.stored import Draft
from sssnbus.stores.base import *
from sssnbus.stores.redis.url import from_url

def draft(channel, body=b"1", **more):
    return Draft(channel, more.pop("id", None), 1.0, "me", None, "json", b"", body, 0, **more)

url = sys.argv[1]
"""
"""What every program of a test begins with."""


@contextmanager
def program(url: str, source: str) -> "Iterator[subprocess.Popen[str]]":
    """Run source text in a process of its own; it is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEADER + textwrap.dedent(source), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def line(process: "subprocess.Popen[str]") -> str:
    """Return the next line that a program prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@asynccontextmanager
async def client(server: int) -> AsyncIterator[Any]:
    """Give a plain client of the server on a port."""
    async with Redis(port=server, protocol=2) as plain:
        yield plain
