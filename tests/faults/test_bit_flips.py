"""Damage: single bits of a closed store turn over, and nothing altered may reach anybody."""

import asyncio
import json
import random
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sssnbus import BroadcastChannel, Bus, ChannelMessage, IncompatibleStore, StoreError, WorkQueueChannel
from tests.channels.tools import Recorder, data, until
from tests.faults.tools import contents, integrity, run, seed

pytestmark = pytest.mark.timeout(180)

COUNT, DAMAGED = 20, 5
"""Messages in each channel of a store, and how many of them are damaged at a time."""

Payload = tuple[str, str | None, str, str]


def payload(message: ChannelMessage) -> Payload:
    """Return everything of a message that its writer gave."""
    # How often a job was tried is the queue's own record, beside the message.
    written = {
        name: message.metadata[name] for name in message.metadata if name not in ("retries", "last_error")
    }
    metadata = json.dumps(written, sort_keys=True)
    return message.sender_id, message.topic, metadata, json.dumps(data(message), sort_keys=True)


@dataclass
class Intact:
    """A closed store that nothing has happened to."""

    path: Path
    payloads: dict[str, dict[int, Payload]] = field(default_factory=dict)
    """By channel and sequence."""


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Intact:
    """Return a store with messages in two channels."""
    store = Intact(tmp_path_factory.mktemp("intact") / "bus.db")

    async def fill() -> None:
        async with Bus(f"sqlite:///{store.path}?durability=process") as bus:
            for channel in (bus.broadcast("events"), bus.work_queue("jobs")):
                for number in range(COUNT):
                    item = {"number": number, "text": f"{channel.id} " * 20}
                    await channel.write("writer", item, topic="a.b", metadata={"note": number})

    asyncio.run(fill())
    for channel, messages in asyncio.run(contents(store.path)).items():
        store.payloads[channel] = {message.sequence: payload(message) for message in messages}
    return store


def flipped(blob: bytes, bit: int) -> bytes:
    """Return bytes with one bit turned over."""
    place, mask = bit // 8, 1 << bit % 8
    return blob[:place] + bytes([blob[place] ^ mask]) + blob[place + 1 :]


# Flips in the payload


@dataclass
class Seen:
    """Who got what from a store with damaged messages."""

    seed: int
    damaged: dict[str, dict[int, bytes]]
    """By channel and sequence: the body as it is now."""
    subscriber: list[ChannelMessage] = field(default_factory=list)
    reader: list[ChannelMessage] = field(default_factory=list)
    worker: list[ChannelMessage] = field(default_factory=list)
    letters: dict[str, list[ChannelMessage]] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}, damaged { ({name: sorted(there) for name, there in self.damaged.items()}) }"
        )


def damage(path: Path, luck: random.Random) -> dict[str, dict[int, bytes]]:
    """Turn over one bit in the headers or the body of some messages of each channel."""
    bodies: dict[str, dict[int, bytes]] = {}
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, name in connection.execute(
            "SELECT number, name FROM log WHERE name IN ('events', 'jobs')"
        ):
            bodies[name] = {}
            for sequence in luck.sample(range(1, COUNT + 1), DAMAGED):
                position = number << 40 | sequence
                found = connection.execute(
                    "SELECT headers, body FROM message WHERE position = ?", (position,)
                )
                parts = list(found.fetchone())
                part = luck.randrange(2)
                parts[part] = flipped(parts[part], luck.randrange(8 * len(parts[part])))
                connection.execute(
                    "UPDATE message SET headers = ?, body = ? WHERE position = ?", (*parts, position)
                )
                bodies[name][sequence] = parts[1]
    return bodies


async def is_through(events: BroadcastChannel, jobs: WorkQueueChannel) -> bool:
    """Return whether no job is left, and every damaged event has been met."""
    now = await jobs.statistics()
    return not now.ready + now.leased and (await events.statistics()).dead >= DAMAGED


async def watch(path: Path, seen: Seen) -> None:
    """Let a subscriber, a reader and a worker have everything, and look at the dead letters."""
    rest = COUNT - DAMAGED
    subscriber, worker = Recorder(), Recorder()
    async with Bus(f"sqlite:///{path}?durability=process&doorbells=no") as bus:
        events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
        await events.subscribe("subscriber", subscriber, start="earliest")
        await jobs.subscribe("worker", worker)
        seen.reader = await events.read("reader", limit=2 * COUNT)
        await subscriber.reach(rest)
        await worker.reach(rest)
        while not await is_through(events, jobs):  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.001)
        seen.letters = {channel.id: await channel.dead_letters.list() for channel in (events, jobs)}
    seen.subscriber, seen.worker = subscriber.messages, worker.messages


