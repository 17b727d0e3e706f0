# ruff: noqa: ASYNC240  # a test may look at files on its own loop
"""Opening and closing, at the wrong moment, in the wrong place, or not at all."""

import asyncio
import gc
import os
import signal
import threading
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sssnbus.errors import (
    ClosedError,
    InvalidOption,
    NotStarted,
    StoreTimeout,
    WrongLoop,
)
from sssnbus.stores.base import Kind
from sssnbus.stores.sqlite import SQLiteStore
from tests.stores.sqlite.test_writer import HOLD_TICKET
from tests.stores.sqlite.tools import draft, opened, program

Verb = Callable[[SQLiteStore], Awaitable[object]]

VERBS: dict[str, Verb] = {
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
    "transfer": lambda store: store.transfer("jobs", "events", limit=1),
    "declare": lambda store: store.declare("jobs", Kind.QUEUE),
    "logs": lambda store: store.logs(),
    "counts": lambda store: store.counts("jobs"),
    "drop": lambda store: store.drop("jobs"),
    "vacuum": lambda store: store.vacuum(),
    "compact": lambda store: store.vacuum(compact=True),
    "usage": lambda store: store.usage(),
    "get": lambda store: store.get("s", "n"),
    "put": lambda store: store.put("s", "n", b"", version=None),
    "delete": lambda store: store.delete("s", "n"),
    "names": lambda store: store.names("s"),
    "alive": lambda store: store.alive(""),
    "changed": lambda store: store.changed(),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
async def test_verbs_at_the_wrong_moment(path: Path, verb: Verb) -> None:
    """Before ``open`` and after ``aclose`` every verb says so, and touches nothing."""
    store = SQLiteStore(path)
    with pytest.raises(NotStarted):
        await verb(store)
    assert not path.exists()
    await store.open()
    await store.aclose()
    with pytest.raises(ClosedError):
        await verb(store)
    with pytest.raises(ClosedError):
        store.watch(lambda: None)
    with pytest.raises(ClosedError):
        await store.open()


def test_verbs_in_the_wrong_loop(path: Path) -> None:
    """A store that is open in one loop refuses another, and the first one goes on."""

    async def first() -> None:
        async with opened(path) as store:
            errors = await asyncio.to_thread(lambda: asyncio.run(second(store)))
            assert set(errors) == {WrongLoop}
            await store.append([draft()])

    async def second(store: SQLiteStore) -> list[type]:
        return [type(error) for error in [await failure(verb(store)) for verb in VERBS.values()]]

    async def failure(call: Awaitable[object]) -> Exception | None:
        try:
            await call
        except Exception as exc:
            return exc
        return None

    asyncio.run(first())


async def test_opening_twice_and_at_once(path: Path) -> None:
    """``open`` may be called over and over, also by several tasks, and opens once."""
    store = SQLiteStore(path)
    await asyncio.gather(store.open(), store.open(), store.open())
    await store.open()
    assert store.owner.endswith(":1")
    await store.aclose()


async def test_closing_before_opening(path: Path) -> None:
    """A store that was closed before it was opened cannot be opened any more."""
    store = SQLiteStore(path)
    await store.aclose()
    with pytest.raises(ClosedError):
        await store.open()


async def test_closing_twice_and_at_once(path: Path) -> None:
    """A second ``aclose`` waits for the first and does nothing; threads and files are gone then."""
    before = set(threading.enumerate())
    async with opened(path) as store:
        await store.claim("jobs", worker="w", lease=30.0)
        await asyncio.gather(store.aclose(), store.aclose())
        await store.aclose()
    for thread in set(threading.enumerate()) - before:
        thread.join(5.0)
    assert not Path(f"{path}-wal").exists()
    assert set(threading.enumerate()) <= before


async def test_closing_while_opening(path: Path) -> None:
    """A store that is closed while it opens ends closed."""
    store = SQLiteStore(path)
    opening = asyncio.create_task(store.open())
    await asyncio.sleep(0)
    await store.aclose()
    with pytest.raises(ClosedError):
        await opening
    with pytest.raises(ClosedError):
        await store.append([draft()])


async def test_closing_lets_work_end(store: SQLiteStore) -> None:
    """What was asked for before ``aclose`` is done, what comes after is refused."""
    tasks = [asyncio.create_task(store.append([draft("events")])) for _ in range(20)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.aclose())
    await asyncio.sleep(0)
    with pytest.raises(ClosedError):
        await store.append([draft("events")])
    await closing
    assert len(await asyncio.gather(*tasks)) == 20


async def test_a_cancelled_close_closes(path: Path) -> None:
    """``aclose`` finishes, within its grace, before a cancellation leaves it."""
    async with opened(path) as store:
        closing = asyncio.create_task(store.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ClosedError):
            await store.append([draft()])
        assert not Path(f"{path}-wal").exists()


async def test_closing_does_not_wait_for_a_stuck_ticket(path: Path) -> None:
    """While another process sits on the ticket ``aclose`` takes its grace, and waiting writes are told."""
    async with opened(path) as store:
        with program(path, HOLD_TICKET) as other:
            assert await asyncio.to_thread(other.line) == "held"
            waiting = asyncio.create_task(store.append([draft()]))
            await asyncio.sleep(0)
            # Far less than the thirty seconds for which the write would wait.
            async with asyncio.timeout(15):
                await store.aclose(grace=0.2)
            with pytest.raises((ClosedError, StoreTimeout)):
                await waiting
        await asyncio.to_thread(store._connection._thread.join, 5.0)
    async with opened(path) as store:
        assert await store.last(["jobs"]) == {"jobs": 0}


async def test_opening_does_not_wait_for_ever(path: Path) -> None:
    """``open`` has the same limit as a write, and works when the way is free."""
    async with opened(path):
        pass
    store = SQLiteStore(path, write_timeout=1.0)
    with program(path, HOLD_TICKET) as other:
        assert await asyncio.to_thread(other.line) == "held"
        with pytest.raises(StoreTimeout):
            await store.open()
    await store.open()
    await store.aclose()


async def test_a_cancelled_open_leaves_nothing(path: Path) -> None:
    """Cancelled at any step, ``open`` leaves no thread behind, and can be called again."""
    before = set(threading.enumerate())
    for steps in range(30):
        store = SQLiteStore(path, durability="process")
        opening = asyncio.create_task(store.open())
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        await store.open()
        await store.aclose()
    for thread in set(threading.enumerate()) - before:
        thread.join(5.0)
    assert set(threading.enumerate()) <= before


async def test_a_store_nobody_closed_is_told(path: Path) -> None:
    """A store that is thrown away open warns, and its threads end."""
    before = set(threading.enumerate())
    store = SQLiteStore(path)
    await store.open()
    await store.declare("jobs", Kind.QUEUE)
    await store.claim("jobs", worker="w", lease=30.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del store
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    await asyncio.sleep(0)
    for thread in set(threading.enumerate()) - before:
        await asyncio.to_thread(thread.join, 5.0)
    assert not [thread for thread in set(threading.enumerate()) - before if "sqlite" in thread.name]


async def test_closing_after_its_loop(path: Path) -> None:
    """A store whose loop is gone can still be closed, from any other."""

    async def leave_open() -> SQLiteStore:
        store = SQLiteStore(path)
        await store.open()
        store.watch(lambda: None)
        await store._reader.run(lambda: None)
        return store

    store = await asyncio.to_thread(lambda: asyncio.run(leave_open()))
    await store.aclose()
    await asyncio.to_thread(store._connection._thread.join, 5.0)
    assert not store._connection._thread.is_alive()
    async with opened(path):
        pass


@pytest.mark.parametrize(
    "options",
    [{"durability": "none"}, {"poll_interval": 0.0}, {"write_timeout": -1.0}, {"path": ""}, {"path": "a\0b"}],
)
def test_options_are_checked(options: dict[str, object]) -> None:
    """What makes no sense is refused when the store is made."""
    with pytest.raises(InvalidOption):
        SQLiteStore(**{"path": "a.db", **options})  # type: ignore[arg-type]  # that is the point


ENDINGS = {
    "falls off the end": ("asyncio.run(main())", 0),
    "keeps a reference": ("kept = []; asyncio.run(main(kept))", 0),
    "sys.exit": ("asyncio.run(main()); sys.exit(3)", 3),
    "raises": ("asyncio.run(main()); raise SystemExit(4)", 4),
    "in the loop": ("asyncio.run(main(exit=5))", 5),
    "in a pending write": ("asyncio.run(main(pending=True)); sys.exit(6)", 6),
    "os._exit": ("asyncio.run(main()); os._exit(7)", 7),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_that_never_closes_ends(path: Path, ending: str) -> None:
    """However a program ends without closing its store, it ends soon, as it meant to, and says nothing."""
    source = """
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
        async def main(kept=None, exit=None, pending=False):
            store = SQLiteStore(path)
            await store.open()
            store.watch(lambda: None)
            await store.declare("jobs", Kind.QUEUE)
            await store.append([draft("jobs")])
            await store.claim("jobs", worker="w", lease=30)
            if kept is not None:
                kept.append(store)
            if pending:
                task = asyncio.create_task(store.append([draft("jobs")] * 1000))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                globals()["task"] = store
            if exit is not None:
                sys.exit(exit)
    """
    call, code = ENDINGS[ending]
    with program(path, source + "\n        " + call) as one:
        assert one.finish(10.0) == (code, "", "")


def test_a_forked_child_refuses_and_harms_nothing(path: Path) -> None:
    """Every verb refuses in a child, however it ends, and the parent's work goes on and is on disk."""
    source = """
        import ctypes, gc, warnings
        warnings.simplefilter("ignore")
        from sssnbus.errors import ForkedProcess
        from tests.stores.sqlite.test_life import VERBS
        async def main():
            store = SQLiteStore(path)
            await store.open()
            store.watch(lambda: None)
            await store.declare("jobs", Kind.QUEUE)
            await store.declare("events", Kind.LOG)
            await store.append([draft("jobs")])
            (lease,) = (await store.claim("jobs", worker="w", lease=30)).leases
            child = os.fork()
            if not child:
                refused = 0
                for verb in [*VERBS.values(), SQLiteStore.open, SQLiteStore.aclose]:
                    try:
                        await verb(store)
                    except ForkedProcess:
                        refused += 1
                try:
                    store.watch(print)
                except ForkedProcess:
                    refused += 1
                assert refused == len(VERBS) + 3
                if sys.argv[2] == "soft":
                    # The whole end of an interpreter, but for closing the loop: its epoll is the parent's.
                    del store, verb
                    gc.collect()
                    ctypes.pythonapi.Py_Exit(0)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            await store.append([draft("events")])
            good = await store.settle("jobs", [Ack(lease.stored.sequence, lease.token)])
            alive = await store.alive(store.owner)
            print(status, good, alive, os.path.exists(path + "-wal"))
            await store.aclose()
        asyncio.run(main())
    """
    for ending in ("soft", "hard"):
        with program(path, source, ending) as one:
            code, out, err = one.finish()
        assert (code, out.strip()) == (0, "0 [True] True True"), err


def test_a_forked_child_keeps_no_lock(path: Path) -> None:
    """When a parent dies its child, which lives on, does not make it look alive."""
    source = """
        import warnings, signal
        warnings.simplefilter("ignore")
        async def main():
            store = SQLiteStore(path)
            await store.open()
            await store.declare("jobs", Kind.QUEUE)
            await store.append([draft("jobs")])
            await store.claim("jobs", worker="w", lease=600)
            child = os.fork()
            if not child:
                signal.pause()
            print(child, store.owner, flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
    """

    async def main() -> None:
        with program(path, source) as one:
            child, owner = one.line().split()
            one.process.kill()
            one.process.wait()
            try:
                async with opened(path) as store:
                    assert not await store.alive(owner)
            finally:
                os.kill(int(child), signal.SIGKILL)

    asyncio.run(main())


async def test_running_out_of_descriptors_is_survived(path: Path) -> None:
    """Without file descriptors opening fails with an error of ours, and works later; bells wait."""
    source = """
        import resource
        from sssnbus.errors import StoreError
        async def main():
            store = SQLiteStore(path)
            await store.open()
            await store.declare("events", Kind.LOG)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(kept) + 1, hard))
            second = SQLiteStore(path)
            try:
                await second.open()
            except StoreError:
                print("refused")
            print((await store.append([draft("events")]))[0].sequence)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await second.open()
            print((await second.append([draft("events")]))[0].sequence)
            await second.aclose()
            await store.aclose()
        asyncio.run(main())
    """
    with program(path, source) as one:
        assert one.finish() == (0, "refused\n1\n2\n", "")
