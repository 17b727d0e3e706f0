"""What every store promises of a queue: who gets what, when, and how often."""

import asyncio

from sssnbus.errors import ChannelKindMismatch, QueueFull
from sssnbus.stores.base import (
    Ack,
    AtomicBatch,
    Counts,
    Delay,
    Priority,
    QueueStore,
    Release,
)
from sssnbus.testing.bench import Bench, check, draft, refused, same, value


@check(QueueStore)
async def check_claim_order(bench: Bench) -> None:
    """Messages are handed out in the order in which they came, each to one claim."""
    await bench.queue("q")
    await bench.write("q", 1, 2, 3, 4, 5)
    same(await bench.claimed("q", 2), [1, 2], "the oldest come first")
    same(await bench.claimed("q", 10), [3, 4, 5], "what is leased is not handed out again")
    empty = await bench.store.claim("q", worker="w", lease=60)
    same(empty.leases, [], "an empty queue gives nothing")


@check(QueueStore)
async def check_leases_tell_the_message(bench: Bench) -> None:
    """A lease carries the message as a read shows it, attempt 1, and a token of its own."""
    await bench.queue("q")
    await bench.write("q", 1, 2, topic="t", headers=b"{}")
    leases = await bench.take("q", 2)
    page = await bench.store.read("q", after=0, limit=10)
    same([lease.stored for lease in leases], page.messages, "a lease shows the stored message")
    same([(lease.attempt, lease.error) for lease in leases], [(1, None)] * 2, "it is the first attempt")
    assert leases[0].token != leases[1].token, "every lease has a token of its own"


@check(QueueStore, Priority)
async def check_priority(bench: Bench) -> None:
    """A higher priority comes first; equal ones by age."""
    await bench.queue("q")
    for name, priority in (("a", 0), ("b", 9), ("c", -1), ("d", 9), ("e", 0)):
        await bench.write("q", name, priority=priority)
    same(await bench.claimed("q"), ["b", "d", "a", "e", "c"], "priority, then age")


@check(QueueStore, Delay, clock=True)
async def check_due_messages(bench: Bench) -> None:
    """A message with a due time is delayed until then, and the wait is told."""
    await bench.queue("q")
    now = bench.clock.time()
    await bench.write("q", "later", due=now + 60)
    await bench.write("q", "sooner", due=now + 30)
    await bench.write("q", "past", due=now - 30)
    same(await bench.store.counts("q"), Counts(ready=1, delayed=2), "delayed ones are counted apart")
    claimed = await bench.store.claim("q", worker="w", lease=60, limit=10)
    same([value(lease.stored) for lease in claimed.leases], ["past"], "what is due already is ready")
    assert claimed.next_due is not None, "the wait for the next is told"
    assert 29 <= claimed.next_due <= 30, f"the next is due in 30 seconds, not {claimed.next_due}"
    bench.clock.advance(31)
    same(await bench.claimed("q"), ["sooner"], "it is ready when its time has come")
    bench.clock.advance(30)
    same(await bench.claimed("q"), ["later"], "and so is the other one")


@check(QueueStore)
async def check_nothing_due(bench: Bench) -> None:
    """When nothing becomes ready by time, no wait is told."""
    await bench.queue("q")
    same(
        (await bench.store.claim("q", worker="w", lease=60)).next_due,
        None,
        "an empty queue waits for writers",
    )
    await bench.write("q", 1)
    claimed = await bench.store.claim("q", worker="w", lease=60, limit=0)
    same((claimed.leases, claimed.next_due), ([], None), "what is ready now is not due later")


@check(QueueStore)
async def check_ack_removes(bench: Bench) -> None:
    """An acknowledged message is gone for good."""
    await bench.queue("q")
    await bench.write("q", 1, 2)
    lease = await bench.one("q")
    settled = await bench.store.settle("q", [Ack(lease.stored.sequence, lease.token)])
    same(settled, [True], "a good token settles")
    same(await bench.values("q"), [2], "the message is gone")
    same(await bench.store.counts("q"), Counts(ready=1), "it counts nowhere")


