"""Dumping and loading: everything a store keeps, from any store to any other."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sssnbus import (
    Bus,
    InvalidDump,
    InvalidOption,
    MessageContent,
    MissingAbility,
    Retention,
)
from sssnbus.delivery.cursor import Progress
from sssnbus.stored import Draft, checksum
from sssnbus.stores import (
    ByID,
    Catalogue,
    Kind,
    LogStore,
    MemoryStore,
    Portable,
    QueueStore,
    Records,
    SQLiteStore,
    Standing,
    State,
    Store,
)
from sssnbus.testing import ManualClock, run_until_idle

Dump = list[dict[str, Any]]


class Purchase(MessageContent):
    """A typed payload."""

    number: int
    note: str = ""


def make_store(kind: str, folder: Path, clock: ManualClock | None = None) -> MemoryStore | SQLiteStore:
    """Return a store of one of the two kinds."""
    if kind == "memory":
        return MemoryStore(clock=clock)
    return SQLiteStore(folder / "x.db", durability="process", clock=clock)


@asynccontextmanager
async def bus_on(store: Store, clock: ManualClock | None = None) -> AsyncIterator[Bus]:
    """Give a started bus on a store, and close both."""
    try:
        async with Bus(store, clock=clock) as bus:
            yield bus
    finally:
        await store.aclose()


@pytest.fixture(params=["memory", "sqlite"])
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    """Give a bus to dump."""
    async with bus_on(make_store(request.param, tmp_path)) as bus:
        yield bus


@pytest.fixture(params=["memory", "sqlite"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    """Give another bus to load into."""
    (tmp_path / "target").mkdir()
    async with bus_on(make_store(request.param, tmp_path / "target")) as bus:
        yield bus


async def dumped(bus: Bus, *channels: str) -> Dump:
    """Return the whole dump, by way of its text."""
    records = [json.loads(json.dumps(record)) async for record in bus.dump(channels)]
    assert records[0]["sssnbus"] == "dump"
    assert records[-1]["end"] is True
    return records


def messages(dump: Dump) -> Dump:
    """Return the records of messages."""
    return [record for record in dump if "message" in record]


def by_data(dump: Dump) -> dict[Any, dict[str, Any]]:
    """Return the records of messages by their data."""
    return {record["data"]: record for record in messages(dump)}


async def store_of(bus: Bus) -> Any:
    """Return the bus's store, whatever it can do."""
    store = await bus.store()
    assert isinstance(store, Portable)
    assert isinstance(store, QueueStore)
    return store


# What a dump holds


async def test_everything_of_a_message(source: Bus, target: Bus) -> None:
    """Id, time, sender, topic, type, content, metadata and addresses come through unchanged."""
    events = source.broadcast("events")
    await events.write(
        "ann",
        {"n": 1, "big": 2**63, "float": 1e16, "text": "é\x7f\0", "deep": [[{}]]},
        topic="a.b",
        metadata={"k": [1]},
        correlation_id="c",
        reply_to="events",
        recipient_id="bob",
        id="my:id",
    )
    await events.write("ann", b"\xff\0raw")
    await events.write("ann", Purchase(number=7, note="x"))
    await events.write("ann", None)
    before = await events.read("r")
    loaded = await target.load(await dumped(source))
    assert (loaded.channels, loaded.messages, loaded.duplicates, loaded.refused) == (1, 4, 0, 0)
    after = await target.broadcast("events").read("r")
    assert after == before
    assert [message.id for message in after] == [message.id for message in before]
    assert isinstance(after[2].content, Purchase)


