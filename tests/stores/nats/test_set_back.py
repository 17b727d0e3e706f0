"""A server that comes back with an older state: what it had acknowledged since then is lost."""

import asyncio
import shutil
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from sssnbus import Bus
from sssnbus.errors import OutcomeUnknown, StoreReplaced
from sssnbus.stores.nats import NATSStore, tail
from sssnbus.testing.bench import draft
from tests.channels.tools import until
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.stores.nats.places import server_in, url_of
from tests.stores.nats.tools import opened, store_at


async def write(bus: Bus, channel: str, numbers: range) -> None:
    """Write to a broadcast channel or to a queue."""
    where = bus.work_queue("jobs") if channel == "jobs" else bus.broadcast("events")
    await where.write_many("me", list(numbers))


async def write_elsewhere(folder: Path, place: str, port: int, channel: str, numbers: range) -> None:
    """Write to a copy of a server's files, by a server that those who know the first one do not meet."""
    server = server_in(folder)
    await asyncio.to_thread(server.start)
    async with Bus(place.replace(f":{port}", f":{server.port}")) as bus:
        await write(bus, channel, numbers)
    await asyncio.to_thread(server.stop)


@pytest.mark.parametrize(("channel", "over"), [("jobs", 0), ("events", 9)], ids=["behind", "written over"])
async def test_set_back(server: Server, tmp_path: Path, channel: str, over: int) -> None:
    """Who follows a channel is told that some of it was lost, also if others have filled its places."""
    place, files, older = url_of(server), tmp_path / "js", tmp_path / "older"
    async with Bus(place) as bus:
        events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
        store = await bus.store()
        assert isinstance(store, NATSStore)
        async with events.subscribe("s") as subscription:
            await write(bus, channel, range(2))
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(shutil.copytree, files, older / "js")
            await asyncio.to_thread(server.start)
            # By another one: what is written here is handed out before the server delivers it.
            async with Bus(place) as other:
                await write(other, channel, range(2, 5))
            if channel == "events":
                assert [(await anext(subscription)).content.data for _ in range(5)] == list(range(5))
            else:
                for message in await jobs.read("w", exclusive=True, limit=9):
                    await jobs.acknowledge("w", [message.id])
            await asyncio.to_thread(server.kill)
            if over:
                await write_elsewhere(older, place, server.port, channel, range(over))
            await asyncio.to_thread(shutil.rmtree, files)
            (older / "js").rename(files)
            await asyncio.to_thread(server.start)
            with pytest.raises(StoreReplaced):
                async with asyncio.timeout(20):
                    await anext(subscription)
        with pytest.raises(StoreReplaced):
            await jobs.read("w", exclusive=True)
        with pytest.raises(StoreReplaced):
            await events.write("me", 1)
    async with Bus(place) as again:
        there = await again.store()
        assert isinstance(there, NATSStore)
        assert not await there.alive(store.owner), "what it held is free"
        if channel == "jobs":
            left = await again.work_queue("jobs").read("w", exclusive=True, limit=99)
        else:
            left = await again.broadcast("events").read("c", limit=99)
        assert [message.content.data for message in left] == [0, 1, *range(over)]


async def test_leader_that_stays_behind(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new leader of a cluster gets time to catch up; one that does not has lost something."""
    info, looks = tail.Tail._info, []

    async def behind(self: tail.Tail, deadline: float, early: bool = False) -> dict[str, Any]:
        found = await info(self, deadline, early)
        looks.append(found)
        found["config"]["num_replicas"] = 3
        found["state"]["last_seq"] -= 1
        return found

    place = url_of(server)
    async with Bus(place) as bus, Bus(place) as other:
        store = await bus.store()
        assert isinstance(store, NATSStore)
        async with bus.broadcast("events").subscribe("s") as subscription:
            # By another one, so that it comes from the server.
            await write(other, "events", range(1))
            await anext(subscription)
            monkeypatch.setattr(tail, "_SETTLING", 0.5)
            monkeypatch.setattr(tail.Tail, "_info", behind)
            for listener in list(store._link.listeners.values()):
                listener.resume()
            with pytest.raises(StoreReplaced):
                await anext(subscription)
    assert len(looks) > 5


async def test_news_while_it_is_looked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is delivered while the server is asked how far it has come is nothing that it has lost."""
    store = await opened(store_at(server.port))
    end = store.watch(lambda: None, lambda news: None)
    log = store._logs["a"]
    await until(lambda: log.tail is not None and bool(log.tail._name))
    tail, real = log.tail, store._link.api
    assert tail is not None

    async def overtaken(verb: str, *args: Any, **named: Any) -> Any:
        answer = await real(verb, *args, **named)
        if verb == f"STREAM.INFO.{log.stream}" and not tail.position:
            await store.append([draft("a", 1)])
            await until(lambda: tail.position == 1)
        return answer

    monkeypatch.setattr(store._link, "api", overtaken)
    await tail.look()
    assert (await store.last(["a"]))["a"] == 1
    end()
    await store.aclose()


async def test_what_was_sent_before(server: Server) -> None:
    """A write whose answer was lost is of unknown outcome, also if what was lost is noticed then."""
    async with (
        Proxy("127.0.0.1", server.port) as proxy,
        aclosing(await opened(store_at(proxy.port))) as store,
    ):
        await store.append([draft("a", 1)])
        proxy.hold_answers()
        writing = asyncio.create_task(store.append([draft("a", 2)]))
        await until(lambda: bool(store._link._waiters._waiting))
        store._was_set_back()
        proxy.break_once()
        proxy.mend()
        with pytest.raises(OutcomeUnknown):
            await writing
        with pytest.raises(StoreReplaced):
            await store.append([draft("a", 3)])
