"""What stores promise of taking in what another store has kept."""

from sssnbus.errors import ChannelKindMismatch, MessageConflict, NotStarted
from sssnbus.stores.base import Counts, OrderingKey, Portable, QueueStore, Records, Standing, State
from sssnbus.testing.bench import Bench, check, draft, refused, same, value


@check(Portable, Records)
async def check_spaces(bench: Bench) -> None:
    """The spaces that hold a record are listed, each once."""
    same(await bench.store.spaces(), [], "nothing is kept at first")
    for space, name in (("t", "x"), ("s", "x"), ("s", "y")):
        await bench.store.put(space, name, b"", version=None)
    same(await bench.store.spaces(), ["s", "t"], "they are sorted")
    await bench.store.delete("t", "x")
    same(await bench.store.spaces(), ["s"], "one without records is none")


@check(Portable, QueueStore, clock=True)
async def check_restore(bench: Bench) -> None:
    """Messages of a queue come back as they stood: with attempts, errors, delays, and what is done."""
    await bench.queue("q")
    await bench.write("q", "before")
    due = bench.clock.time() + 60
    items = [
        (draft("q", "new", id="1", priority=3), Standing(State.READY)),
        (draft("q", "tried", id="2"), Standing(State.READY, 2, None, "boom")),
        (draft("q", "later", id="3", due=due), Standing(State.DELAYED, 1, due)),
        (draft("q", "done", id="4"), Standing(State.DONE)),
        (draft("q", "leased", id="5"), Standing(State.LEASED, 1, token="elsewhere")),
    ]
    placed = await bench.store.restore("q", items)
    same([(p.id, p.sequence) for p in placed], [(str(n), n + 1) for n in range(1, 6)], "at the end, as given")
    same(await bench.store.counts("q"), Counts(ready=4, delayed=1, done=1), "each in its state")
    told = await bench.store.standing("q", [3, 4, 6])
    same(told[3], Standing(State.READY, 2, None, "boom"), "attempts and errors are kept")
    same((told[4].state, told[4].attempt, told[4].due), (State.DELAYED, 1, due), "delays are kept")
    same((told[6].state, told[6].token), (State.READY, None), "nobody holds what was leased elsewhere")
    leases = await bench.take("q", 9)
    same([value(x.stored) for x in leases], ["new", "before", "tried", "leased"], "the rules go on")
    same([x.attempt for x in leases], [1, 1, 3, 2], "attempts go on")
    bench.clock.advance(61)
    same((await bench.one("q")).attempt, 2, "a delayed one is ready in time")


@check(Portable, QueueStore)
async def check_restore_again(bench: Bench) -> None:
    """What is there already stays as it is; a conflict, or a wrong place, leaves everything out."""
    await bench.queue("q")
    await bench.log("a")
    items = [(draft("q", n, id=str(n)), Standing(State.READY, 1)) for n in range(2)]
    await bench.store.restore("q", items)
    held = await bench.one("q")
    again = await bench.store.restore("q", [(one, Standing(State.DONE)) for one, _ in items])
    same([place.duplicate for place in again], [True, True], "nothing is added twice")
    told = await bench.store.standing("q", [1, 2])
    same([told[n].state for n in (1, 2)], [State.LEASED, State.READY], "nor changed")
    same(told[1].token, held.token, "not even who holds it")
    with refused(MessageConflict, "another body under a known id"):
        await bench.store.restore(
            "q", [(draft("q", 9, id="9"), items[0][1]), (draft("q", 5, id="1"), items[0][1])]
        )
    same(len((await bench.store.read("q", after=0, limit=9)).messages), 2, "all or none")
    with refused(ChannelKindMismatch, "restoring into a plain log"):
        await bench.store.restore("a", [(draft("a", 1, id="1"), Standing(State.DONE))])
    with refused(NotStarted, "restoring into a queue that nobody declared"):
        await bench.store.restore("nobody", [(draft("nobody", 1, id="1"), Standing(State.DONE))])
    same((await bench.store.read("a", after=0, limit=9)).messages, [], "the log got nothing")


@check(Portable, QueueStore, OrderingKey)
async def check_restored_keys(bench: Bench) -> None:
    """Of an ordering key the oldest message that is not done is handed out."""
    await bench.queue("q")
    states = (State.DONE, State.READY, State.READY)
    items = [(draft("q", n, id=str(n), key="k"), Standing(state)) for n, state in enumerate(states)]
    await bench.store.restore("q", items)
    same(await bench.claimed("q"), [1], "the first of them only")
