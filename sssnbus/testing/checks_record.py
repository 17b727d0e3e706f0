"""What stores promise of their catalogue, their records and their wake-ups."""

import asyncio
from contextlib import suppress

from sssnbus.stores.base import Counts, Kind, QueueStore, Records, Wakeups
from sssnbus.testing.bench import Bench, check, draft, same


@check()
async def check_declaring(bench: Bench) -> None:
    """The first declaration of a log counts; later ones tell its kind and change nothing."""
    same(await bench.store.declare("a", Kind.LOG), Kind.LOG, "a new log is what it is declared as")
    await bench.write("a", 1)
    same(await bench.store.declare("a", Kind.LOG), Kind.LOG, "declaring again is allowed")
    same(await bench.store.declare("a", Kind.QUEUE), Kind.LOG, "another kind is told what it is")
    same(await bench.values("a"), [1], "messages stay")


@check()
async def check_declaring_at_once(bench: Bench) -> None:
    """Of many declarations at once, one counts, and all are told the same."""
    kinds = await asyncio.gather(*(bench.store.declare("a", kind) for kind in [Kind.QUEUE, Kind.LOG] * 5))
    same(len(set(kinds)), 1, "all are told one kind")
    same([info.kind for info in await bench.store.logs()], kinds[:1], "that is what is recorded")


@check(QueueStore)
async def check_catalogue(bench: Bench) -> None:
    """The catalogue tells every log by name, with its kind, its ends, its messages and its bytes."""
    await bench.log("b", "a.x")
    await bench.queue("a")
    await bench.write("b", *range(5), body=b"12345678", headers=b"12")
    await bench.store.trim("b", upto=2)
    same(
        [tuple(info)[:5] for info in await bench.store.logs()],
        [
            ("a", Kind.QUEUE, 0, 0, 0),
            ("a.x", Kind.LOG, 0, 0, 0),
            ("b", Kind.LOG, 5, 2, 3),
        ],
        "logs are told in the order of their names",
    )
    sizes = [info.size for info in await bench.store.logs()]
    same(sizes[:2], [0, 0], "an empty log has no size")
    assert sizes[2] >= 30, f"contents and headers count, so 3 messages have 30 bytes or more, not {sizes[2]}"


@check()
async def check_catalogue_by_prefix(bench: Bench) -> None:
    """A prefix is taken literally."""
    await bench.log("a_b", "aXb", "a_c", "A_b", "b")
    same([info.name for info in await bench.store.logs("a_")], ["a_b", "a_c"], "no wildcards, no other case")
    same(await bench.store.logs("z"), [], "nothing begins with it")


@check(QueueStore)
async def check_drop(bench: Bench) -> None:
    """A dropped log is forgotten: it can become the other kind, and counts from 1."""
    await bench.queue("a", "b")
    await bench.write("a", 1, 2)
    await bench.write("b", 1)
    await bench.one("a")
    await bench.store.drop("a")
    await bench.store.drop("nobody")
    same([info.name for info in await bench.store.logs()], ["b"], "it is not listed")
    same(await bench.store.last(["a", "b"]), {"a": 0, "b": 1}, "it has no end; others keep theirs")
    same(await bench.store.counts("a"), Counts(), "it holds nothing")
    same(await bench.store.declare("a", Kind.LOG), Kind.LOG, "it can be declared anew")
    same((await bench.write("a", 1))[0].sequence, 1, "it counts from 1")