async def test_how_messages_stand(source: Bus, target: Bus) -> None:
    """Priority, key, due time, attempts, error, done ones and dead letters come through (SB-188)."""
    jobs = source.work_queue("jobs", max_deliveries=2, keep_done=True)
    for text in ("done", "failed", "dead", "held"):
        await jobs.write("w", text)
    await jobs.write("w", "late", delay=1000)
    await jobs.write("w", "high", priority=5)
    await jobs.write("w", "key 1", key="k")
    await jobs.write("w", "key 2", key="k")
    claims = {claim.content.data: claim for claim in await jobs.read("w", exclusive=True, limit=5)}
    await jobs.acknowledge("w", [claims["done"].id])
    await jobs.nack("w", [claims["failed"].id], error="no luck", delay=500)
    await jobs.nack("w", [claims["dead"].id], error="bad")
    again = await jobs.read("w", exclusive=True, ids=[claims["dead"].id])
    await jobs.nack("w", [message.id for message in again], error="bad")
    dump = await dumped(source)
    assert by_data(dump)["done"]["state"] == "done"
    assert by_data(dump)["failed"]["attempts"] == 1
    assert by_data(dump)["failed"]["error"] == "no luck"
    assert by_data(dump)["dead"]["dead"] is True
    # Leased ones are as if they had been given back: no attempt counts.
    assert "attempts" not in by_data(dump)["held"]
    assert dump[1] == {"channel": "jobs", "kind": "work queue", "settings": {"max_deliveries": "2"}}
    await target.load(dump)
    there = target.work_queue("jobs")
    counts = await there.statistics()
    assert (counts.ready, counts.delayed, counts.leased, counts.done, counts.dead) == (4, 2, 0, 1, 1)
    found = await there.read("w", exclusive=True, limit=10)
    assert [message.content.data for message in found] == ["high", "held", "key 1"]
    assert [m.metadata["dead"]["error"] for m in await there.dead_letters.list()] == ["bad"]
    again_dumped = await dumped(target)
    for text in ("failed", "late", "done", "dead", "key 2"):
        assert by_data(again_dumped)[text] == by_data(dump)[text]


async def test_done_heads_let_their_key_go_on(target: Bus) -> None:
    """Of an ordering key whose first message is done the second is ready after loading."""
    async with bus_on(MemoryStore()) as source:
        jobs = source.work_queue("jobs", keep_done=True)
        for text in ("first", "second"):
            await jobs.write("w", text, key="k")
        async with jobs.claim("w"):
            pass
        await target.load(await dumped(source))
    there = target.work_queue("jobs")
    (message,) = await there.read("w", exclusive=True, limit=5)
    assert message.content.data == "second"
    assert await there.vacuum() == 1


async def test_places(source: Bus, target: Bus) -> None:
    """Durable subscriptions and readers go on behind the same message, whatever its sequence is there."""
    events = source.broadcast("events")
    ids = [await events.write("s", number) for number in range(6)]
    await events.remove(ids[:1])
    async with events.subscribe("dashboard", durable=True, start="earliest") as subscription:
        async for message in subscription:
            if message.content.data == 3:
                break
    async with events.subscribe("new", durable=True, start="earliest"):
        pass
    await events.read("carol", limit=2, durable=True)
    await events.read("carol", limit=1, durable=True)
    dump = await dumped(source)
    assert {r["subscription"]: r["after"] for r in dump if "subscription" in r} == {
        "dashboard": ids[3],
        "new": None,
    }
    assert [r["after"] for r in dump if "reader" in r] == [ids[2]]
    # Other sequences: something is in the target's channel already.
    there = target.broadcast("events")
    await there.write("s", "older")
    await target.load(dump)
    async with there.subscribe("dashboard", durable=True) as subscription:
        assert (await anext(subscription)).content.data == 4
    async with there.subscribe("new", durable=True) as subscription:
        assert (await anext(subscription)).content.data == 1
    assert [m.content.data for m in await there.read("carol", durable=True)] == [3, 4, 5]


