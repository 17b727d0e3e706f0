"""The buffer of a subscription, against a plain model of each policy."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sssnbus import BroadcastChannel, Gap, Lagged
from sssnbus.delivery.feed import Feed, Terms
from sssnbus.delivery.head import Entry
from sssnbus.delivery.inbox import Inbox
from sssnbus.settings import OnFull, Retry

EVENTS = st.lists(st.sampled_from(["offer", "offer", "offer", "take", "take", "gap"]), max_size=40)


def flat(item: Any) -> Any:
    """Return what a consumer sees of an item: a sequence or a notice."""
    return item.sequence if isinstance(item, Entry) else item


class Model:
    """What a full buffer does, said as plainly as possible."""

    def __init__(self, limit: int, on_full: str) -> None:
        self.limit, self.on_full = limit, on_full
        self.items: list[Any] = []
        self.ended = False

    def offer(self, sequence: int) -> None:
        if self.ended:
            return
        if len(self.items) >= self.limit:
            if self.on_full == "disconnect":
                self.ended = True
                return
            if self.on_full == "drop_newest":
                self.lag(len(self.items))
                return
            at = next((n for n, item in enumerate(self.items) if isinstance(item, int)), None)
            if at is not None:
                del self.items[at]
                self.lag(at)
        self.items.append(sequence)

    def lag(self, at: int) -> None:
        if at and isinstance(self.items[at - 1], Lagged):
            self.items[at - 1] = Lagged(self.items[at - 1].count + 1)
        else:
            self.items.insert(at, Lagged(1))


async def run(events: list[str], limit: int, on_full: OnFull) -> None:
    """Let the same happen to an inbox and to the model, and compare after each step."""
    async with BroadcastChannel("events") as channel:
        assert channel._running is not None
        feed: Feed = channel._running.feed
        terms = Terms((), limit, on_full, 1, None, None, Retry(), None)
        inbox, model = Inbox("a", feed, terms, awaited=True), Model(limit, on_full)
        await inbox.attach(0)
        sequence, entries = 0, list[Entry]()
        for event in events:
            if event == "take":
                if model.items:
                    assert flat(inbox.take()) == model.items.pop(0)
                continue
            sequence += 1
            if event == "offer":
                entry = Entry(sequence, None)  # type: ignore[arg-type]  # the message plays no role
                if inbox.error is None:
                    # One that has ended is not offered anything more.
                    inbox.offer(entry)
                entry.settle()
                entries.append(entry)
                model.offer(sequence)
            elif not model.ended:
                inbox.skip(sequence, sequence)
                model.items.append(Gap(sequence, sequence))
            assert [flat(item) for item in inbox.items] == model.items
            assert (inbox.error is not None) == model.ended
        kept = {item for item in model.items if isinstance(item, int)}
        for entry in entries:
            # Writers wait for what is buffered, and for nothing that was dropped.
            assert entry.sequence not in kept or entry.pending == 1
        inbox.close()
        assert not inbox.items
        assert all(entry.pending == 0 for entry in entries if entry.sequence in kept)


@settings(max_examples=60)
@given(EVENTS, st.integers(1, 4))
async def test_drop_oldest(events: list[str], limit: int) -> None:
    """Drop_oldest does what the model does."""
    await run(events, limit, "drop_oldest")


@settings(max_examples=60)
@given(EVENTS, st.integers(1, 4))
async def test_drop_newest(events: list[str], limit: int) -> None:
    """Drop_newest does what the model does."""
    await run(events, limit, "drop_newest")


@settings(max_examples=60)
@given(EVENTS, st.integers(1, 4))
async def test_disconnect(events: list[str], limit: int) -> None:
    """Disconnect does what the model does."""
    await run([event for event in events if event != "gap"], limit, "disconnect")


STEPS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


@settings(max_examples=60)
@given(STEPS, st.integers(1, 4), st.booleans())
async def test_leaving_in_the_store(steps: list[tuple[int, int]], limit: int, early: bool) -> None:
    """With catch_up a consumer gets every message once and in order, and the buffer keeps its bound."""
    async with BroadcastChannel("events") as channel:
        written = 0
        if early:
            written += len(await channel.write_many("s", range(5)))
        async with channel.subscribe("a", start="earliest", buffer=limit) as subscription:
            seen: list[int] = []
            for write, take in steps:
                for _ in range(write):
                    written = (await channel.write("s", 0)).sequence
                assert subscription.statistics().buffered <= limit
                takes = range(min(take, written - len(seen)))
                seen += [(await anext(subscription)).sequence for _ in takes]
            while len(seen) < written:
                seen.append((await anext(subscription)).sequence)
        assert seen == list(range(1, written + 1))
