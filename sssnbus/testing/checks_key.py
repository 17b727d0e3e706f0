"""What stores promise of ordering keys: one message of a key at a time, oldest first."""

from sssnbus.stores.base import (
    DEAD,
    Ack,
    Bury,
    Lease,
    OrderingKey,
    QueueStore,
    Release,
    Selection,
    SelectiveClaim,
)
from sssnbus.testing.bench import Bench, check, draft, same, value


@check(QueueStore, OrderingKey)
async def check_one_of_a_key(bench: Bench) -> None:
    """Only the oldest message of a key is ready; keys do not wait for each other."""
    await _lines(bench)
    same(
        [value(stored) for stored in await bench.store.peek("q", limit=9)],
        ["a1", "b1", "none"],
        "heads are shown",
    )
    same(await bench.claimed("q"), ["a1", "b1", "none"], "heads are handed out")
    same(await bench.claimed("q"), [], "the rest waits for them")
    counts = await bench.store.counts("q")
    same((counts.ready, counts.leased), (3, 3), "those that wait count as ready")


@check(QueueStore, OrderingKey)
async def check_next_of_a_key(bench: Bench) -> None:
    """Whatever ends the head of a key makes the next one ready: ack, done, bury, remove, trim."""
    await bench.queue("q")
    for number in range(6):
        await bench.write("q", number, key="k")
    lease = await _only(bench, 0)
    await bench.store.settle("q", [Ack(lease.stored.sequence, lease.token)])
    lease = await _only(bench, 1)
    await bench.store.settle("q", [Ack(lease.stored.sequence, lease.token, keep=True)])
    lease = await _only(bench, 2)
    letter = draft("q" + DEAD, 2, id=lease.stored.id)
    await bench.store.settle("q", [Bury(lease.stored.sequence, lease.token, letter)])
    lease = await _only(bench, 3)
    await bench.store.remove("q", [lease.stored.id])
    lease = await _only(bench, 4)
    await bench.store.trim("q", upto=lease.stored.sequence)
    await _only(bench, 5)


@check(QueueStore, OrderingKey, clock=True)
async def check_released_head(bench: Bench) -> None:
    """A released head stays the head; while it backs off its key waits with it, and other keys do not."""
    await _lines(bench)
    leases = await bench.take("q", 9)
    await bench.store.settle("q", [Release(leases[0].stored.sequence, leases[0].token)])
    lease = await _only(bench, "a1")
    await bench.store.settle("q", [Release(lease.stored.sequence, lease.token, delay=30)])
    await bench.store.settle("q", [Ack(leases[1].stored.sequence, leases[1].token)])
    await _only(bench, "b2")
    bench.clock.advance(31)
    lease = await _only(bench, "a1")
    await bench.store.settle("q", [Ack(lease.stored.sequence, lease.token)])
    await _only(bench, "a2")


@check(QueueStore, OrderingKey, clock=True)
async def check_expired_head(bench: Bench) -> None:
    """When the lease of a head ends by time, the head comes again, before the next of its key."""
    await bench.queue("q")
    await bench.write("q", 1, key="k")
    await bench.write("q", 2, key="k")
    await bench.one("q", lease=30, renew=False)
    bench.clock.advance(31)
    same(await bench.claimed("q"), [1], "the head comes again")


@check(QueueStore, OrderingKey)
async def check_gap_in_a_key(bench: Bench) -> None:
    """Removing one that waits does not disturb its key."""
    await bench.queue("q")
    ids = [(await bench.write("q", number, key="k"))[0].id for number in range(4)]
    await bench.store.remove("q", [ids[1]])
    lease = await _only(bench, 0)
    await bench.store.remove("q", [ids[2]])
    same(await bench.claimed("q"), [], "the head still holds its key")
    await bench.store.settle("q", [Ack(lease.stored.sequence, lease.token)])
    await _only(bench, 3)
    await bench.store.remove("q", [ids[3]])
    await bench.write("q", 4, key="k")
    await _only(bench, 4)


@check(QueueStore, OrderingKey)
async def check_transferred_head(bench: Bench) -> None:
    """Only heads can be moved; the next of the key is ready then; the moved one lines up in its target."""
    await _lines(bench)
    await bench.queue("other")
    await bench.write("other", "a0", key="a")
    moved = await bench.store.transfer("q", "other", limit=9)
    same([value(stored) for stored in moved], ["a1", "b1", "none"], "those that are ready move")
    same(await bench.claimed("q"), ["a2", "b2"], "the next ones are ready")
    same(await bench.claimed("other"), ["a0", "b1", "none"], "in the target a key has one line")


@check(QueueStore, OrderingKey, SelectiveClaim)
async def check_waiting_cannot_be_selected(bench: Bench) -> None:
    """Not even by its id can a message be claimed before its turn."""
    await bench.queue("q")
    ids = [(await bench.write("q", number, key="k"))[0].id for number in range(2)]
    claimed = await bench.store.claim("q", worker="w", lease=60, limit=9, select=Selection(ids=(ids[1],)))
    same(claimed.leases, [], "it is not its turn")
    same(
        await bench.store.transfer("q", "q" + DEAD, limit=9, select=Selection(ids=(ids[1],))), [], "nor moved"
    )
    await _only(bench, 0)


async def _lines(bench: Bench) -> None:
    await bench.queue("q")
    for text, key in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("none", None), ("b2", "b")):
        await bench.write("q", text, key=key)


async def _only(bench: Bench, expected: object) -> Lease:
    leases = await bench.take("q", 9)
    same([value(lease.stored) for lease in leases], [expected], "this one, and only this one, is ready")
    return leases[0]