async def test_tries_of_a_subscription(source: Bus, target: Bus) -> None:
    """What a subscription has tried, and has done out of order, is told by ids."""
    events = source.broadcast("events")
    ids = [await events.write("s", number) for number in range(5)]
    store = await store_of(source)
    progress = Progress(1, {2: 3, 9: 1}, [4], "gone#1")
    await store.put("subscription:events", "sub", progress.to_bytes(), version=None)
    there = target.broadcast("events")
    await there.write("s", "older")
    dump = await dumped(source)
    await target.load(dump)
    record = await (await store_of(target)).get("subscription:events", "sub")
    assert Progress.from_bytes(record.value) == Progress(2, {3: 3}, [5], None)
    assert [r for r in dump if "subscription" in r] == [
        {
            "subscription": "sub",
            "channel": "events",
            "after": ids[0],
            "attempts": {ids[1]: 3},
            "done": [ids[3]],
        }
    ]


async def test_settings_and_records(source: Bus, target: Bus) -> None:
    """Retention and whatever else is kept by name come through; what is there already stays."""
    await source.broadcast("events", retention=Retention(max_count=7)).write("s", 1)
    store: Records = await store_of(source)
    await store.put("alias", "a", b"jobs", version=None)
    await store.put("alias", "b", b"mail", version=None)
    await store.put("odd", "o", b"\xff", version=None)
    there: Records = await store_of(target)
    await there.put("alias", "b", b"other", version=None)
    loaded = await target.load(await dumped(source))
    assert (loaded.places, loaded.kept) == (3, 1)
    assert {n: r.value for n, r in (await there.names("alias")).items()} == {"a": b"jobs", "b": b"other"}
    assert (await there.names("odd"))["o"].value == b"\xff"
    assert (await there.names("channel:events"))["retention"].value == b'{"max_count": 7}'


async def test_some_channels(source: Bus) -> None:
    """With names, only those channels and what belongs to them are dumped."""
    for name in ("a", "ab", "b"):
        await source.broadcast(name).write("s", name)
        await source.broadcast(name).read("r", durable=True)
        await source.broadcast(name).read("r", durable=True)
    await (await store_of(source)).put("alias", "x", b"a", version=None)
    dump = await dumped(source, "b", "a", "b")
    assert [r["channel"] for r in dump if "kind" in r] == ["b", "a"]
    assert [r["data"] for r in messages(dump)] == ["b", "a"]
    assert sum("reader" in r for r in dump) == 2
    assert not any("record" in r for r in dump)
    with pytest.raises(InvalidOption, match="no channel of that name"):
        await dumped(source, "a", "nope")


async def test_an_empty_store(source: Bus, target: Bus) -> None:
    """Nothing is dumped as nothing, and loads."""
    dump = await dumped(source)
    assert len(dump) == 2
    assert (await target.load(dump)).messages == 0


async def test_large_messages_are_read_few_at_a_time(source: Bus) -> None:
    """Pages follow the sizes of messages, and nothing is left out between them."""
    channel = source.broadcast("big")
    for number in range(30):
        await channel.write("s", f"{number}" + "x" * 600_000)
    assert len(messages(await dumped(source))) == 30


# Loading


async def test_twice(source: Bus, target: Bus) -> None:
    """Loading again changes nothing."""
    await source.broadcast("events").write_many("s", range(5))
    jobs = source.work_queue("jobs", keep_done=True)
    await jobs.write_many("s", ["a", "b"])
    async with jobs.claim("w"):
        pass
    dump = await dumped(source)
    await target.load(dump)
    once = await dumped(target)
    loaded = await target.load(dump)
    assert (loaded.messages, loaded.duplicates) == (0, 7)
    assert (await dumped(target))[1:] == once[1:] == dump[1:]
    # Into its own store, too: what is written is the very same.
    assert (await source.load(dump)).duplicates == 7


async def test_the_rest_of_an_interrupted_load(source: Bus, target: Bus) -> None:
    """A load that was cut short is told, and completed by another."""
    await source.broadcast("events").write_many("s", range(1200))
    dump = await dumped(source)
    with pytest.raises(InvalidDump, match=r"Line 702 .* cut short"):
        await target.load(dump[:701])
    loaded = await target.load(dump)
    assert (loaded.messages, loaded.duplicates) == (501, 699)


