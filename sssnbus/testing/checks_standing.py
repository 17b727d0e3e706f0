"""What stores promise to tell of single messages of a queue, and of themselves as a whole."""

from sssnbus.errors import ChannelKindMismatch
from sssnbus.stores.base import Ack, Delay, OrderingKey, QueueStore, Release, Settlement, Standing, State
from sssnbus.testing.bench import Bench, check, refused, same


@check(QueueStore)
async def check_standing(bench: Bench) -> None:
    """A message stands as ready, leased with its token, or done; what is not there is left out."""
    await bench.queue("q")
    await bench.write("q", 1, 2, 3, 4)
    same(await bench.store.standing("q", [1, 9]), {1: Standing(State.READY)}, "a new one is ready")
    done, failed, gone = await bench.take("q", 3)
    lease = (await bench.store.standing("q", [1]))[1]
    same((lease.state, lease.attempt, lease.token), (State.LEASED, 1, done.token), "a lease is told")
    settled: list[Settlement] = [
        Ack(1, done.token, keep=True),
        Release(2, failed.token, error="boom"),
        Ack(3, gone.token),
    ]
    await bench.store.settle("q", settled)
    told = await bench.store.standing("q", [4, 3, 2, 1])
    same({n: s.state for n, s in told.items()}, {1: State.DONE, 2: State.READY, 4: State.READY}, "as settled")
    same(told[2], Standing(State.READY, 1, None, "boom"), "attempts and the last error are told")
    same(told[1].token, None, "a token that was used is not told")
    same(await bench.store.standing("q", []), {}, "nothing asked, nothing told")
    same(await bench.store.standing("nobody", [1]), {}, "an unknown queue holds nothing")
    await bench.log("a")
    with refused(ChannelKindMismatch, "standing in a plain log"):
        await bench.store.standing("a", [1])


@check(QueueStore, clock=True)
async def check_standing_by_time(bench: Bench) -> None:
    """The end of a lease is told, and a lease that has ended is none."""
    await bench.queue("q")
    await bench.write("q", 1)
    held = await bench.one("q", lease=30, renew=False)
    told = (await bench.store.standing("q", [1]))[1]
    same((told.token, told.deadline), (held.token, held.deadline), "the end of the lease is told")
    bench.clock.advance(31)
    same(await bench.store.standing("q", [1]), {1: Standing(State.READY, 1)}, "then it is ready again")
    again = await bench.one("q", lease=30, renew=False)
    await bench.store.extend("q", [(1, again.token)], 90)
    told = (await bench.store.standing("q", [1]))[1]
    same((told.attempt, told.deadline), (2, bench.clock.elapsed() + 90), "so is the end of an extended one")


@check(QueueStore, Delay, clock=True)
async def check_standing_of_delayed(bench: Bench) -> None:
    """A delayed message says until when, whether it was written so or released so."""
    await bench.queue("q")
    now = bench.clock.time()
    await bench.write("q", 1)
    await bench.write("q", 2, due=now + 60)
    held = await bench.one("q")
    await bench.store.settle("q", [Release(1, held.token, delay=20, error="later")])
    told = await bench.store.standing("q", [1, 2])
    same(told[2], Standing(State.DELAYED, 0, now + 60), "one that was scheduled")
    same((told[1].state, told[1].attempt, told[1].error), (State.DELAYED, 1, "later"), "one that backs off")
    assert abs((told[1].due or 0) - now - 20) < 0.01, "the time is a wall time"
    bench.clock.advance(61)
    told = await bench.store.standing("q", [1, 2])
    same({s.state for s in told.values()}, {State.READY}, "when its time has come it is ready")
    same({s.due for s in told.values()}, {None}, "and no longer due")


@check(QueueStore, OrderingKey)
async def check_standing_behind_a_key(bench: Bench) -> None:
    """A message behind the head of its key stands as ready, as it is counted."""
    await bench.queue("q")
    await bench.write("q", 1, 2, key="k")
    held = await bench.one("q")
    told = await bench.store.standing("q", [1, 2])
    same({n: s.state for n, s in told.items()}, {1: State.LEASED, 2: State.READY}, "behind the head")
    await bench.store.settle("q", [Release(1, held.token, counted=False)])
    same((await bench.store.standing("q", [1]))[1], Standing(State.READY), "an uncounted attempt is none")


@check(QueueStore)
async def check_usage(bench: Bench) -> None:
    """A store that tells its newest id tells one that no made id is above and every later one is."""
    await bench.queue("q")
    await bench.log("a")
    before = await bench.store.usage()
    first = (await bench.write("a", 1))[0].id
    told = await bench.store.usage()
    assert told.size >= 0, "a size is a number of bytes"
    if told.last_id is not None:
        assert before.last_id is None or before.last_id < first, "every later id is above it"
        assert told.last_id >= first, "no id is above it"
    await bench.write("q", 2, id="given")
    second = (await bench.write("q", 3))[0].id
    later = await bench.store.usage()
    if told.last_id is not None:
        assert told.last_id < second <= (later.last_id or ""), "it goes on with the ids"
        await bench.store.drop("q")
        await bench.store.drop("a")
        same((await bench.store.usage()).last_id, later.last_id, "it outlives the messages")


@check(QueueStore)
async def check_compacting(bench: Bench) -> None:
    """Compacting removes what is done and nothing else, and the store goes on."""
    await bench.queue("q")
    await bench.write("q", *range(50), body=b"x" * 4096)
    leases = await bench.take("q", 49)
    await bench.store.settle("q", [Ack(lease.stored.sequence, lease.token, keep=True) for lease in leases])
    before = await bench.store.usage()
    same(await bench.store.vacuum(compact=True), 49, "it counts what was done")
    assert (await bench.store.usage()).size <= before.size, "nothing has grown"
    same([s.sequence for s in (await bench.store.read("q", after=0, limit=99)).messages], [50], "the rest")
    same((await bench.write("q", 1))[0].sequence, 51, "it counts on")
    same([lease.stored.sequence for lease in await bench.take("q", 9)], [50, 51], "the queue goes on")
    same(await bench.store.vacuum(compact=True), 0, "there may be nothing to do")
