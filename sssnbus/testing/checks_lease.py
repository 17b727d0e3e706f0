"""What every store promises of leases: how they end, and that a stale token changes nothing."""

import asyncio

from sssnbus.clock import SystemClock
from sssnbus.stores.base import DEAD, Ack, AtomicMove, Bury, Counts, Fencing, QueueStore, Release, Settlement
from sssnbus.testing.bench import Bench, check, draft, same, value


@check(QueueStore, clock=True)
async def check_lease_ends_by_time(bench: Bench) -> None:
    """A lease that is not renewed ends at its deadline; then anybody can claim, one attempt further."""
    await bench.queue("q")
    await bench.write("q", 1)
    first = await bench.store.claim("q", worker="one", lease=30, renew=False)
    same(first.leases[0].deadline, bench.clock.elapsed() + 30, "the deadline is told")
    empty = await bench.store.claim("q", worker="two", lease=30, renew=False)
    same(empty.leases, [], "it is held until then")
    assert empty.next_due is not None, "the wait is told"
    assert 29 <= empty.next_due <= 30, f"it is free in 30 seconds, not {empty.next_due}"
    bench.clock.advance(29)
    same(await bench.store.counts("q"), Counts(leased=1), "it is leased to the end")
    bench.clock.advance(2)
    same(await bench.store.counts("q"), Counts(ready=1), "it is ready after the end")
    same((await bench.one("q")).attempt, 2, "every hand-out is an attempt")


@check(QueueStore, clock=True)
async def check_wall_clock_ends_no_lease(bench: Bench) -> None:
    """A step of the wall clock neither ends a lease nor makes it longer."""
    await bench.queue("q")
    await bench.write("q", 1)
    await bench.one("q", lease=30, renew=False)
    bench.clock.set_time(bench.clock.time() + 3600)
    same(await bench.claimed("q"), [], "a step forward does not end it")
    bench.clock.set_time(bench.clock.time() - 7200)
    bench.clock.advance(31)
    same(await bench.claimed("q"), [1], "a step back does not make it longer")


@check(QueueStore)
async def check_lease_is_renewed(bench: Bench) -> None:
    """A lease that the store renews does not end while its store is open."""
    await bench.store.aclose()
    bench.store = store = await bench.another(SystemClock())
    await bench.queue("q")
    await bench.write("q", 1)
    held = await bench.one("q", lease=0.3)
    # Time itself is what is tested here: three leases go by on the real clock.
    await asyncio.sleep(0.9)
    same(await bench.claimed("q"), [], "the lease was renewed")
    same(await store.settle("q", [Ack(held.stored.sequence, held.token)]), [True], "its token is good")


@check(QueueStore, clock=True)
async def check_extend(bench: Bench) -> None:
    """Extending sets the end of a lease anew, counted from now, and ends the renewing."""
    await bench.queue("q")
    await bench.write("q", "timed", "renewed", "other")
    timed, renewed = await bench.one("q", lease=30, renew=False), await bench.one("q", lease=30)
    holds = [(lease.stored.sequence, lease.token) for lease in (timed, renewed)]
    bench.clock.advance(20)
    stale = (3, "no such token")
    same(
        await bench.store.extend("q", [holds[0], stale, holds[1]], 30),
        [True, False, True],
        "good ones are told",
    )
    bench.clock.advance(29)
    same(await bench.store.counts("q"), Counts(ready=1, leased=2), "the new end counts")
    bench.clock.advance(2)
    same(await bench.store.counts("q"), Counts(ready=3), "nothing renews them any more")
    same(await bench.store.extend("q", holds, 30), [False, False], "what has ended cannot be extended")
    same(await bench.store.counts("q"), Counts(ready=3), "and is not taken back")


@check(QueueStore, clock=True)
async def check_old_deadlines_are_forgotten(bench: Bench) -> None:
    """The end of a lease that was settled ends no later lease of that message, and frees no done one."""
    await bench.queue("q")
    await bench.write("q", "again", "done")
    again, done = await bench.take("q", 2, lease=30, renew=False)
    await bench.store.settle("q", [Release(again.stored.sequence, again.token)])
    await bench.store.settle("q", [Ack(done.stored.sequence, done.token, keep=True)])
    await bench.one("q", lease=90)
    bench.clock.advance(60)
    same(await bench.store.counts("q"), Counts(leased=1, done=1), "the old ends count no more")


