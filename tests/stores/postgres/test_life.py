"""Opening and closing, at the wrong moment, in the wrong place, or not at all."""

import asyncio
import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sssnbus.errors import ClosedError, NotStarted
from sssnbus.stores import PostgresStore
from sssnbus.stores.base import Kind
from sssnbus.stores.postgres.link import Link
from tests.stores.postgres.tools import ROOT, Site, draft

VERBS: dict[str, Callable[[PostgresStore], Awaitable[object]]] = {
    "append": lambda store: store.append([draft()]),
    "read": lambda store: store.read("jobs", after=0, limit=1),
    "last": lambda store: store.last(["jobs"]),
    "locate": lambda store: store.locate("jobs", 0.0),
    "trim": lambda store: store.trim("jobs", upto=1),
    "remove": lambda store: store.remove("jobs", ["a"]),
    "find": lambda store: store.find("jobs", "a"),
    "claim": lambda store: store.claim("jobs", worker="w", lease=1.0),
    "settle": lambda store: store.settle("jobs", []),
    "extend": lambda store: store.extend("jobs", [], 1.0),
    "peek": lambda store: store.peek("jobs", limit=1),
    "standing": lambda store: store.standing("jobs", [1]),
    "restore": lambda store: store.restore("jobs", []),
    "spaces": lambda store: store.spaces(),
    "usage": lambda store: store.usage(),
    "compact": lambda store: store.vacuum(compact=True),
    "transfer": lambda store: store.transfer("jobs", "events", limit=1),
    "declare": lambda store: store.declare("jobs", Kind.QUEUE),
    "logs": lambda store: store.logs(),
    "counts": lambda store: store.counts("jobs"),
    "drop": lambda store: store.drop("jobs"),
    "vacuum": lambda store: store.vacuum(),
    "get": lambda store: store.get("s", "n"),
    "put": lambda store: store.put("s", "n", b"", version=None),
    "delete": lambda store: store.delete("s", "n"),
    "names": lambda store: store.names("s"),
    "alive": lambda store: store.alive(""),
    "changed": lambda store: store.changed(),
}


async def test_verbs_at_the_wrong_moment(site: Site) -> None:
    """Before ``open`` and after ``aclose`` every verb says so."""
    store = site.store()
    for verb in VERBS.values():
        with pytest.raises(NotStarted):
            await verb(store)
    await store.open()
    await store.aclose()
    for verb in VERBS.values():
        with pytest.raises(ClosedError):
            await verb(store)
    with pytest.raises(ClosedError):
        store.watch(lambda: None)


async def test_closing_leaves_nothing(site: Site) -> None:
    """A closed store has no session, no row and no thread left, and whoever waited for it is told."""
    store = site.store()
    await store.open()
    await store.declare("jobs", Kind.QUEUE)
    store.watch(lambda: None)
    await store.claim("jobs", worker="w", lease=5)
    await asyncio.gather(store.aclose(), store.aclose())
    sessions = await site.run(
        "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'sssnbus%' AND state = 'active'"
    )
    assert sessions == []
    assert await site.run("SELECT 1 FROM {schema}.owner") == []
    assert await site.run("SELECT 1 FROM {schema}.writer") == []


async def test_given_up_while_connecting(site: Site) -> None:
    """A link that is ended while it connects keeps no connection."""
    made: list[Any] = []

    async def greet(connection: Any) -> None:
        made.append(connection)
        link.end()

    place = site.store()._place
    link = Link(place, place.dsn, "test", greet)
    with pytest.raises(ClosedError):
        await link.connect(5.0)
    assert [connection.is_closed() for connection in made] == [True]


def test_forgotten_store(site: Site) -> None:
    """A store that nobody closed says so, and keeps nothing from ending."""

    async def forget() -> None:
        store = site.store()
        await store.open()

    # Else a collection in the thread of the store may come upon it while its loop is just being closed here.
    gc.disable()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(forget())
            gc.collect()
    finally:
        gc.enable()
    assert any("was never closed" in str(warning.message) for warning in caught)


FORK = """
import asyncio, os, sys
from sssnbus.errors import ForkedProcess
from sssnbus.stores import Kind, store_from_url

async def child(store):
    try:
        await store.last(["a"])
    except ForkedProcess:
        return 7

async def main():
    store = store_from_url(sys.argv[1])
    await store.open()
    await store.declare("a", Kind.LOG)
    pid = os.fork()
    if not pid:
        asyncio.events._set_running_loop(None)
        os._exit(asyncio.run(child(store)))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert await store.last(["a"]) == {"a": 0}
    # Nobody closes it: the exit must not hang.

asyncio.run(main())
"""


def test_forked_child_is_refused(site: Site) -> None:
    """A child of a fork is told so; the parent goes on, and its exit does not hang on what nobody closed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", FORK, site.url()]
    subprocess.run(command, check=True, timeout=30, env=environment)