@check(Records)
async def check_records(bench: Bench) -> None:
    """A record is what was put last under its space and name."""
    store = bench.store
    same(await store.get("s", "x"), None, "nothing is there at first")
    first = await store.put("s", "x", b"one", version=None)
    assert first is not None, "a new value is made without a version"
    same(await store.get("s", "x"), (b"one", first), "a value is read with its version")
    second = await store.put("s", "x", b"\0two", version=first)
    assert second is not None, "the version read is the one to write with"
    assert second != first, "every put has a new version"
    await store.put("t", "x", b"", version=None)
    same(await store.names("s"), {"x": (b"\0two", second)}, "a space has values of its own")
    same(await store.names("u"), {}, "an unknown space is empty")
    same(await store.delete("s", "x"), True, "a value that was there is deleted")
    same(await store.delete("s", "x"), False, "it can be deleted once")
    same((await store.get("s", "x"), await store.get("t", "x")) != (None, None), True, "others stay")


@check(Records)
async def check_compare_and_set(bench: Bench) -> None:
    """A put with an old version changes nothing, not even if the value was deleted and made anew."""
    store = bench.store
    old = await store.put("s", "x", b"one", version=None)
    same(await store.put("s", "x", b"two", version=None), None, "what is there cannot be made")
    assert old is not None, "a new value is made"
    new = await store.put("s", "x", b"two", version=old)
    same(await store.put("s", "x", b"three", version=old), None, "an old version is refused")
    same(await store.get("s", "x"), (b"two", new), "a refused put changes nothing")
    await store.delete("s", "x")
    same(await store.put("s", "x", b"three", version=new), None, "what is gone cannot be changed")
    again = await store.put("s", "x", b"anew", version=None)
    assert again not in (None, old, new), "versions are not reused"


@check(Records)
async def check_record_races(bench: Bench) -> None:
    """Of puts at once with one version, one wins; so counters lose no step."""
    made = await asyncio.gather(*(bench.store.put("s", "x", b"0", version=None) for _ in range(10)))
    same(sum(version is not None for version in made), 1, "a value is made once")

    async def add() -> None:
        while True:
            record = await bench.store.get("s", "x")
            assert record is not None, "the value is there"
            if await bench.store.put("s", "x", b"%d" % (int(record.value) + 1), version=record.version):
                return

    await asyncio.gather(*(add() for _ in range(10)))
    record = await bench.store.get("s", "x")
    same(record and record.value, b"10", "no step is lost")


@check(Records)
async def check_owner(bench: Bench) -> None:
    """An open store is alive under its own name; an invented one is not."""
    same(await bench.store.alive(bench.store.owner), True, "this store is open")
    same(await bench.store.alive("nobody"), False, "nobody has that name")


@check(Wakeups)
async def check_wakeups(bench: Bench) -> None:
    """Watching can begin and end at any time, and asking for changes is always allowed."""
    rung = asyncio.Event()
    end = bench.store.watch(rung.set)
    await bench.log("a")
    await bench.write("a", 1)
    await bench.store.changed()
    end()
    end()
    rung.clear()
    await bench.write("a", 2)
    same(rung.is_set(), False, "an ended watch is silent")


@check(Records, Wakeups, shared=True)
async def check_short_visits(bench: Bench) -> None:
    """Who opens the place, writes and leaves between two looks has changed something, however often."""
    await bench.log("a")
    for number in range(3):
        await bench.store.changed()
        visitor = await bench.another()
        await visitor.append([draft("a", number)])
        await visitor.aclose()
        same(await bench.store.changed(), True, "a visit between two looks is seen")
    visitor = await bench.another()
    await bench.store.changed()
    await visitor.append([draft("a", 3)])
    await visitor.aclose()
    same(await bench.store.changed(), True, "what was written just before leaving is seen")


@check(Records, Wakeups, shared=True)
async def check_wakeups_between_stores(bench: Bench) -> None:
    """A change by one store is heard by another one on the same place, by its bell or by asking."""
    other = await bench.another()
    await bench.log("a")
    rung = asyncio.Event()
    end = other.watch(rung.set)
    await other.changed()
    for number in range(3):
        rung.clear()
        await bench.write("a", number)
        while not await other.changed():
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), other.poll_interval)
                break
        same((await other.last(["a"]))["a"], number + 1, "the news is there when it is heard")
    end()