@check(QueueStore, Fencing)
async def check_stale_tokens(bench: Bench) -> None:
    """A token settles once; then, and if it is wrong, nothing changes."""
    await bench.queue("q")
    await bench.write("q", 1)
    lease = await bench.one("q")
    sequence, token = lease.stored.sequence, lease.token
    await _none_is_good(bench, sequence, "wrong token")
    await _none_is_good(bench, sequence + 1, token)
    same(await bench.store.settle("q", [Release(sequence, token)] * 2), [True, False], "a token settles once")
    await _none_is_good(bench, sequence, token)
    await bench.one("q")
    await _none_is_good(bench, sequence, token)
    same(await bench.store.counts("q"), Counts(leased=1), "the next holder keeps it")


@check(QueueStore, Fencing, clock=True)
async def check_token_of_an_ended_lease(bench: Bench) -> None:
    """A token is stale from the moment its lease ends, whether or not somebody took the message."""
    await bench.queue("q")
    await bench.write("q", 1)
    late = await bench.one("q", lease=30, renew=False)
    bench.clock.advance(31)
    await _none_is_good(bench, late.stored.sequence, late.token)
    same(await bench.store.counts("q"), Counts(ready=1), "the message is free")
    await bench.one("q")
    await _none_is_good(bench, late.stored.sequence, late.token)
    same(await bench.store.counts("q"), Counts(leased=1), "the next holder keeps it")


@check(QueueStore)
async def check_settling_many(bench: Bench) -> None:
    """One call settles many leases in many ways, and answers in their order."""
    await bench.queue("q")
    await bench.write("q", *range(5))
    leases = await bench.take("q", 5)
    holds = [(lease.stored.sequence, lease.token) for lease in leases]
    settlements: list[Settlement] = [
        Ack(*holds[0]),
        Ack(holds[1][0], "wrong"),
        Ack(*holds[2], keep=True),
        Release(*holds[3]),
        Bury(*holds[4], draft("q" + DEAD, 4, id=leases[4].stored.id)),
    ]
    same(await bench.store.settle("q", settlements), [True, False, True, True, True], "each has an answer")
    same(await bench.store.counts("q"), Counts(ready=1, leased=1, done=1), "each is where it belongs")
    same(await bench.store.settle("q", []), [], "nothing in, nothing out")


@check(QueueStore, AtomicMove)
async def check_bury(bench: Bench) -> None:
    """A buried message is a dead letter with its id and new headers, and in the queue no more."""
    await bench.queue("q")
    placed = await bench.write("q", "poison", "fine")
    lease = await bench.one("q")
    letter = draft("q" + DEAD, "poison", id=placed[0].id, headers=b'{"metadata":{"dead":1}}')
    same(await bench.store.settle("q", [Bury(1, lease.token, letter)]), [True], "it is settled")
    same(await bench.values("q"), ["fine"], "the queue does not hold it")
    page = await bench.store.read("q" + DEAD, after=0, limit=10)
    same(
        [(stored.id, stored.sequence, stored.headers) for stored in page.messages],
        [(placed[0].id, 1, letter.headers)],
        "the dead letter keeps its id and gets the new headers",
    )
    same(await bench.store.settle("q", [Bury(1, lease.token, letter)]), [False], "it dies once")
    same(len(await bench.values("q" + DEAD)), 1, "a stale bury leaves no copy")


@check(QueueStore, AtomicMove)
async def check_burying_an_id_again(bench: Bench) -> None:
    """If an id dies twice, the newer dead letter takes the place of the older one."""
    await bench.queue("q")
    for text in ("first", "second"):
        await bench.write("q", text, id="one")
        lease = await bench.one("q")
        letter = draft("q" + DEAD, value(lease.stored), id="one")
        settled = await bench.store.settle("q", [Bury(lease.stored.sequence, lease.token, letter)])
        same(settled, [True], "burying never fails")
    page = await bench.store.read("q" + DEAD, after=0, limit=10)
    same(
        [(value(stored), stored.sequence) for stored in page.messages], [("second", 2)], "the newer one stays"
    )


async def _none_is_good(bench: Bench, sequence: int, token: str) -> None:
    before = await bench.store.counts("q"), await bench.values("q")
    letter = draft("q" + DEAD, 1, id="x")
    for settlement in (
        Ack(sequence, token),
        Ack(sequence, token, keep=True),
        Release(sequence, token),
        Release(sequence, token, delay=5, counted=False, error="late"),
        Bury(sequence, token, letter),
    ):
        same(await bench.store.settle("q", [settlement]), [False], f"{settlement!r} is stale")
    same(await bench.store.extend("q", [(sequence, token)], 5), [False], "a stale token extends nothing")
    same((await bench.store.counts("q"), await bench.values("q")), before, "a stale token changes nothing")
    same(await bench.values("q" + DEAD), [], "a stale token buries nothing")
