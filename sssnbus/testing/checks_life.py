"""What every store promises of its own life, and of what is there when it is opened again."""

import asyncio

from sssnbus.errors import ClosedError, NotStarted, WrongLoop
from sssnbus.stored import Dedupe, Stored
from sssnbus.stores.base import Ack, Counts, Fencing, Kind, OrderedIDs, QueueStore, Records, Release
from sssnbus.testing.bench import PATIENCE, AnyStore, Bench, check, draft, refused, same, value


@check()
async def check_use_before_open(bench: Bench) -> None:
    """A store is made without a place being touched, and refuses work before it is opened."""
    store = bench.new()
    with refused(NotStarted, "declare before open"):
        await store.declare("a", Kind.LOG)
    with refused(NotStarted, "read before open"):
        await store.read("a", after=0, limit=1)
    await store.aclose()


@check()
async def check_use_after_close(bench: Bench) -> None:
    """A closed store refuses work and can be closed again."""
    await bench.log("a")
    await bench.store.aclose()
    await bench.store.aclose()
    for verb in ("append", "read", "open"):
        with refused(ClosedError, f"{verb} after close"):
            if verb == "append":
                await bench.write("a", 1)
            elif verb == "read":
                await bench.store.read("a", after=0, limit=1)
            else:
                await bench.store.open()


@check()
async def check_open_and_close_at_once(bench: Bench) -> None:
    """Opening an open store does nothing; many may close it at once."""
    await bench.log("a")
    await bench.write("a", 1)
    await bench.store.open()
    same(await bench.values("a"), [1], "opening again loses nothing")
    await asyncio.gather(*(bench.store.aclose() for _ in range(3)))


@check()
async def check_closing_while_opening(bench: Bench) -> None:
    """A store that is closed while it opens ends closed."""
    store = bench.new()
    opening = asyncio.create_task(store.open())
    await asyncio.sleep(0)
    await store.aclose()
    (refusal,) = await asyncio.gather(opening, return_exceptions=True)
    if not isinstance(refusal, ClosedError | None):
        raise refusal
    with refused(ClosedError, "use of a store that was closed while it opened"):
        await store.declare("a", Kind.LOG)


@check()
async def check_another_loop(bench: Bench) -> None:
    """An open store refuses work from another event loop and goes on in its own."""
    await bench.log("a")

    async def elsewhere() -> None:
        with refused(WrongLoop, "use in another loop"):
            await bench.write("a", 1)

    await asyncio.to_thread(asyncio.run, elsewhere())
    await bench.write("a", 2)
    same(await bench.values("a"), [2], "the refused one left nothing")


