"""What every store promises of ids and dedupe keys."""

from sssnbus.errors import MessageConflict
from sssnbus.stored import Dedupe
from sssnbus.stores.base import AtomicBatch, QueueStore
from sssnbus.testing.bench import Bench, check, draft, refused, same


@check()
async def check_made_ids(bench: Bench) -> None:
    """A made id is 19 digits, and later ones are greater."""
    await bench.log("a", "b")
    ids = [place.id for log in ("a", "b", "a") for place in await bench.write(log, *range(50))]
    assert all(len(id) == 19 and id.isdigit() and id.isascii() for id in ids), "made ids are 19 digits"
    same(ids, sorted(set(ids)), "ids rise in the order of the appends")


@check(clock=True)
async def check_made_ids_tell_the_time(bench: Bench) -> None:
    """A made id is the time in nanoseconds but for its low 12 bits, and never goes back."""
    await bench.log("a")
    first = (await bench.write("a", 1))[0].id
    assert 0 <= bench.clock.time() * 1e9 - int(first) < 1_000_000, "an id is Unix nanoseconds"
    bench.clock.set_time(bench.clock.time() - 3600)
    second = (await bench.write("a", 2))[0].id
    assert second > first, "ids rise while the clock steps back"
    bench.clock.set_time(bench.clock.time() + 7200)
    third = (await bench.write("a", 3))[0].id
    assert third > second, "ids rise when the clock is right again"
    assert 0 <= bench.clock.time() * 1e9 - int(third) < 1_000_000, "ids follow the clock again"


@check()
async def check_given_ids(bench: Bench) -> None:
    """A given id is kept, is unique in its log only, and can be given again once its message went."""
    await bench.log("a", "b")
    same((await bench.write("a", 1, id="order-1"))[0].id, "order-1", "a given id is kept")
    same((await bench.write("b", 2, id="order-1"))[0].duplicate, False, "another log has ids of its own")
    await bench.store.remove("a", ["order-1"])
    same((await bench.write("a", 3, id="order-1"))[0].duplicate, False, "the id of a removed message is free")
    await bench.store.trim("a", upto=99)
    same((await bench.write("a", 4, id="order-1"))[0].duplicate, False, "the id of a trimmed message is free")


@check()
async def check_made_ids_avoid_given_ones(bench: Bench) -> None:
    """A made id is never one that a writer has given."""
    await bench.log("a")
    made = int((await bench.write("a", 0))[0].id)
    taken = {str(made + step) for step in range(1, 50)}
    for id in sorted(taken):
        await bench.write("a", 1, id=id)
    placed = [place for number in range(60) for place in await bench.write("a", number)]
    assert not any(place.duplicate or place.id in taken for place in placed), "made ids are new"


@check()
async def check_duplicate_ids(bench: Bench) -> None:
    """The same message under the same id is stored once, and its place is told again."""
    await bench.log("a")
    await bench.write("a", "other")
    first = await bench.write("a", "x", id="one")
    again = await bench.store.append([draft("a", "x", id="one", topic="other.topic")])
    same(again, [first[0]._replace(duplicate=True)], "a duplicate is the first one")
    same(await bench.values("a"), ["other", "x"], "it is stored once")
    batch = await bench.store.append([draft("a", "y", id="two"), draft("a", "z"), draft("a", "y", id="two")])
    same([place.sequence for place in batch], [3, 4, 3], "a batch may repeat itself")
    same([place.duplicate for place in batch], [False, False, True], "the second one is the duplicate")


@check()
async def check_conflicting_ids(bench: Bench) -> None:
    """Another body or type under a known id is refused, and nothing of the batch is stored."""
    await bench.log("a")
    await bench.write("a", "x", id="one")
    for other in (draft("a", "y", id="one"), draft("a", "x", id="one", type="Other")):
        with refused(MessageConflict, "another message under the same id"):
            await bench.store.append([draft("a", "before"), other, draft("a", "after")])
    with refused(MessageConflict, "two messages of one batch under the same id"):
        await bench.store.append([draft("a", 1, id="two"), draft("a", 2, id="two")])
    same(await bench.values("a"), ["x"], "a refused batch leaves nothing")
    same((await bench.write("a", "z"))[0].sequence, 2, "a refused batch takes no place")


@check(clock=True)
async def check_dedupe_window(bench: Bench) -> None:
    """A dedupe key stands for its first message until its window ends."""
    await bench.log("a", "b")
    key = Dedupe("k", b"digest", 60.0)
    first = await bench.write("a", "x", dedupe=key)
    bench.clock.advance(59)
    same(
        await bench.write("a", "x", dedupe=key), [first[0]._replace(duplicate=True)], "a retry is a duplicate"
    )
    same((await bench.write("b", "x", dedupe=key))[0].duplicate, False, "another log has keys of its own")
    bench.clock.advance(2)
    later = await bench.write("a", "x", dedupe=key)
    same(later[0].duplicate, False, "after the window the key is free")
    same(
        (await bench.write("a", "x", dedupe=key))[0].sequence, later[0].sequence, "it stands for the new one"
    )


@check()
async def check_dedupe_conflict(bench: Bench) -> None:
    """Another content under a known dedupe key is refused, within a batch as well."""
    await bench.log("a")
    await bench.write("a", "x", dedupe=Dedupe("k", b"one", 60.0))
    with refused(MessageConflict, "another content under the same dedupe key"):
        await bench.write("a", "y", dedupe=Dedupe("k", b"two", 60.0))
    with refused(MessageConflict, "two contents of one batch under the same dedupe key"):
        await bench.store.append(
            [
                draft("a", 1, dedupe=Dedupe("l", b"one", 60.0)),
                draft("a", 2, dedupe=Dedupe("l", b"two", 60.0)),
            ]
        )
    same(await bench.values("a"), ["x"], "a refused append leaves nothing")
    twice = await bench.write("a", "z", "z", dedupe=Dedupe("m", b"z", 60.0))
    same([place.duplicate for place in twice], [False, True], "a batch may repeat itself")


@check(QueueStore)
async def check_dedupe_outlives_the_message(bench: Bench) -> None:
    """A message that was worked off and sent again under its dedupe key is not worked off again."""
    await bench.queue("q")
    key = Dedupe("k", b"digest", 60.0)
    placed = await bench.write("q", "x", dedupe=key)
    await bench.store.remove("q", [placed[0].id])
    same(
        await bench.write("q", "x", dedupe=key), [placed[0]._replace(duplicate=True)], "the key is remembered"
    )
    same(await bench.claimed("q"), [], "nothing was added")


@check(AtomicBatch)
async def check_batch_over_logs(bench: Bench) -> None:
    """A batch over several logs is there in all of them or in none."""
    await bench.log("a", "b")
    placed = await bench.store.append([draft("a", 1), draft("b", 2), draft("a", 3)])
    same([place.sequence for place in placed], [1, 1, 2], "places are told in the order of the drafts")
    await bench.write("b", "x", id="one")
    with refused(MessageConflict, "a conflict in one of the logs"):
        await bench.store.append([draft("a", 4), draft("b", "y", id="one")])
    same((await bench.values("a"), await bench.values("b")), ([1, 3], [2, "x"]), "nothing is there by half")