@check(QueueStore)
async def check_done_until_vacuum(bench: Bench) -> None:
    """An ack that keeps leaves the message done: counted and readable, not claimable, gone with vacuum."""
    await bench.queue("q", "other")
    await bench.write("q", 1, 2, 3)
    await bench.write("other", 1)
    for name in ("q", "q", "other"):
        lease = await bench.one(name)
        await bench.store.settle(name, [Ack(lease.stored.sequence, lease.token, keep=True)])
    same(await bench.store.counts("q"), Counts(ready=1, done=2), "done ones are counted")
    same(await bench.values("q"), [1, 2, 3], "done ones can be read")
    same([value(stored) for stored in await bench.store.peek("q", limit=10)], [3], "done ones are not ready")
    same(await bench.store.vacuum("q"), 2, "vacuum counts what went")
    same(await bench.store.counts("q"), Counts(ready=1), "vacuum takes the done ones only")
    same(await bench.store.vacuum(), 1, "vacuum without a name is for all")
    same(await bench.store.vacuum(), 0, "then there is nothing left")
    same(await bench.claimed("q"), [3], "what is ready stays")


@check(QueueStore)
async def check_release(bench: Bench) -> None:
    """A released message is ready at its old place, with its attempts and the error counted or not."""
    await bench.queue("q")
    await bench.write("q", 1, 2)
    lease = await bench.one("q")
    await bench.store.settle("q", [Release(lease.stored.sequence, lease.token, error="boom")])
    again = await bench.one("q")
    same(value(again.stored), 1, "it is the oldest again")
    same((again.attempt, again.error), (2, "boom"), "a counted release counts")
    assert again.token != lease.token, "a new lease has a new token"
    await bench.store.settle("q", [Release(again.stored.sequence, again.token, counted=False)])
    third = await bench.one("q")
    same((third.attempt, third.error), (2, "boom"), "an uncounted release takes back the attempt only")


@check(QueueStore, Delay, clock=True)
async def check_release_with_delay(bench: Bench) -> None:
    """A message released with a delay is not ready before it has passed."""
    await bench.queue("q")
    await bench.write("q", 1)
    lease = await bench.one("q")
    await bench.store.settle("q", [Release(lease.stored.sequence, lease.token, delay=30)])
    same(await bench.store.counts("q"), Counts(delayed=1), "it counts as delayed")
    claimed = await bench.store.claim("q", worker="w", lease=60)
    same(claimed.leases, [], "it is not ready yet")
    assert claimed.next_due is not None, "the wait is told"
    assert 29 <= claimed.next_due <= 30, f"it is due in 30 seconds, not {claimed.next_due}"
    bench.clock.advance(31)
    same((await bench.one("q")).attempt, 2, "it is ready after the delay")


@check(QueueStore)
async def check_counts(bench: Bench) -> None:
    """Every message is counted in the state it is in."""
    await bench.queue("q")
    same(await bench.store.counts("nobody"), Counts(), "an unknown queue counts nothing")
    await bench.write("q", 1, 2, 3, 4)
    await bench.write("q", 5, due=bench.clock.time() * 2)
    leases = await bench.take("q", 2)
    await bench.store.settle("q", [Ack(leases[0].stored.sequence, leases[0].token, keep=True)])
    same(await bench.store.counts("q"), Counts(ready=2, delayed=1, leased=1, done=1), "each in its state")


@check(QueueStore)
async def check_peek(bench: Bench) -> None:
    """Peeking shows ready messages by age and changes nothing."""
    await bench.queue("q")
    await bench.write("q", 1, 2)
    await bench.write("q", 3, priority=5)
    same(
        [value(stored) for stored in await bench.store.peek("q", limit=2)],
        [1, 2],
        "the oldest, whatever first",
    )
    await bench.one("q")
    same(
        [value(stored) for stored in await bench.store.peek("q", limit=9)],
        [1, 2],
        "what is leased is not shown",
    )
    same(await bench.store.peek("nobody", limit=9), [], "an unknown queue shows nothing")
    same((await bench.one("q")).attempt, 1, "a peek is no attempt")


@check(QueueStore)
async def check_max_depth(bench: Bench) -> None:
    """An append that would overfill a queue is refused as a whole; done messages do not count."""
    await bench.queue("q")
    depth = {"q": 3}
    await bench.store.append([draft("q", 1), draft("q", 2, due=bench.clock.time() * 2)], max_depth=depth)
    with refused(QueueFull, "a batch that does not fit"):
        await bench.store.append([draft("q", 3), draft("q", 4)], max_depth=depth)
    same(await bench.values("q"), [1, 2], "nothing of it is stored")
    await bench.store.append([draft("q", 3, id="three")], max_depth=depth)
    lease = await bench.one("q")
    with refused(QueueFull, "leased and delayed messages count"):
        await bench.store.append([draft("q", 4)], max_depth=depth)
    again = await bench.store.append([draft("q", 3, id="three")], max_depth=depth)
    same(again[0].duplicate, True, "a retry of what is stored fits into a full queue")
    again = await bench.store.append([draft("q", 3, id="three")], max_depth={"q": 1})
    same(again[0].duplicate, True, "and into one that is over its limit")
    await bench.store.settle("q", [Ack(lease.stored.sequence, lease.token, keep=True)])
    await bench.store.append([draft("q", 4)], max_depth=depth)
    same(await bench.store.counts("q"), Counts(ready=2, delayed=1, done=1), "a done message makes room")