async def test_conflicts(source: Bus, target: Bus) -> None:
    """A message whose id is taken by another is refused with its line; the others are loaded."""
    await target.broadcast("events").write("s", "other", id="id-7")
    events = source.broadcast("events")
    for number in range(20):
        await events.write("s", number, id=f"id-{number}")
    dump = await dumped(source)
    refused: list[tuple[int, str]] = []
    loaded = await target.load(dump, refuse=lambda line, why: refused.append((line, why)))
    assert (loaded.messages, loaded.refused) == (19, 1)
    ((line, why),) = refused
    assert dump[line - 1]["message"] == "id-7"
    assert "already has a message with id" in why
    with pytest.raises(InvalidDump, match=f"Line {line} of the dump"):
        await target.load(dump)


async def test_a_channel_of_another_kind(source: Bus, target: Bus) -> None:
    """A channel that is of the other kind in the target is refused, with all its messages."""
    await source.broadcast("events").write("s", 1)
    await source.broadcast("more").write("s", 2)
    await target.work_queue("events").write("s", "x")
    lines: list[int] = []
    loaded = await target.load(await dumped(source), refuse=lambda line, why: lines.append(line))
    assert lines == [2, 3]
    assert loaded.messages == 1


async def claimed(bus: Bus) -> object:
    """Return the first job that a worker gets."""
    async with bus.work_queue("jobs").claim("w") as claim:
        return claim.message.content.data


async def test_news_of_a_load(source: Bus, target: Bus) -> None:
    """Subscribers and workers in the same program hear of what is loaded."""
    await source.broadcast("events").write("s", "event")
    await source.work_queue("jobs").write("s", "job")
    dump = await dumped(source)
    async with target.broadcast("events").subscribe("live") as subscription:
        waiting = asyncio.create_task(claimed(target))
        # Until both have found nothing, and sleep.
        await run_until_idle()
        await target.load(dump)
        async with asyncio.timeout(20):
            assert await waiting == "job"
            assert (await anext(subscription)).content.data == "event"


def changed(record: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """Return a record with some parts changed; None takes one away."""
    return {name: value for name, value in {**record, **parts}.items() if value is not None}


DAMAGE: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("text", lambda r: json.dumps(r)[:-5], "not JSON"),
    ("bytes", lambda r: json.dumps(r).encode().replace(b"hello", b"h\xffllo"), "not JSON"),
    ("bit", lambda r: json.dumps(r).replace("hello", "hallo"), "checksum"),
    ("sender", lambda r: changed(r, sender="someone"), "checksum"),
    ("list", lambda r: [1], "not an object"),
    ("kind", lambda r: {"what": 1}, "of no kind"),
    ("channel", lambda r: changed(r, channel="nope"), "'nope' was not taken in"),
    ("no type", lambda r: changed(r, type=None), '"type" must be a text'),
    ("type", lambda r: changed(r, type=7, crc=None), '"type" must be a text'),
    ("id", lambda r: changed(r, message="a b"), "Invalid message id"),
    ("no data", lambda r: changed(r, data=None, crc=None), 'neither "data" nor "body"'),
    ("base64", lambda r: changed(r, data=None, body="?", crc=None), "base64"),
    ("raw", lambda r: changed(r, type="bytes", crc=None), "base64"),
    ("time", lambda r: changed(r, timestamp="now"), '"timestamp" must be a finite number'),
    ("topic", lambda r: changed(r, topic="a..b", crc=None), "Invalid topic"),
    ("state", lambda r: changed(r, state="leased"), "its state must be"),
    ("attempts", lambda r: changed(r, attempts=-1), '"attempts" must be a whole number'),
    ("long sender", lambda r: changed(r, sender="x" * 513, crc=None), "1 to 512 characters"),
    ("metadata", lambda r: changed(r, metadata=[], crc=None), '"metadata" must be an object'),
    ("due", lambda r: changed(r, due=True), '"due" must be a finite number'),
]