@pytest.fixture(
    scope="module",
    params=[pytest.param(4, id="short"), pytest.param(30, id="full", marks=pytest.mark.torture)],
)
def flips(
    request: pytest.FixtureRequest, intact: Intact, tmp_path_factory: pytest.TempPathFactory
) -> list[Seen]:
    """What was seen of several stores with ten damaged payloads each."""
    luck = random.Random(number := seed())
    folder = tmp_path_factory.mktemp("flips")
    found = []
    with asyncio.Runner() as runner:
        for turn in range(request.param):
            path = folder / f"{turn}.db"
            shutil.copy(intact.path, path)
            found.append(Seen(number, damage(path, luck)))
            runner.run(asyncio.wait_for(watch(path, found[-1]), 20))
    return found


@pytest.mark.parametrize("who", ["subscriber", "reader", "worker"])
def test_only_the_damaged_are_held_back(flips: list[Seen], intact: Intact, who: str) -> None:
    """Nobody gets a message with a turned bit, and everybody gets all the others as they were."""
    channel = "jobs" if who == "worker" else "events"
    for seen in flips:
        got = {message.sequence: payload(message) for message in getattr(seen, who)}
        whole = intact.payloads[channel]
        assert got == {n: whole[n] for n in whole if n not in seen.damaged[channel]}, seen


@pytest.mark.parametrize("channel", ["events", "jobs"])
def test_the_damaged_are_dead_letters(flips: list[Seen], channel: str) -> None:
    """A damaged message is a dead letter that says why, which one it was, and holds what is left of it."""
    for seen in flips:
        letters = {letter.metadata["dead"]["sequence"]: letter for letter in seen.letters[channel]}
        assert {n: letter.content.data for n, letter in letters.items()} == seen.damaged[channel], seen
        assert {letter.metadata["dead"]["reason"] for letter in letters.values()} == {
            "its checksum does not match"
        }, seen


@pytest.mark.parametrize(
    "change",
    [
        "sender_id = CAST(x'77ff' AS TEXT)",
        "topic = CAST(x'61ff' AS TEXT)",
        "type = CAST(x'ff' AS TEXT)",
        "headers = 7",
        "body = 'text'",
    ],
)
async def test_values_of_no_kind_are_damage(intact: Intact, tmp_path: Path, change: str) -> None:
    """A message with a text that is none, or a value of a wrong kind, is a dead letter like the others."""
    path = tmp_path / "bus.db"
    shutil.copy(intact.path, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE message SET {change} WHERE position & 1099511627775 = 2")
    async with Bus(f"sqlite:///{path}?durability=process&doorbells=no") as bus:
        events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
        for found in (await events.read("r", limit=COUNT), await jobs.read("w", limit=COUNT, exclusive=True)):
            assert [message.sequence for message in found] == [1, *range(3, COUNT + 1)]
        while not (await events.statistics()).dead:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.001)
        for channel in (events, jobs):
            assert [letter.metadata["dead"]["sequence"] for letter in await channel.dead_letters.list()] == [
                2
            ]


# Flips anywhere in the file


@dataclass
class Outcome:
    """What came of a store with one bit turned over somewhere."""

    seed: int
    bit: int
    got: list[ChannelMessage] = field(default_factory=list)
    error: Exception | None = None


async def use(path: Path, outcome: Outcome) -> None:
    """Subscribe to, read and claim everything, as far as the store lets us."""
    recorder = Recorder()
    async with Bus(f"sqlite:///{path}?durability=process&doorbells=no") as bus:
        events, jobs = bus.broadcast("events"), bus.work_queue("jobs")
        try:
            subscription = await events.subscribe("subscriber", recorder, start="earliest")
            outcome.got += await events.read("reader", limit=2 * COUNT)
            outcome.got += await jobs.read("worker", limit=2 * COUNT, exclusive=True)
            last = await events.write("writer", "last")
            await until(
                lambda: subscription.error is not None or any(m.id == last for m in recorder.messages)
            )
        finally:
            outcome.got += [message for message in recorder.messages if data(message) != "last"]


@pytest.fixture(
    scope="module",
    params=[pytest.param(40, id="short"), pytest.param(300, id="full", marks=pytest.mark.torture)],
)
def anywhere(
    request: pytest.FixtureRequest, intact: Intact, tmp_path_factory: pytest.TempPathFactory
) -> list[Outcome]:
    """What came of many stores with one bit turned over in each, anywhere in the used part of the file."""
    luck = random.Random(number := seed())
    path = tmp_path_factory.mktemp("anywhere") / "bus.db"
    whole = intact.path.read_bytes()
    used = [at for at, byte in enumerate(whole) if byte]
    found = []
    with asyncio.Runner() as runner:
        for _ in range(request.param):
            outcome = Outcome(number, 8 * luck.choice(used) + luck.randrange(8))
            path.write_bytes(flipped(whole, outcome.bit))
            try:
                runner.run(use(path, outcome))
            except Exception as error:
                outcome.error = error
            found.append(outcome)
            for left in path.parent.iterdir():
                left.unlink()
    return found


