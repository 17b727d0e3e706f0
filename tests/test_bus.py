"""The bus: channels by name in one store."""

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from sssnbus import (
    BroadcastChannel,
    Bus,
    ChannelKindMismatch,
    ClosedError,
    IncompatibleStore,
    InvalidOption,
    MissingAbility,
    NotStarted,
    StoreError,
    WorkQueueChannel,
)
from sssnbus.delivery.fanout import FanOut
from sssnbus.stores import MemoryStore, SQLiteStore, Store
from tests.channels.tools import Recorder, data, python, quiet, spawn


async def test_channels_by_name() -> None:
    """A channel is got by its name, with no declaration; the same name is the same object (BV-01)."""
    async with Bus() as bus:
        events = bus.broadcast("events")
        jobs = bus.work_queue("jobs")
        assert isinstance(events, BroadcastChannel)
        assert isinstance(jobs, WorkQueueChannel)
        assert bus.broadcast("events") is events
        assert bus.work_queue("jobs") is jobs
        await events.write("s", 1)
        await jobs.write("s", 1)


async def test_kind_clash() -> None:
    """One name is one kind of channel on one bus, even before it is used."""
    bus = Bus()
    bus.broadcast("a")
    with pytest.raises(ChannelKindMismatch, match="is a broadcast channel"):
        bus.work_queue("a")


async def test_options_clash() -> None:
    """The same name with other options is refused; without options it is the same channel."""
    bus = Bus()
    jobs = bus.work_queue("jobs", claim_timeout=60)
    assert bus.work_queue("jobs") is jobs
    assert bus.work_queue("jobs", claim_timeout=60) is jobs
    with pytest.raises(InvalidOption, match="claim_timeout"):
        bus.work_queue("jobs", claim_timeout=61)


async def test_wrong_moments() -> None:
    """A bus that is not started, or is stopped, hands out channels, but they do not work (SN-03)."""
    bus = Bus()
    with pytest.raises(NotStarted, match="Bus is not started"):
        await bus.broadcast("events").write("s", 1)
    with pytest.raises(NotStarted):
        await bus.serve()
    await bus.stop()
    async with bus:
        used, unused = bus.broadcast("used"), bus.broadcast("unused")
        await used.write("s", 1)
    for channel in (used, unused, bus.broadcast("new")):
        with pytest.raises(ClosedError):
            await channel.write("s", 1)
    with pytest.raises(ClosedError):
        await bus.store()


async def test_idempotent() -> None:
    """Starting and stopping are idempotent, and a stopped bus can be started again."""
    bus = Bus()
    for _ in range(2):
        await asyncio.gather(bus.start(), bus.start())
        await bus.broadcast("events").write("s", 1)
        await asyncio.gather(bus.stop(), bus.stop())
        assert "stopped" in repr(bus)


async def test_channel_made_before_a_restart() -> None:
    """A channel that was asked for while the bus was stopped is its own when it is started again."""
    bus = Bus()
    await bus.start()
    await bus.stop()
    events = bus.broadcast("events")
    await bus.start()
    await events.write("s", 1)
    assert bus.broadcast("events") is events
    await bus.stop()
    assert "stopped" in repr(events)


async def test_restart_with_old_channels(tmp_path: Path) -> None:
    """After a restart the bus gives new channels, and those of its former life stay stopped."""
    bus = Bus(f"sqlite:///{tmp_path}/x.db")
    await bus.start()
    used, unused = bus.broadcast("used"), bus.broadcast("unused")
    await used.write("s", 1)
    await bus.stop()
    await bus.start()
    for old in (used, unused):
        with pytest.raises(ClosedError):
            await old.write("s", 2)
    assert [data(m) for m in await bus.broadcast("used").read("x")] == [1]
    await bus.stop()
    assert FanOut._running.get(asyncio.get_running_loop()) is None