@pytest.mark.parametrize(("what", "damage", "why"), DAMAGE, ids=[what for what, _, _ in DAMAGE])
async def test_a_damaged_line(what: str, damage: Callable[[dict[str, Any]], object], why: str) -> None:
    """A line that is no part of a dump is refused by its number; the lines around it are loaded."""
    async with bus_on(MemoryStore()) as bus:
        jobs = bus.work_queue("jobs")
        await jobs.write_many("s", ["before", "hello", "after"])
        dump: list[object] = [*await dumped(bus)]
    line = 3
    dump[line] = damage(dump[line])  # type: ignore[arg-type]  # it is a record of a message
    refused: list[tuple[int, str]] = []
    async with bus_on(MemoryStore()) as bus:
        await bus.load(dump, refuse=lambda number, text: refused.append((number, text)))
        assert [m.content.data async for m in bus.work_queue("jobs").observe(follow=False)] == [
            "before",
            "after",
        ]
    assert refused[0][0] == line + 1
    assert why in refused[0][1]
    # A line that is not even known for a message is also missed at the end.
    assert len(refused) == 1 or (len(refused) == 2 and "3 messages" in refused[1][1])


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ({}, "not the beginning of a dump"),
        ("hello", "not the beginning of a dump"),
        ({"sssnbus": "dump", "format": 2}, "format is 2 .* upgrade"),
        ({"sssnbus": "dump"}, "format is None"),
    ],
)
async def test_no_dump(first: object, why: str) -> None:
    """What does not begin as a dump does is refused at once, with ``refuse`` too."""
    async with bus_on(MemoryStore()) as bus:
        with pytest.raises(InvalidDump, match=why):
            await bus.load([first, {"channel": "a", "kind": "broadcast"}], refuse=lambda line, text: None)
        with pytest.raises(InvalidDump, match="there is nothing"):
            await bus.load([])
        assert await bus.channels() == []


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"channel": "x", "kind": "heap"}, "no kind of channel 'heap'"),
        ({"channel": "-x", "kind": "broadcast"}, "Invalid channel name"),
        ({"channel": "x", "kind": "broadcast", "settings": {"a": 1}}, '"settings"'),
        ({"subscription": "s", "channel": "a", "after": "7"}, "not in the channel"),
        ({"subscription": "s", "channel": "a", "after": None, "attempts": []}, '"attempts"'),
        ({"subscription": 3, "channel": "a", "after": None}, "its name must be a text"),
        ({"reader": "r", "channel": "a", "after": 7}, "not in the channel"),
        ({"record": "r", "space": 1, "text": ""}, '"space" must be a text'),
        ({"record": "r", "space": "s"}, 'neither "text" nor "base64"'),
        ({"record": "r", "space": "s", "base64": "!"}, "base64"),
    ],
)
async def test_records_that_do_not_fit(record: dict[str, Any], why: str) -> None:
    """Everything in a dump is checked, not only its messages; what follows is loaded all the same."""
    lines: list[object] = [
        {"sssnbus": "dump", "format": 1},
        {"channel": "a", "kind": "broadcast"},
        record,
        {"message": "m", "channel": "a", "timestamp": 1, "sender": "s", "type": "json", "data": 1},
        {"end": True, "messages": 1},
        record,
    ]
    refused: list[tuple[int, str]] = []
    async with bus_on(MemoryStore()) as bus:
        loaded = await bus.load(lines, refuse=lambda number, text: refused.append((number, text)))
    assert [number for number, _ in refused] == [3, 6]
    assert why in refused[0][1]
    assert "behind the end" in refused[1][1]
    assert loaded.messages == 1


async def test_missing_lines_are_told() -> None:
    """A dump that has lost a line in its middle says so at its end."""
    async with bus_on(MemoryStore()) as bus:
        await bus.broadcast("a").write_many("s", range(3))
        dump = await dumped(bus)
    del dump[3]
    async with bus_on(MemoryStore()) as bus:
        with pytest.raises(InvalidDump, match=r"Line 5 .* 3 messages and 2 are here"):
            await bus.load(dump)
        assert len(await bus.broadcast("a").read("r")) == 2