@check(QueueStore, AtomicBatch)
async def check_full_queue_refuses_whole_batch(bench: Bench) -> None:
    """If one queue of a batch is full, no log gets anything."""
    await bench.queue("q")
    await bench.log("a")
    await bench.write("q", 1)
    with refused(QueueFull, "one of the queues is full"):
        await bench.store.append([draft("a", 1), draft("q", 2)], max_depth={"q": 1})
    same(await bench.values("a"), [], "nothing is there by half")
    same((await bench.write("a", 1))[0].sequence, 1, "a refused batch takes no place")


@check(QueueStore)
async def check_plain_logs_are_no_queues(bench: Bench) -> None:
    """Claiming from a plain log is refused; claiming from an unknown one finds nothing."""
    await bench.log("a")
    await bench.write("a", 1)
    with refused(ChannelKindMismatch, "a claim on a plain log"):
        await bench.one("a")
    claimed = await bench.store.claim("nobody", worker="w", lease=60)
    same((claimed.leases, claimed.next_due), ([], None), "an unknown queue is empty")
    same(await bench.store.settle("nobody", [Ack(1, "x")]), [False], "an unknown queue holds no lease")
    same(await bench.store.extend("nobody", [(1, "x")], 5), [False], "nothing can be extended there")


@check(QueueStore)
async def check_removing_from_a_queue(bench: Bench) -> None:
    """Messages go in whatever state they are, and their leases with them."""
    await bench.queue("q")
    placed = await bench.write("q", 1, 2, 3, 4)
    leases = await bench.take("q", 2)
    await bench.store.settle("q", [Ack(leases[0].stored.sequence, leases[0].token, keep=True)])
    same(
        await bench.store.remove("q", [place.id for place in placed[:3]]), 3, "done, leased and ready ones go"
    )
    settled = await bench.store.settle("q", [Release(leases[1].stored.sequence, leases[1].token)])
    same(settled, [False], "the lease of a removed message is stale")
    same(await bench.store.counts("q"), Counts(ready=1), "they count nowhere")
    same(await bench.claimed("q"), [4], "the others stay")
    same(await bench.store.trim("q", upto=4), 1, "trimming takes leased ones as well")
    same(await bench.store.counts("q"), Counts(), "nothing is left")


@check(QueueStore)
async def check_many_workers(bench: Bench) -> None:
    """Many workers at once get each message once."""
    await bench.queue("q")
    await bench.write("q", *range(60))
    done: list[object] = []

    async def worker() -> None:
        while leases := await bench.take("q", 3):
            settled = await bench.store.settle(
                "q", [Ack(lease.stored.sequence, lease.token) for lease in leases]
            )
            same(settled, [True] * len(leases), "what a worker holds it can settle")
            done.extend(value(lease.stored) for lease in leases)

    await asyncio.gather(*(worker() for _ in range(8)))
    same(sorted(str(item) for item in done), sorted(str(item) for item in range(60)), "each once")
    same(await bench.store.counts("q"), Counts(), "nothing is left")


@check(QueueStore)
async def check_cancelled_claim_and_settle(bench: Bench) -> None:
    """A cancelled claim or settle has happened when the cancellation arrives, or never happens."""
    await bench.queue("q")
    for steps in range(25):
        await bench.write("q", 1)
        claiming = asyncio.create_task(bench.one("q"))
        await _cancel_after(claiming, steps)
        before = await bench.store.counts("q")
        if before.ready:
            lease = await bench.one("q")
        elif not claiming.cancelled():
            lease = claiming.result()
        else:
            # It was applied as a whole, but nobody knows the token.
            same(before, Counts(leased=1), "a claim is applied whole or not")
            await bench.store.trim("q", upto=2**53)
            continue
        settling = asyncio.create_task(bench.store.settle("q", [Ack(lease.stored.sequence, lease.token)]))
        await _cancel_after(settling, steps)
        left = await bench.store.counts("q")
        assert left in (Counts(), Counts(leased=1)), f"a settle is applied whole or not, and left {left}"
        again = await bench.store.settle("q", [Ack(lease.stored.sequence, lease.token)])
        same(again, [left == Counts(leased=1)], f"nothing comes late (cancelled after {steps} steps)")


async def _cancel_after(task: "asyncio.Task[object]", steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
