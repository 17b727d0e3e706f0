"""What stores promise of choosing messages by ids or by an interval of them."""

from sssnbus.stores.base import Priority, QueueStore, Selection, SelectiveClaim
from sssnbus.testing.bench import Bench, check, same, value


@check(QueueStore, SelectiveClaim)
async def check_select_by_ids(bench: Bench) -> None:
    """Ids select from what is ready; others and unknown ones are passed over."""
    await bench.queue("q")
    ids = [place.id for place in await bench.write("q", 1, 2, 3, 4)]
    chosen = Selection(ids=(ids[3], "unknown", ids[1]))
    same([value(stored) for stored in await bench.store.peek("q", limit=9, select=chosen)], [2, 4], "by age")
    claimed = await bench.store.claim("q", worker="w", lease=60, limit=9, select=chosen)
    same([value(lease.stored) for lease in claimed.leases], [2, 4], "those are claimed")
    claimed = await bench.store.claim("q", worker="w", lease=60, limit=9, select=chosen)
    same(claimed.leases, [], "each only once")
    none = await bench.store.claim("q", worker="w", lease=60, limit=9, select=Selection(ids=()))
    same(none.leases, [], "no ids select nothing")
    same(await bench.claimed("q"), [1, 3], "the others are left")


@check(QueueStore, SelectiveClaim)
async def check_select_by_interval(bench: Bench) -> None:
    """An interval selects the made ids strictly between its bounds."""
    await bench.queue("q")
    ids = [place.id for place in await bench.write("q", *range(6))]
    for select, expected in (
        (Selection(after=ids[3]), [4, 5]),
        (Selection(before=ids[2]), [0, 1]),
        (Selection(after=ids[1], before=ids[4]), [2, 3]),
        (Selection(after=ids[5]), []),
        (Selection(ids=(ids[1], ids[4]), after=ids[2]), [4]),
    ):
        shown = await bench.store.peek("q", limit=9, select=select)
        same([value(stored) for stored in shown], expected, f"{select} selects")
    claimed = await bench.store.claim("q", worker="w", lease=60, limit=1, select=Selection(after=ids[2]))
    same([value(lease.stored) for lease in claimed.leases], [3], "a claim takes the first of them")


@check(QueueStore, SelectiveClaim, Priority)
async def check_selected_by_priority(bench: Bench) -> None:
    """A selection is handed out by priority, as everything else."""
    await bench.queue("q")
    ids = [(await bench.write("q", number, priority=number % 2))[0].id for number in range(6)]
    chosen = Selection(after=ids[0])
    claimed = await bench.store.claim("q", worker="w", lease=60, limit=3, select=chosen)
    same([value(lease.stored) for lease in claimed.leases], [1, 3, 5], "the higher ones first")