# While others are at work


async def test_what_is_written_meanwhile_is_left_out(source: Bus) -> None:
    """The dump ends where the channels ended when it began."""
    await source.broadcast("a").write_many("s", range(3))
    found: Dump = []
    async for record in source.dump():
        found.append(record)
        await source.broadcast("a").write("s", "new")
        await source.work_queue("b").write("s", "new")
    assert [r["data"] for r in messages(found)] == [0, 1, 2]
    assert found[-1]["messages"] == 3


async def test_what_is_moved_meanwhile_is_found(source: Bus, target: Bus) -> None:
    """A message that goes to another channel, or to the dead letters, before it was read is not missed."""
    await source.work_queue("a").write("s", "first")
    last = source.work_queue("z", max_deliveries=1)
    moved, dead = await last.write("s", "moved"), await last.write("s", "dead")
    found: Dump = []
    async for record in source.dump():
        if not found:
            await last.move("a", ids=[moved])
            await last.read("w", exclusive=True, ids=[dead])
            await last.nack("w", [dead])
            await source.work_queue("a").write("s", "new")
        found.append(record)
    where = {r["data"]: (r["channel"], r.get("dead", False)) for r in messages(found)}
    assert where == {"first": ("a", False), "moved": ("a", False), "dead": ("z", True)}
    assert (await target.load(found)).messages == 3


async def test_a_channel_made_meanwhile_by_a_move(source: Bus, target: Bus) -> None:
    """If a message is moved to a channel that is not in the dump yet, that channel is told first."""
    queue = source.work_queue("z")
    await queue.write("s", "moved")
    found: Dump = []
    async for record in source.dump():
        if not found:
            await queue.move("brand-new")
        found.append(record)
    loaded = await target.load(found)
    assert (loaded.channels, loaded.messages, loaded.refused) == (2, 1, 0)


async def test_a_damaged_message(tmp_path: Path) -> None:
    """A message that fails its checksum is told and left out; the rest is there."""
    async with bus_on(SQLiteStore(tmp_path / "x.db", durability="process")) as bus:
        await bus.broadcast("events").write_many("s", ["a", "b", "c"])
    with sqlite3.connect(tmp_path / "x.db") as raw:
        raw.execute("UPDATE message SET body = ? WHERE body = ?", (b'"x"', b'"b"'))
        raw.execute("UPDATE message SET crc = ?, body = ? WHERE body = ?", (0, b"{", b'"never"'))
    raw.close()
    async with bus_on(SQLiteStore(tmp_path / "x.db", durability="process")) as bus:
        dump = await dumped(bus)
    assert [r["data"] for r in messages(dump)] == ["a", "c"]
    (damaged,) = [r for r in dump if "damaged" in r and "end" not in r]
    assert (damaged["channel"], damaged["sequence"]) == ("events", 2)
    assert dump[-1]["damaged"] == 1
    async with bus_on(MemoryStore()) as bus:
        loaded = await bus.load(dump)
        assert (loaded.messages, loaded.damaged, loaded.refused) == (2, 1, 0)


async def test_a_damaged_place(source: Bus, target: Bus) -> None:
    """The place of a subscriber that cannot be read is told, and the rest is there."""
    await source.broadcast("events").write("s", 1)
    store = await store_of(source)
    await store.put("subscription:events", "broken", b"{", version=None)
    await store.put("subscription:events", "odd", b"7", version=None)
    await store.put("reader:events", "r", b"x", version=None)
    await store.put("reader:events", "good", b"1", version=None)
    dump = await dumped(source)
    assert [r["damaged"] for r in dump if "place" in r] == ["broken", "odd", "r"]
    assert dump[-1]["damaged"] == 3
    loaded = await target.load(dump)
    assert (loaded.messages, loaded.places, loaded.damaged) == (1, 1, 3)