def test_two_loops() -> None:
    """One bus object works in two event loops, one after the other."""
    bus = Bus()

    async def use() -> None:
        async with bus:
            serving = asyncio.ensure_future(bus.serve())
            await asyncio.gather(*(bus.start() for _ in range(3)))
            await bus.broadcast("events").write("s", 1)
            await asyncio.sleep(0)
        assert await serving is None

    asyncio.run(use())
    asyncio.run(use())


async def test_failing_start(tmp_path: Path) -> None:
    """A bus whose store cannot be opened is not started, and can be started when it can."""
    folder = tmp_path / "later"
    bus = Bus(f"sqlite:///{folder}/x.db")
    with pytest.raises(StoreError):
        await bus.start()
    with pytest.raises(NotStarted):
        await bus.store()
    folder.mkdir()
    async with bus:
        await bus.broadcast("events").write("s", 1)


async def test_store_that_keeps_no_messages() -> None:
    """Something that is no store of logs is refused, by name."""

    class Nothing(Store):
        url, durability = "nothing://", "none"

        async def open(self) -> None: ...

        async def aclose(self, grace: float = 5.0) -> None: ...

    with pytest.raises(MissingAbility, match="LogStore"):
        await Bus(Nothing()).start()


def files_in(folder: Path) -> set[str]:
    """Return the names of the files there."""
    return {path.name for path in folder.iterdir()}


async def test_one_file(tmp_path: Path) -> None:
    """No server: there is one file, and what belongs to it, where the URL says (BV-27, FX-01, FX-50)."""
    async with Bus(f"sqlite:///{tmp_path}/events.db") as bus:
        await bus.broadcast("events").write("s", 1)
        assert all(name.startswith(("events.db", ".events.db")) for name in files_in(tmp_path))
    assert (tmp_path / "events.db").stat().st_mode & 0o777 == 0o600


async def test_foreign_file(tmp_path: Path) -> None:
    """A file of another program, or of a later version, is refused and left untouched (FX-54)."""
    foreign, newer = tmp_path / "foreign.db", tmp_path / "newer.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    async with Bus(f"sqlite:///{newer}"):
        pass
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for path, words in ((foreign, "another program"), (newer, "version 99")):
        before = path.read_bytes()
        with pytest.raises(IncompatibleStore, match=words):
            await Bus(f"sqlite:///{path}").start()
        assert path.read_bytes() == before


async def statements(tmp_path: Path, subscribers: int) -> list[str]:
    """Return what a listening process asks of the file: one look, and one message from elsewhere."""
    url = f"sqlite:///{tmp_path}/{subscribers}.db?durability=process&poll_interval=3600&doorbells=no"
    async with Bus(url) as bus, Bus(url) as other:
        recorders = [Recorder() for _ in range(subscribers)]
        for number, recorder in enumerate(recorders):
            await bus.broadcast("events").subscribe(f"client-{number}", recorder)
        store = await bus.store()
        assert isinstance(store, SQLiteStore)
        tail = FanOut._running[asyncio.get_running_loop()].tail(store)
        await quiet(bus)
        said: list[str] = []
        raw = store._reader.raw
        raw.set_trace_callback(said.append)
        await tail.poll()
        await other.broadcast("events").write("s", 1, confirm="stored")
        tail.check()
        for recorder in recorders:
            await recorder.reach(1)
        raw.set_trace_callback(None)
    return said


async def test_cost_of_many_subscribers(tmp_path: Path) -> None:
    """A hundred subscribers ask of the file exactly what one asks (BV-31, BV-32)."""
    one, hundred = await statements(tmp_path, 1), await statements(tmp_path, 100)
    assert len(one) == len(hundred) > 1


async def test_nobody_looks_without_subscribers(tmp_path: Path) -> None:
    """Nothing looks at the file before the first subscriber, and nothing after the last (BV-33)."""
    async with Bus(f"sqlite:///{tmp_path}/x.db") as bus:
        channel = bus.broadcast("events")
        await channel.write("s", 1)
        tail = FanOut._running[asyncio.get_running_loop()].tail(await bus.store())
        assert tail.poll_interval is None
        async with channel.subscribe("a"):
            assert tail.poll_interval
        assert tail.poll_interval is None


