"""What every store promises of a plain log: order, places, reading and what goes."""

import asyncio

from sssnbus.errors import NotStarted
from sssnbus.stored import Stored
from sssnbus.stores.base import ByID, Kind
from sssnbus.testing.bench import Bench, check, draft, refused, same


@check()
async def check_order(bench: Bench) -> None:
    """Messages are read in the order of their appends, numbered from 1 without a gap."""
    await bench.log("a")
    placed = [await bench.write("a", number) for number in range(3)]
    placed.append(await bench.write("a", 3, 4))
    same([place.sequence for batch in placed for place in batch], [1, 2, 3, 4, 5], "sequences have no gaps")
    same(await bench.values("a"), [0, 1, 2, 3, 4], "reads follow the appends")


@check()
async def check_logs_are_apart(bench: Bench) -> None:
    """Each log has its own sequences and its own messages."""
    await bench.log("a", "b")
    await bench.write("a", 1)
    placed = await bench.write("b", 2)
    same(placed[0].sequence, 1, "each log counts from 1")
    same(await bench.values("b"), [2], "a log holds its own messages only")


@check()
async def check_sequences_are_never_reused(bench: Bench) -> None:
    """The place of a message that went is not given to another one, even if all went."""
    await bench.log("a")
    placed = await bench.write("a", 1, 2)
    await bench.store.remove("a", [place.id for place in placed])
    same((await bench.write("a", 3))[0].sequence, 3, "after remove the count goes on")
    await bench.store.trim("a", upto=3)
    same((await bench.write("a", 4))[0].sequence, 4, "after trim the count goes on")


@check()
async def check_every_field_comes_back(bench: Bench) -> None:
    """A message comes back exactly as it was appended."""
    await bench.log("a")
    sent = draft(
        "a", {"ä": [1, None]}, id="x:1", topic="user.login", headers=b'{"reply_to":"b"}', priority=-3
    )
    await bench.store.append([sent._replace(key="k")])
    page = await bench.store.read("a", after=0, limit=1)
    expected = Stored(
        "x:1", 1, sent.timestamp, "writer", "user.login", "json", sent.headers, sent.body, sent.crc, -3, "k"
    )
    same(page.messages, [expected], "all fields are kept")


@check()
async def check_bodies_byte_for_byte(bench: Bench) -> None:
    """Bodies are bytes: empty, with NUL, not UTF-8, or large, they come back as they were."""
    await bench.log("a")
    bodies = [b"", b"\0", b"a\0b\r\n\x1a", bytes(range(256)), "\ud7ff\ue000😀".encode(), b"x" * 2**20]
    for body in bodies:
        await bench.store.append([draft("a", body=body, type="bytes")])
    page = await bench.store.read("a", after=0, limit=10)
    same([len(stored.body) for stored in page.messages], [len(body) for body in bodies], "sizes are kept")
    assert [stored.body for stored in page.messages] == bodies, "bytes are kept"


@check()
async def check_reading_in_pages(bench: Bench) -> None:
    """A read returns what lies between two sequences, oldest first, at most as many as asked for."""
    await bench.log("a")
    await bench.write("a", *range(1, 11))
    same(await bench.values("a", after=0, limit=3), [1, 2, 3], "limit bounds a page")
    same(await bench.values("a", after=8, limit=3), [9, 10], "after is open")
    same(await bench.values("a", after=10), [], "nothing comes after the last")
    same(await bench.values("a", after=99), [], "nothing comes after what is not yet")
    page = await bench.store.read("a", after=3, limit=100, upto=5)
    same([stored.sequence for stored in page.messages], [4, 5], "upto is closed")
    same((page.floor, page.last), (0, 10), "a page says how far the log reaches")


@check()
async def check_reading_over_holes(bench: Bench) -> None:
    """Removed messages are passed over and do not count against the limit."""
    await bench.log("a")
    placed = await bench.write("a", *range(1, 301))
    await bench.store.remove("a", [place.id for place in placed if place.sequence % 100])
    same(await bench.values("a", limit=2), [100, 200], "a page is filled from beyond the holes")
    same(await bench.values("a", after=150), [200, 300], "a read may begin in a hole")
    await bench.write("a", 301)
    same(await bench.values("a", after=200), [300, 301], "appends go on behind the holes")