@check()
async def check_ending_loop(bench: Bench) -> None:
    """When a loop ends, which cancels every task, nobody who waits for a verb is left waiting."""
    await bench.log("a")
    for turns in range(8):
        others = asyncio.all_tasks()
        store = bench.new()
        await store.open()
        await store.declare("a", Kind.LOG)

        async def write(store: AnyStore = store) -> None:
            while True:
                await store.append([draft("a", 1)])
                # A store in memory may need no turn of the loop for its verbs.
                await asyncio.sleep(0)

        writers = [asyncio.create_task(write()) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - others:
            task.cancel()
        _, left = await asyncio.wait(writers, timeout=PATIENCE / 3)
        same(len(left), 0, "a cancelled verb ends although the tasks of its store were cancelled too")
        await store.aclose(1.0)


@check()
async def check_description(bench: Bench) -> None:
    """A store says where it is and what its messages survive."""
    assert "://" in bench.store.url, "a store has a URL"
    assert bench.store.durability in ("none", "process", "disk"), "durability is one of three words"


@check(Records, shared=True)
async def check_reopened_log(bench: Bench) -> None:
    """Messages, places, ids, dedupe keys and records are there when the store is opened again."""
    await bench.log("a")
    placed = await bench.write("a", 1, 2, 3)
    await bench.write("a", 4, dedupe=Dedupe("k", b"d", 3600.0))
    await bench.store.trim("a", upto=1)
    version = await bench.store.put("s", "x", b"kept", version=None)
    before = await bench.store.read("a", after=0, limit=9)
    await bench.reopen()
    same(await bench.store.read("a", after=0, limit=9), before, "the log is as it was")
    same((await bench.write("a", 4, dedupe=Dedupe("k", b"d", 3600.0)))[0].duplicate, True, "keys are kept")
    after = await bench.write("a", 5)
    same(after[0].sequence, 5, "sequences go on")
    assert after[0].id > placed[-1].id, "ids go on"
    same(await bench.store.get("s", "x"), (b"kept", version), "records are kept")
    same(await bench.store.declare("a", Kind.QUEUE), Kind.LOG, "kinds are kept")


@check(shared=True, clock=True)
async def check_ids_rise_over_a_reopening(bench: Bench) -> None:
    """Ids rise even if the clock stepped back while the store was closed, and all messages are gone."""
    await bench.log("a")
    first = (await bench.write("a", 1))[0]
    await bench.store.remove("a", [first.id])
    bench.clock.set_time(bench.clock.time() - 3600)
    await bench.reopen()
    second = (await bench.write("a", 2))[0]
    assert second.id > first.id, "ids never go back"
    same(second.sequence, 2, "sequences are not reused")


@check(QueueStore, shared=True)
async def check_reopened_queue(bench: Bench) -> None:
    """States, attempts and errors of a queue are there when the store is opened again."""
    await bench.queue("q")
    await bench.write("q", 1, 2, 3)
    await bench.write("q", 4, priority=1, due=bench.clock.time() * 2)
    failed, done = await bench.take("q", 2)
    await bench.store.settle("q", [Release(failed.stored.sequence, failed.token, error="boom")])
    await bench.store.settle("q", [Ack(done.stored.sequence, done.token, keep=True)])
    await bench.reopen()
    same(await bench.store.counts("q"), Counts(ready=2, delayed=1, done=1), "states are kept")
    lease = await bench.one("q")
    same((value(lease.stored), lease.attempt, lease.error), (1, 2, "boom"), "the past is kept")


@check(QueueStore, Fencing, shared=True)
async def check_closing_gives_back(bench: Bench) -> None:
    """Closing a store gives back what it renewed, uncounted; its old tokens are stale."""
    await bench.queue("q")
    await bench.write("q", 1)
    held = await bench.one("q", lease=3600)
    await bench.reopen()
    again = await bench.one("q")
    same(
        (value(again.stored), again.attempt), (1, 1), "it is free at once, as if it had never been handed out"
    )
    same(
        await bench.store.settle("q", [Ack(held.stored.sequence, held.token)]),
        [False],
        "the old token is stale",
    )


@check(QueueStore, shared=True, clock=True)
async def check_closing_keeps_timed_leases(bench: Bench) -> None:
    """A lease that only time ends outlives its store, and can be settled from another one."""
    await bench.queue("q")
    await bench.write("q", 1, 2)
    held = await bench.one("q", lease=30, renew=False)
    await bench.one("q", lease=30, renew=False)
    await bench.reopen()
    same(await bench.claimed("q"), [], "they are still held")
    same(await bench.store.settle("q", [Ack(held.stored.sequence, held.token)]), [True], "the token is good")
    bench.clock.advance(31)
    same(await bench.claimed("q"), [2], "time ends the other one")


@check(QueueStore, Records, shared=True)
async def check_two_stores(bench: Bench) -> None:
    """Two stores on one place are one: order, claims and names of owners hold between them."""
    other = await bench.another()
    await bench.queue("q")
    await bench.write("q", 1)
    same(await other.declare("q", Kind.LOG), Kind.QUEUE, "what one declares the other knows")
    assert bench.store.owner != other.owner, "each has a name of its own"
    same(await other.alive(bench.store.owner), True, "each knows that the other is open")
    mine = await bench.one("q")
    same((await other.claim("q", worker="w", lease=60)).leases, [], "what one holds the other cannot claim")
    await bench.write("q", 2)
    theirs = (await other.claim("q", worker="w", lease=60)).leases
    same([lease.stored.sequence for lease in theirs], [2], "places go on")
    await bench.store.settle("q", [Ack(1, mine.token)])
    await bench.store.aclose()
    same(await other.alive(bench.store.owner), False, "a closed store is not alive")
    same(await other.counts("q"), Counts(leased=1), "closing one leaves the other's leases")


@check(shared=True)
async def check_writers_of_two_stores(bench: Bench) -> None:
    """Writers of several stores at once make one log without gaps and doubles."""
    ids = [stored.id for stored in await _written_by_three(bench)]
    same(len(set(ids)), 120, "no two of them make the same id")


@check(OrderedIDs, shared=True)
async def check_ids_of_two_stores(bench: Bench) -> None:
    """Ids rise with the places, whoever writes."""
    ids = [stored.id for stored in await _written_by_three(bench)]
    same(ids, sorted(set(ids)), "ids rise with the places")


async def _written_by_three(bench: Bench) -> list[Stored]:
    stores = [bench.store, await bench.another(), await bench.another()]
    await bench.log("a")
    original = bench.store

    async def writer(number: int) -> None:
        for _ in range(10):
            bench.store = stores[number % len(stores)]
            await bench.write("a", number, number)

    await asyncio.gather(*(writer(number) for number in range(6)))
    bench.store = original
    page = await bench.store.read("a", after=0, limit=999)
    same([stored.sequence for stored in page.messages], list(range(1, 121)), "no gap and no double")
    return page.messages
