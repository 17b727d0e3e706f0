"""What a store on Redis keeps and reads, whichever way it is written, and however much it is."""

import pytest

from sssnbus.stored import Dedupe
from sssnbus.stores.base import Kind, Page, Selection, Standing, State
from sssnbus.stores.redis import RedisStore, log
from sssnbus.testing import ManualClock
from tests.stores.redis.tools import client, draft, opened


async def test_one_or_several(store: RedisStore) -> None:
    """A message that is written alone, by a shorter way, is kept as those that are written together."""
    for name in ("jobs", "events"):
        together = [draft(name, b"b"), draft(name, b"c"), draft(name, b"d", id="given")]
        placed = await store.append([draft(name, b"a")])
        placed += await store.append(together)
        placed += await store.append([draft(name, b"e")])
        placed += await store.append([draft(name, b"f"), draft(name, b"g")])
        assert [place.sequence for place in placed] == [1, 2, 3, 4, 5, 6, 7]
        made = [place.id for place in placed if place.id != "given"]
        assert made == sorted(made)
        assert {len(id) for id in made} == {19}
        found = (await store.read(name, after=0, limit=9)).messages
        assert b"".join(stored.body for stored in found) == b"abcdefg"
        assert [(stored.id, stored.sequence) for stored in found] == [(p.id, p.sequence) for p in placed]
        for stored in found:
            assert await store.find(name, stored.id) == stored
        (info,) = await store.logs(name)
        assert (info.count, info.size, info.last) == (7, 7, 7)
    leases = (await store.claim("jobs", worker="w", lease=60, limit=9)).leases
    assert b"".join(lease.stored.body for lease in leases) == b"abcdefg"


async def test_made_ids_step_over_given_ones(url: str) -> None:
    """An id that was given is not made again, also not by the shorter way."""
    async with opened(url, ManualClock()) as store:
        first = int((await store.append([draft("events")]))[0].id)
        # A message with a given id takes a number of its own, which nobody sees.
        await store.append([draft("events", id=str(first + 2))])
        made = (await store.append([draft("events")]))[0].id
        assert made == str(first + 3)


async def test_windows_that_are_over(url: str) -> None:
    """A vacuum forgets dedupe keys whose time is over, and only those: a log may get no more of them."""
    clock = ManualClock()
    async with opened(url, clock) as store, client(store._place.port) as plain:
        for name, seconds in (("short", 10.0), ("long", 100.0)):
            for number in range(3):
                dedupe = Dedupe(f"{name}-{number}", b"digest", seconds)
                await store.append([draft("jobs", dedupe=dedupe), draft("events", dedupe=dedupe)])
        clock.advance(50)
        assert await store.vacuum() == 0
        key = store._place.clock_key
        for log_name in ("jobs", "events"):
            assert await plain.hlen(f"{key}:u:{log_name}") == 3
            assert await plain.zcard(f"{key}:w:{log_name}") == 3
        (again,) = await store.append([draft("events", dedupe=Dedupe("long-1", b"digest", 100.0))])
        assert again.duplicate


async def test_one_is_news(url: str) -> None:
    """Who looks for changes sees a single message too."""
    async with opened(url) as store, opened(url) as other:
        await store.changed()
        assert not await store.changed()
        await other.append([draft("events")])
        assert await store.changed()


async def test_intervals_go_by_ids(store: RedisStore) -> None:
    """An interval of ids means ids, also where given ones stand in another order."""
    low, high = "1" * 19, "9" * 19
    made = (await store.append([draft("jobs", b"made")]))[0].id
    await store.append([draft("jobs", b"high", id=high), draft("jobs", b"low", id=low)])
    for select, bodies in ((Selection(before=made), [b"low"]), (Selection(after=made), [b"high"])):
        assert [stored.body for stored in await store.peek("jobs", limit=9, select=select)] == bodies
        leases = (await store.claim("jobs", worker="w", lease=60, limit=9, select=select)).leases
        assert [lease.stored.body for lease in leases] == bodies


async def test_due_behind_a_key(store: RedisStore) -> None:
    """One that waits behind its key counts as ready, and that it is due later is not lost."""
    await store.append([draft("jobs", key="k"), draft("jobs", key="k", due=1e10)])
    assert (await store.standing("jobs", [2]))[2] == Standing(State.READY, 0, 1e10)


@pytest.fixture
def small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no answer carry more than a few messages."""
    monkeypatch.setattr(log, "MAX_ANSWER_BYTES", 100)


def sequences(page: Page) -> list[int]:
    """Return the places of what was read."""
    return [stored.sequence for stored in page.messages]


async def test_big_messages(store: RedisStore) -> None:
    """A page of big messages comes whole, in several answers."""
    for _ in range(20):
        await store.append([draft("events", b"x" * 1_000_000)])
    page = await store.read("events", after=0, limit=100)
    assert sequences(page) == list(range(1, 21))
    assert {len(stored.body) for stored in page.messages} == {1_000_000}


async def test_big_messages_behind_small_ones(store: RedisStore) -> None:
    """However small the messages before them are, no answer brings many big ones."""
    await store.append([draft("events") for _ in range(80)])
    for _ in range(10):
        await store.append([draft("events", bytes(256 * 1024)) for _ in range(10)])
    page, more = await store._stretch("events", 0, 500, None)
    assert more
    assert sum(len(stored.body) for stored in page.messages) < 2 * log.MAX_ANSWER_BYTES + 1
    assert len((await store.read("events", after=0, limit=500)).messages) == 180


@pytest.mark.usefixtures("small_answers")
async def test_bounds(store: RedisStore) -> None:
    """Where a page begins and ends does not depend on how it comes, nor does what it leaves out."""
    await store.append([draft("events", b"x" * 60, id=f"m{n}") for n in range(1, 101)])
    await store.remove("events", [f"m{n}" for n in range(10, 60)])
    await store.trim("events", upto=3)
    left = [*range(4, 10), *range(60, 101)]
    page = await store.read("events", after=0, limit=1000)
    assert (sequences(page), page.floor, page.last) == (left, 3, 100)
    assert sequences(await store.read("events", after=5, limit=1000, upto=80)) == [
        n for n in left if 5 < n <= 80
    ]
    assert sequences(await store.read("events", after=0, limit=30)) == left[:30]
    assert sequences(await store.read("events", after=100, limit=30)) == []
    assert sequences(await store.read("events", after=0, limit=0)) == []


@pytest.mark.usefixtures("small_answers")
@pytest.mark.parametrize("what", ["append", "trim", "drop"])
async def test_changes_meanwhile(store: RedisStore, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """What happens between two answers of a page leaves it as if it had been read in one."""
    await store.append([draft("events", b"x" * 60) for _ in range(40)])
    stretch = store._stretch

    async def then(name: str, after: int, limit: int, upto: int | None) -> tuple[Page, bool]:
        found = await stretch(name, after, limit, upto)
        if after == 0 and what == "append":
            await store.append([draft("events")])
        elif after == 0 and what == "trim":
            await store.trim("events", upto=20)
        elif after == 0:
            await store.drop("events")
            await store.declare("events", Kind.LOG)
        return found

    monkeypatch.setattr(store, "_stretch", then)
    page = await store.read("events", after=0, limit=1000)
    expected = {"append": (1, 40, 0, 40), "trim": (21, 40, 20, 40), "drop": (1, 0, 0, 0)}[what]
    first, last, floor, end = expected
    assert (sequences(page), page.floor, page.last) == (list(range(first, last + 1)), floor, end)