async def test_a_queue_message_that_lost_its_state(tmp_path: Path) -> None:
    """In a damaged file a queue's message without a state is dumped as ready, not passed over."""
    async with bus_on(SQLiteStore(tmp_path / "x.db", durability="process")) as bus:
        await bus.work_queue("jobs").write_many("s", ["a", "b"])
    with sqlite3.connect(tmp_path / "x.db") as raw:
        raw.execute("DELETE FROM job WHERE position & 1099511627775 = 1")
    raw.close()
    async with bus_on(SQLiteStore(tmp_path / "x.db", durability="process")) as bus:
        assert [r["data"] for r in messages(await dumped(bus))] == ["a", "b"]


async def test_bytes_that_json_would_change() -> None:
    """Content and headers that JSON would not give back byte by byte are kept as base64."""
    body, headers = b'{"a": 1.0, "b":[ ]}', b'{"later": true}'
    crc = checksum("s", None, "json", headers, body)
    store = MemoryStore()
    async with bus_on(store) as bus:
        await store.declare("a", Kind.LOG)
        await store.append([Draft("a", "m", 1.0, "s", None, "json", headers, body, crc)])
        dump = await dumped(bus)
    assert "data" not in messages(dump)[0]
    other = MemoryStore()
    async with bus_on(other) as bus:
        await bus.load(dump)
        stored = await other.find("a", "m")
        assert stored is not None
        assert (stored.body, stored.headers) == (body, headers)


async def test_content_that_was_never_json(source: Bus) -> None:
    """A message whose checksum is right and whose content is none is damaged, too."""
    store = await store_of(source)
    await store.declare("a", Kind.LOG)
    crc = checksum("s", None, "json", b"", b"{")
    await store.append([Draft("a", "m", 1.0, "s", None, "json", b"", b"{", crc)])
    (record,) = [r for r in await dumped(source) if "damaged" in r and "end" not in r]
    assert record["reason"] == "its parts are no 'json'"


# The ability of stores


def limited(inner: MemoryStore, *abilities: type) -> Any:
    """Return a store that can do no more than some abilities say."""

    def forward(name: str) -> Callable[..., Any]:
        async def call(self: object, *args: Any, **options: Any) -> Any:
            return await getattr(inner, name)(*args, **options)

        return call

    names = {name for ability in abilities for name in getattr(ability, "__abstractmethods__", ())}
    parts = {name: forward(name) for name in names}
    return type("Limited", abilities, {**parts, "url": "limited://", "durability": "none", "owner": "x"})()


async def test_stores_that_can_do_less(source: Bus) -> None:
    """Without ``Portable`` done messages are left out rather than done again; records of channels stay."""
    jobs = source.work_queue("jobs", keep_done=True, max_deliveries=3)
    await jobs.write_many("s", ["done", "open"])
    async with jobs.claim("w"):
        pass
    inner = MemoryStore()
    async with bus_on(limited(inner, QueueStore, ByID, Catalogue, Records)) as target:
        loaded = await target.load(await dumped(source))
        assert loaded.messages == 1
        dump = await dumped(target)
        assert [record["data"] for record in messages(dump)] == ["open"]
        assert dump[1]["settings"] == {"max_deliveries": "3"}
    async with bus_on(limited(MemoryStore(), LogStore)) as target:
        with pytest.raises(MissingAbility, match="Catalogue"):
            await dumped(target)
        with pytest.raises(MissingAbility, match="Catalogue"):
            await target.load([])
    async with bus_on(limited(MemoryStore(), LogStore, ByID, Catalogue)) as target:
        assert len(await dumped(target)) == 2
        with pytest.raises(InvalidDump, match="Records"):
            await target.load(await dumped(source))