@check()
async def check_unknown_log_is_empty(bench: Bench) -> None:
    """Reading verbs find nothing in a log that nobody declared; appending to it is refused."""
    page = await bench.store.read("nobody", after=0, limit=1)
    same((page.messages, page.floor, page.last), ([], 0, 0), "an unknown log is an empty page")
    same(await bench.store.last(["nobody"]), {"nobody": 0}, "an unknown log ends at 0")
    same(await bench.store.locate("nobody", 0.0), 0, "an unknown log has no time")
    same(await bench.store.trim("nobody", upto=5), 0, "nothing goes from an unknown log")
    same(await bench.store.remove("nobody", ["x"]), 0, "nothing is removed from an unknown log")
    with refused(NotStarted, "an append to a log that nobody declared"):
        await bench.write("nobody", 1)
    same(await bench.store.logs(), [], "a refused append declares nothing")


@check()
async def check_appending_nothing(bench: Bench) -> None:
    """An empty append is allowed and does nothing."""
    same(await bench.store.append([]), [], "nothing in, nothing out")


@check()
async def check_last_of_many(bench: Bench) -> None:
    """The ends of many logs are told at once."""
    await bench.log("a", "b", "c")
    await bench.write("a", 1, 2)
    await bench.write("b", 1)
    same(await bench.store.last(["a", "b", "c"]), {"a": 2, "b": 1, "c": 0}, "last tells each end")
    same(await bench.store.last([]), {}, "last of no logs is empty")


@check()
async def check_trim_upto(bench: Bench) -> None:
    """Trimming up to a sequence removes it and all before it, and raises the floor."""
    await bench.log("a", "b")
    await bench.write("a", *range(1, 6))
    await bench.write("b", 1)
    same(await bench.store.trim("a"), 0, "without a bound nothing goes")
    same(await bench.store.trim("a", upto=2), 2, "trim counts what went")
    page = await bench.store.read("a", after=0, limit=10)
    same([stored.sequence for stored in page.messages], [3, 4, 5], "what is newer stays")
    same((page.floor, page.last), (2, 5), "the floor tells what went")
    same(await bench.store.trim("a", upto=1), 0, "what went before does not go again")
    same(await bench.store.trim("a", upto=99), 3, "a bound beyond the end clears the log")
    page = await bench.store.read("a", after=0, limit=10)
    same((page.messages, page.floor, page.last), ([], 5, 5), "a cleared log keeps its end")
    same(await bench.values("b"), [1], "other logs keep theirs")


@check()
async def check_trim_of_what_was_removed(bench: Bench) -> None:
    """The floor rises to the bound even if nothing was left below it."""
    await bench.log("a")
    placed = await bench.write("a", *range(1, 6))
    await bench.store.remove("a", [place.id for place in placed[1:3]])
    same(await bench.store.trim("a", upto=3), 1, "only what was there counts")
    same((await bench.store.read("a", after=0, limit=9)).floor, 3, "the floor is the bound")
    await bench.store.remove("a", [placed[3].id])
    same(await bench.store.trim("a", upto=4), 0, "nothing was there")
    same((await bench.store.read("a", after=0, limit=9)).floor, 4, "the floor is the bound all the same")


@check()
async def check_trim_by_count_and_bytes(bench: Bench) -> None:
    """Trimming by count or bytes keeps the newest that fit."""
    await bench.log("a")
    for _ in range(6):
        await bench.store.append([draft("a", body=b"x" * 90, headers=b"h" * 10, type="bytes")])
    same(await bench.store.trim("a", max_count=6), 0, "a log within its bounds stays as it is")
    same(await bench.store.trim("a", max_count=4), 2, "what is over the count goes")
    same(await bench.store.trim("a", max_bytes=400, max_count=4), 0, "exactly as much as allowed may stay")
    same(await bench.store.trim("a", max_bytes=399, max_count=4), 1, "contents and headers count as bytes")
    page = await bench.store.read("a", after=0, limit=10)
    same([stored.sequence for stored in page.messages], [4, 5, 6], "the newest stay")
    same(page.floor, 3, "the floor tells what went")
    same(await bench.store.trim("a", max_bytes=99), 3, "a message over the bound goes as well")