def test_nothing_altered_gets_through(anywhere: list[Outcome], intact: Intact) -> None:
    """Wherever a bit turns over, what is handed out was written so."""
    written = {known for payloads in intact.payloads.values() for known in payloads.values()}
    for outcome in anywhere:
        assert {payload(message) for message in outcome.got} <= written, outcome


def test_an_unreadable_store_says_so(anywhere: list[Outcome]) -> None:
    """A turned bit leads to an error of the store, if to any."""
    assert [o for o in anywhere if o.error is not None and not isinstance(o.error, StoreError)] == []


@pytest.mark.parametrize("change", ["NULL", "x'05'", "'many'"])
@pytest.mark.parametrize("column", ["last", "floor", "count", "size"])
async def test_numbers_of_no_kind_are_an_error_of_the_store(
    intact: Intact, tmp_path: Path, column: str, change: str
) -> None:
    """A damaged number in the store's own books never surfaces as an error of Python."""
    path = tmp_path / "bus.db"
    shutil.copy(intact.path, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        # As a turned bit does it, past all constraints.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'INTEGER NOT NULL', '')")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE log SET {column} = {change} WHERE name = 'events'")
    outcome = Outcome(0, 0)
    with suppress(StoreError):
        await use(path, outcome)


async def test_a_schema_that_is_no_text(intact: Intact, tmp_path: Path) -> None:
    """A file whose schema cannot even be quoted in an error is refused in so many words."""
    path = tmp_path / "bus.db"
    path.write_bytes(intact.path.read_bytes().replace(b"CREATE TABLE setting", b"CREATE TABLE se\xd9ting ("))
    with pytest.raises(IncompatibleStore):
        await contents(path)


# Damage to the write-ahead log


@dataclass
class Remains:
    """What was found in a store whose write-ahead log was damaged."""

    seed: int
    how: str
    error: Exception | None = None
    found: dict[str, list[ChannelMessage]] = field(default_factory=dict)
    integrity: str = ""

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.how}, {self.error!r}, {self.integrity}"


@dataclass
class Crashed:
    """A store whose process has died, with everything in its write-ahead log."""

    database: bytes
    wal: bytes
    payloads: dict[str, list[Payload]]
    """By channel, in order."""


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Crashed:
    """Let a child write and die."""
    folder = tmp_path_factory.mktemp("crashed")
    run("writing", folder, "disk", 1, 30, 1)
    path = folder / "bus.db"
    database, wal = path.read_bytes(), (folder / "bus.db-wal").read_bytes()
    found = asyncio.run(contents(path))
    return Crashed(database, wal, {name: [payload(m) for m in messages] for name, messages in found.items()})


@pytest.fixture(
    scope="module",
    params=[pytest.param(30, id="short"), pytest.param(300, id="full", marks=pytest.mark.torture)],
)
def remains(
    request: pytest.FixtureRequest, crashed: Crashed, tmp_path_factory: pytest.TempPathFactory
) -> list[Remains]:
    """What was found after many single flips, and cuts, in the write-ahead log."""
    luck = random.Random(number := seed())
    path = tmp_path_factory.mktemp("remains") / "bus.db"
    found = []
    with asyncio.Runner() as runner:
        for turn in range(request.param):
            if turn % 2:
                at = luck.randrange(len(crashed.wal))
                wal, what = crashed.wal[:at], Remains(number, f"cut at {at}")
            else:
                at = luck.randrange(8 * len(crashed.wal))
                wal, what = flipped(crashed.wal, at), Remains(number, f"bit {at} turned")
            path.write_bytes(crashed.database)
            path.with_name("bus.db-wal").write_bytes(wal)
            try:
                what.found = runner.run(contents(path))
                what.integrity = integrity(path)
            except Exception as error:
                what.error = error
            found.append(what)
            for left in path.parent.iterdir():
                left.unlink()
    return found


def test_a_damaged_log_opens(remains: list[Remains]) -> None:
    """A store with a damaged write-ahead log opens and is sound."""
    for what in remains:
        assert what.error is None, what
        assert what.integrity == "ok", what


def test_a_damaged_log_keeps_a_prefix(remains: list[Remains], crashed: Crashed) -> None:
    """What was committed before the damage is there as it was written, and nothing after it."""
    for what in remains:
        for name, messages in what.found.items():
            assert [payload(m) for m in messages] == crashed.payloads[name][: len(messages)], what
            assert [m.sequence for m in messages] == list(range(1, len(messages) + 1)), what


def test_damage_to_the_log_takes_something(remains: list[Remains], crashed: Crashed) -> None:
    """Most of this damage does take messages away, so what is kept is worth counting."""
    whole = sum(map(len, crashed.payloads.values()))
    less = [what for what in remains if sum(map(len, what.found.values())) < whole]
    assert len(less) > len(remains) / 2