async def test_records_may_come_one_by_one(source: Bus, target: Bus) -> None:
    """What ``dump`` yields may go straight into ``load``."""
    await source.broadcast("a").write_many("s", range(3))
    loaded = await target.load(source.dump())
    assert loaded.messages == 3


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_restore_is_all_or_nothing(kind: str, tmp_path: Path) -> None:
    """One conflict refuses the whole step; what is there already stays as it is."""
    store = make_store(kind, tmp_path)
    await store.open()
    try:
        await store.declare("q", Kind.QUEUE)

        def draft(id: str, body: bytes) -> Draft:
            return Draft("q", id, 1.0, "s", None, "json", b"", body, checksum("s", None, "json", b"", body))

        await store.append([draft("a", b"1")])
        done = Standing(State.DONE)
        with pytest.raises(Exception, match="another body"):
            await store.restore("q", [(draft("b", b"2"), done), (draft("a", b"2"), done)])
        assert await store.find("q", "b") is None
        placed = await store.restore("q", [(draft("a", b"1"), done), (draft("b", b"2"), done)])
        assert [place.duplicate for place in placed] == [True, False]
        counts = await store.counts("q")
        assert (counts.ready, counts.done) == (1, 1)
        assert await store.spaces() == []
    finally:
        await store.aclose()


# From anything to anything

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
contents = json_values | st.binary(max_size=5) | st.builds(Purchase, number=st.integers(0, 9))
topics = st.none() | st.sampled_from(["a", "a.b"])
headers = st.fixed_dictionaries(
    {"topic": topics},
    optional={
        "metadata": st.dictionaries(st.text("ab", max_size=2), json_values, max_size=2),
        "reply_to": st.just("a"),
    },
)
broadcasts = st.tuples(st.just("publish"), contents, headers)
writes = st.tuples(
    st.just("write"),
    contents,
    st.one_of(
        st.fixed_dictionaries({"priority": st.integers(-1, 2), "key": st.none() | st.sampled_from("kl")}),
        st.fixed_dictionaries({"delay": st.floats(0, 50)}),
    ),
)
others = st.sampled_from(
    [("ack",), ("nack",), ("nack late",), ("claim",), ("pass", 7.0), ("place",), ("remove",)]
)


async def act(bus: Bus, clock: ManualClock, step: tuple[Any, ...]) -> None:
    """Do something to the two channels of the property below."""
    events, jobs = bus.broadcast("events"), bus.work_queue("jobs", max_deliveries=2, keep_done=True)
    match step:
        case "publish", data, envelope:
            await events.write("s", data, **envelope)
        case "write", data, options:
            await jobs.write("s", data, **options)
        case "pass", seconds:
            clock.advance(seconds)
        case ("place",):
            await events.read("r", limit=2, durable=True)
        case ("remove",):
            first = await events.read("x", limit=1, after=0)
            await events.remove([message.id for message in first])
        case (what,):
            taken = [message.id for message in await jobs.read("w", exclusive=True)]
            if what == "ack":
                await jobs.acknowledge("w", taken)
            elif what != "claim":
                await jobs.nack("w", taken, delay=9.5 if what == "nack late" else 0.0, error="e")


@settings(max_examples=40)
@given(st.lists(broadcasts | writes | others, max_size=15))
async def test_there_and_back(steps: list[tuple[Any, ...]]) -> None:
    """Whatever was done to a store, its dump is the same after loading it into another, and back again."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    async with bus_on(store, clock) as bus:
        for step in steps:
            await act(bus, clock, step)
        if await store.last(["events"]) != {"events": 0}:
            await store.put("subscription:events", "s", Progress(1, {2: 1}, [3]).to_bytes(), version=None)
        dumps = [await dumped(bus)]
    with TemporaryDirectory() as folder:
        for kind in ("sqlite", "memory"):
            async with bus_on(make_store(kind, Path(folder), clock), clock) as bus:
                loaded = await bus.load(dumps[-1])
                assert loaded.refused == 0
                dumps.append(await dumped(bus))
    first, second, third = (dump[1:] for dump in dumps)
    assert first == second == third
