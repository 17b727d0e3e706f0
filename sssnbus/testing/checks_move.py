"""What stores promise of moving messages from log to log."""

from sssnbus.errors import MessageConflict, NotStarted
from sssnbus.stores.base import DEAD, Ack, Bury, Counts, QueueStore, Release, Selection, SelectiveClaim
from sssnbus.testing.bench import Bench, check, draft, refused, same, value


@check(QueueStore)
async def check_transfer(bench: Bench) -> None:
    """Ready messages move to the end of another queue, oldest first, with their ids and no past."""
    await bench.queue("q", "r")
    await bench.write("r", "r1")
    placed = await bench.write("q", 1, 2, 3, 4, topic="t", priority=2)
    lease = await bench.one("q")
    await bench.store.settle("q", [Release(1, lease.token, error="boom")])
    moved = await bench.store.transfer("q", "r", limit=2)
    same([stored.id for stored in moved], [place.id for place in placed[:2]], "the oldest keep their ids")
    same([stored.sequence for stored in moved], [2, 3], "they stand at the end of the target")
    same(moved, (await bench.store.read("r", after=1, limit=9)).messages, "they are told as they stand there")
    same([(stored.topic, stored.priority) for stored in moved], [("t", 2)] * 2, "all else is kept")
    same(await bench.values("q"), [3, 4], "the source holds them no more")
    leases = await bench.take("r", 9)
    same([value(lease.stored) for lease in leases], [1, 2, "r1"], "they are ready")
    same([(lease.attempt, lease.error) for lease in leases], [(1, None)] * 3, "their past is forgotten")
    same((await bench.write("q", 5))[0].sequence, 5, "the source counts on")


@check(QueueStore, clock=True)
async def check_transfer_takes_ready_ones(bench: Bench) -> None:
    """Leased, delayed and done messages stay; done ones move when their ids are given."""
    await bench.queue("q", "r")
    now = bench.clock.time()
    ids = [place.id for place in await bench.write("q", "done", "leased", "ready")]
    ids += [place.id for place in await bench.write("q", "delayed", due=now + 60)]
    done, _ = await bench.take("q", 2)
    await bench.store.settle("q", [Ack(done.stored.sequence, done.token, keep=True)])
    moved = await bench.store.transfer("q", "r", limit=9)
    same([value(stored) for stored in moved], ["ready"], "only ready ones move")
    moved = await bench.store.transfer("q", "r", limit=9, select=Selection(ids=tuple(ids)))
    same([value(stored) for stored in moved], ["done"], "by their ids done ones move as well")
    same(await bench.claimed("r"), ["ready", "done"], "in the target they are ready")
    same(await bench.store.counts("q"), Counts(delayed=1, leased=1), "the others stay as they are")
    bench.clock.advance(61)
    same([value(stored) for stored in await bench.store.transfer("q", "r", limit=9)], ["delayed"], "in time")


@check(QueueStore)
async def check_transfer_to_and_from_logs(bench: Bench) -> None:
    """A queue's messages can move into a plain log, and everything of a plain log into a queue."""
    await bench.queue("q")
    await bench.log("a")
    await bench.write("q", 1, 2)
    await bench.write("a", 0)
    same(len(await bench.store.transfer("q", "a", limit=9)), 2, "they move into the log")
    same(await bench.values("a"), [0, 1, 2], "the log holds them at its end")
    same(len(await bench.store.transfer("a", "q", limit=2)), 2, "they move out of the log")
    same(await bench.claimed("q"), [0, 1], "the queue hands them out")
    same(await bench.values("a"), [2], "the log holds the rest")
    same((await bench.store.read("a", after=0, limit=9)).floor, 0, "a move is no retention")
    same(await bench.store.transfer("nobody", "a", limit=9), [], "nothing moves from an unknown log")
    with refused(NotStarted, "a move to a log that nobody declared"):
        await bench.store.transfer("a", "nobody", limit=9)
    same(await bench.values("a"), [2], "a refused move moves nothing")


@check(QueueStore)
async def check_redrive(bench: Bench) -> None:
    """Dead letters move back into their queue and start anew."""
    await bench.queue("q")
    placed = await bench.write("q", 1, key="k")
    lease = await bench.one("q")
    letter = draft("q" + DEAD, 1, id=placed[0].id, key="k")
    await bench.store.settle("q", [Bury(1, lease.token, letter)])
    moved = await bench.store.transfer("q" + DEAD, "q", limit=9)
    same(
        [(stored.id, stored.sequence) for stored in moved],
        [(placed[0].id, 2)],
        "it is at the end of the queue",
    )
    same(await bench.values("q" + DEAD), [], "it is no dead letter any more")
    same((await bench.one("q")).attempt, 1, "its attempts start anew")


@check(QueueStore, SelectiveClaim)
async def check_transfer_of_a_selection(bench: Bench) -> None:
    """Ids and intervals select what moves, from queues and from logs."""
    await bench.queue("q", "r")
    await bench.log("a")
    for source in ("q", "a"):
        ids = [place.id for place in await bench.write(source, *range(6))]
        for select, expected in (
            (Selection(ids=(ids[4], ids[1], "unknown")), [1, 4]),
            (Selection(after=ids[0], before=ids[3]), [2]),
            (Selection(after=ids[5]), []),
        ):
            moved = await bench.store.transfer(source, "r", limit=9, select=select)
            same([value(stored) for stored in moved], expected, f"{select} selects from {source}")
        same(await bench.values(source), [0, 3, 5], "the others stay")


@check(QueueStore)
async def check_transfer_conflict(bench: Bench) -> None:
    """If the target holds another message under one of the ids, nothing moves; the same one stays there."""
    await bench.queue("q", "r")
    await bench.write("q", "new")
    await bench.write("q", "x", id="one")
    await bench.write("r", "y", id="one")
    with refused(MessageConflict, "another body under the same id"):
        await bench.store.transfer("q", "r", limit=9)
    same((await bench.values("q"), await bench.values("r")), (["new", "x"], ["y"]), "nothing moves by half")
    await bench.store.remove("r", ["one"])
    await bench.write("r", "x", id="one")
    moved = await bench.store.transfer("q", "r", limit=9)
    same([stored.sequence for stored in moved], [3, 2], "what is there already is told where it stands")
    same((await bench.values("q"), await bench.values("r")), ([], ["x", "new"]), "and is there once")