async def test_subscriber_before_the_publisher(tmp_path: Path) -> None:
    """Whoever subscribes before the file exists gets what a publisher writes later (BV-30, FX-10)."""
    url = f"sqlite:///{tmp_path}/x.db"
    async with Bus(url) as bus:
        recorder = Recorder()
        await bus.broadcast("events").subscribe("a", recorder)
        ended = await asyncio.to_thread(
            python,
            """
            import asyncio, sys
            from sssnbus import Bus

            async def main():
                async with Bus(sys.argv[1]) as bus:
                    for n in range(5):
                        await bus.broadcast("events").write("publisher", n)

            asyncio.run(main())
            """,
            url,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        await recorder.reach(5)
        assert recorder.seen == [0, 1, 2, 3, 4]


SUBSCRIBER = """
import asyncio, sys
from sssnbus import Bus

async def main():
    async with Bus(sys.argv[1]) as bus:
        async with bus.broadcast("events").subscribe("x", start="earliest") as subscription:
            print("ready", flush=True)
            async for message in subscription:
                print(message.content.data, flush=True)
                if message.content.data == "end":
                    return

asyncio.run(main())
"""

PUBLISHER = """
import asyncio, sys
from sssnbus import Bus

async def main():
    async with Bus(sys.argv[1]) as bus:
        for n in range(int(sys.argv[3])):
            await bus.broadcast("events").write(sys.argv[2], f"{sys.argv[2]} {n}")

asyncio.run(main())
"""


def lines(process: Any, count: int) -> list[str]:
    """Read so many lines of what a program prints."""
    return [process.stdout.readline().strip() for _ in range(count)]


def ended(process: Any) -> tuple[str, str]:
    """Wait for a program and return the rest of its words."""
    out, err = process.communicate(timeout=30)
    return out, err


async def test_processes(tmp_path: Path) -> None:
    """Several publishers and subscribers, each a process: all get all, in one order (BV-26, BV-28, FX-52)."""
    url = f"sqlite:///{tmp_path}/x.db?durability=process"
    async with Bus(url) as bus:
        subscribers = [spawn(SUBSCRIBER, url) for _ in range(2)]
        publishers = [spawn(PUBLISHER, url, f"p{n}", 30) for n in range(3)]
        for publisher in publishers:
            assert await asyncio.to_thread(ended, publisher) == ("", "")
        await bus.broadcast("events").write("s", "end")
        outs = [await asyncio.to_thread(ended, subscriber) for subscriber in subscribers]
        assert [err for _, err in outs] == ["", ""]
        seen = outs[0][0].split("\n")
        assert outs[1][0].split("\n") == seen
        assert sorted(seen[1:-2]) == sorted(f"p{n} {i}" for n in range(3) for i in range(30))
        for n in range(3):
            assert [line for line in seen if line.startswith(f"p{n}")] == [f"p{n} {i}" for i in range(30)]


async def test_killed_subscriber(tmp_path: Path) -> None:
    """A subscriber killed with SIGKILL disturbs neither publishers nor other subscribers (BV-29)."""
    url = f"sqlite:///{tmp_path}/x.db?durability=process"
    async with Bus(url) as bus:
        channel, recorder = bus.broadcast("events"), Recorder()
        await channel.subscribe("a", recorder)
        victim = spawn(SUBSCRIBER, url)
        assert await asyncio.to_thread(lines, victim, 1) == ["ready"]
        await channel.write("s", 1)
        assert await asyncio.to_thread(lines, victim, 1) == ["1"]
        victim.kill()
        await asyncio.to_thread(ended, victim)
        for n in range(2, 6):
            await channel.write("s", n, timeout=10)
        assert recorder.seen == [1, 2, 3, 4, 5]


async def test_killed_process_leaves_nothing(tmp_path: Path) -> None:
    """What a killed process had claimed and owned is free again; its bell is gone (FX-05, SN-44)."""
    url = f"sqlite:///{tmp_path}/x.db?durability=process"
    async with Bus(url) as bus:
        queue, channel = bus.work_queue("jobs"), bus.broadcast("events")
        await queue.write("s", 1)
        await channel.start()
        files = files_in(tmp_path)
        victim = spawn(
            """
            import asyncio, sys
            from sssnbus import Bus

            async def main():
                async with Bus(sys.argv[1]) as bus:
                    await bus.work_queue("jobs").read("victim", exclusive=True)
                    await bus.broadcast("events").subscribe("a", durable=True)
                    print("ready", flush=True)
                    await asyncio.Event().wait()

            asyncio.run(main())
            """,
            url,
        )
        assert await asyncio.to_thread(lines, victim, 1) == ["ready"]
        assert (await queue.statistics()).leased == 1
        victim.kill()
        await asyncio.to_thread(ended, victim)
        async with queue.claim("w", timeout=20) as claim:
            assert claim.attempt == 2
        async with channel.subscribe("a", durable=True):
            pass
        await channel.write("s", 1)
    async with Bus(url):
        left = files_in(tmp_path) - files
    assert not left


SERVER = """
import asyncio, signal, sys
from sssnbus import Bus

async def main():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with Bus() as bus:
        async def handler(message):
            print("begun", flush=True)
            await asyncio.sleep(0.3)
            print("done", flush=True)

        await bus.broadcast("events").subscribe("a", handler)
        serving = asyncio.ensure_future(bus.serve())
        while before[0] == signal.getsignal(signal.SIGTERM) or before[1] == signal.getsignal(signal.SIGINT):
            await asyncio.sleep(0)
        await bus.broadcast("events").write("s", 1, confirm="stored")
        received = await serving
    print(received.name)
    print(before[0] == signal.getsignal(signal.SIGTERM))

asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_serve(name: str) -> None:
    """A signal ends serve, which returns it; what runs is completed (FX-12, FX-14, FX-15, FX-53)."""
    process = spawn(SERVER)
    assert lines(process, 1) == ["begun"]
    process.send_signal(getattr(signal, name))
    out, err = ended(process)
    assert (process.returncode, out, err) == (0, f"done\n{name}\nTrue\n", "")


async def test_serve_ends_with_the_bus() -> None:
    """Serve returns None when the bus is stopped by somebody else (FX-12)."""
    bus = Bus()
    await bus.start()
    serving = asyncio.ensure_future(bus.serve())
    await asyncio.sleep(0)
    await bus.stop()
    assert await serving is None


@pytest.mark.parametrize("url", ["memory://", "file"])
def test_unclosed_bus(tmp_path: Path, url: str) -> None:
    """A program that closes nothing ends all the same, at once and without noise (SN-36)."""
    process = python(
        """
        import asyncio, sys
        from sssnbus import Bus

        async def main():
            bus = Bus(sys.argv[1])
            await bus.start()

            async def handler(message):
                pass

            await bus.broadcast("events").subscribe("a", handler)
            await bus.broadcast("events").write("s", 1)
            await bus.work_queue("jobs").write("s", 1)
            await bus.work_queue("jobs").read("w", exclusive=True)
            print("end of main", flush=True)

        asyncio.run(main())
        """,
        f"sqlite:///{tmp_path}/x.db" if url == "file" else url,
        timeout=10,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "end of main\n", "")


async def test_given_store_stays_open() -> None:
    """A store that was handed in is not closed with the bus."""
    store = MemoryStore()
    for expected in (1, 2):
        async with Bus(store) as bus:
            assert (await bus.broadcast("events").write("s", 1)).sequence == expected
    await store.aclose()


def test_no_service_needed() -> None:
    """The package runs with what it brings: no broker, no other process (FX-01, FX-04)."""
    process = python("import sssnbus, sys; print(sorted(m for m in sys.modules if m in ('redis', 'nats')))")
    assert process.stdout == "[]\n"
    assert os.path.exists(sys.executable)