@check(clock=True)
async def check_trim_by_age_and_locate(bench: Bench) -> None:
    """Age and times go by when the store took the messages, not by what their writers say."""
    await bench.log("a")
    start = bench.clock.time()
    for number in range(1, 5):
        await bench.write("a", number)
        bench.clock.advance(10)
    same(
        await bench.values("a", after=await bench.store.locate("a", start - 99)),
        [1, 2, 3, 4],
        "all since then",
    )
    same(await bench.values("a", after=await bench.store.locate("a", start + 15)), [3, 4], "those since then")
    same(await bench.store.locate("a", start + 99), 4, "nothing since then")
    same(await bench.store.trim("a", older_than=start + 15), 2, "older ones go")
    same(await bench.values("a"), [3, 4], "newer ones stay")
    same(
        await bench.values("a", after=await bench.store.locate("a", start)), [3, 4], "a time before the floor"
    )


@check(clock=True)
async def check_times_never_go_back(bench: Bench) -> None:
    """When the wall clock steps back, the store's own time stands still, so its order holds."""
    await bench.log("a")
    start = bench.clock.time()
    await bench.write("a", 1)
    bench.clock.set_time(start - 3600)
    await bench.write("a", 2)
    same(await bench.values("a", after=await bench.store.locate("a", start - 1)), [1, 2], "time stands still")
    same(await bench.store.trim("a", older_than=start - 1), 0, "nothing became old by the step")


@check(ByID)
async def check_find_and_remove(bench: Bench) -> None:
    """A message is found by its id until it is removed."""
    await bench.log("a", "b")
    placed = await bench.write("a", 1, 2, 3)
    found = await bench.store.find("a", placed[1].id)
    assert found is not None, "a message is found by its id"
    same(found.sequence, 2, "the right message is found")
    same(await bench.store.find("b", placed[1].id), None, "another log does not hold it")
    same(await bench.store.find("nobody", placed[1].id), None, "an unknown log does not hold it")
    same(
        await bench.store.remove("a", [placed[1].id, "nothing", placed[1].id]),
        1,
        "remove counts what was there",
    )
    same(await bench.store.find("a", placed[1].id), None, "a removed message is gone")
    same(await bench.values("a"), [1, 3], "its neighbours stay")
    same((await bench.store.read("a", after=0, limit=1)).floor, 0, "remove is no retention")


@check()
async def check_many_writers(bench: Bench) -> None:
    """Batches of many tasks neither mix nor leave gaps."""
    await bench.log("a")

    async def writer(name: int) -> None:
        for _ in range(5):
            await bench.write("a", *[name] * 3)

    await asyncio.gather(*(writer(name) for name in range(10)))
    page = await bench.store.read("a", after=0, limit=1000)
    same([stored.sequence for stored in page.messages], list(range(1, 151)), "no gap and no double")
    values = await bench.values("a")
    assert all(len(set(values[start : start + 3])) == 1 for start in range(0, 150, 3)), (
        "a batch stays together"
    )


@check()
async def check_cancelled_append(bench: Bench) -> None:
    """A cancelled append is there as a whole when the cancellation arrives, or never."""
    await bench.log("a")
    for steps in range(25):
        task = asyncio.create_task(bench.write("a", "cancelled", "cancelled"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        before = (await bench.store.last(["a"]))["a"]
        assert task.cancelled() or before >= 2, "an append that returned is there"
        # If the cancelled one came later, it would take a place before this one.
        placed = await bench.write("a", "after")
        same(placed[0].sequence, before + 1, f"nothing comes late (cancelled after {steps} steps)")
    values = await bench.values("a")
    assert values.count("cancelled") % 2 == 0, "a cancelled batch is whole"


@check()
async def check_dead_letter_companion(bench: Bench) -> None:
    """A channel's dead letters are a plain log that comes and goes with it and is not listed."""
    await bench.log("a")
    await bench.write("a!dead", 1, id="one")
    same(await bench.values("a!dead"), [1], "dead letters can be written and read")
    same(await bench.store.declare("a!dead", Kind.LOG), Kind.LOG, "declaring them again is allowed")
    same([info.name for info in await bench.store.logs()], ["a"], "names with ! are not listed")
    listed = [(info.name, info.count) for info in await bench.store.logs("a!")]
    same(listed, [("a!dead", 1)], "unless the prefix asks for them")
    await bench.store.drop("a")
    await bench.log("a")
    same(await bench.values("a!dead"), [], "they are dropped with their channel")
