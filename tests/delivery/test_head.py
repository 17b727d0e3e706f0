"""One message is one entry at a head, however its writer, the store and news come to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from sssnbus.delivery.head import Entry, Head
from sssnbus.errors import BusError
from sssnbus.stored import Stored
from sssnbus.stores.memory import MemoryStore

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage


class Callbacks:
    """A subscription whose callbacks end when a test says so."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.at_once: list[int] = []

    def offer(self, entry: Entry, eager: bool = False) -> None:
        """Take one message."""
        if eager:
            self.at_once.append(entry.sequence)
        entry.pending += self.offer_all([entry])

    def offer_all(self, entries: Sequence[Entry]) -> int:
        """Take messages, each with one callback to wait for."""
        self.entries += entries
        return 1

    def skip(self, first: int, last: int) -> None:
        """Be told of a gap."""
        raise AssertionError((first, last))

    def fail(self, error: BusError) -> None:
        """Be ended."""
        raise error


def message(sequence: int) -> Stored:
    """Return a message as a store has it."""
    return Stored(str(sequence), sequence, 0.0, "me", None, "t", b"", b"", 0)


def followed() -> tuple[Head, Callbacks]:
    """Return a head with one subscription."""
    # What is in a message is nothing to a head.
    head = Head("events", MemoryStore(), lambda: None, lambda stored: cast("ChannelMessage", stored))
    callbacks = Callbacks()
    head.attach(callbacks, 0, ())
    return head, callbacks


def test_news_before_the_writer() -> None:
    """A writer waits for its callbacks also when its message came with news before it could tell."""
    head, callbacks = followed()
    head.take([message(1)])
    (entry,) = head.publish([message(1)])
    assert callbacks.entries == [entry]
    assert entry.pending == 1


def test_news_are_handed_over_at_once() -> None:
    """One message that comes with news needs no task to wake; several wait for their turn."""
    head, callbacks = followed()
    head.take([message(1)])
    head.take([message(2), message(3)])
    assert callbacks.at_once == [1]
    assert [each.sequence for each in callbacks.entries] == [1, 2, 3]


def test_news_again() -> None:
    """News that tell of a message twice do not take it from its writer."""
    head, callbacks = followed()
    head.take([message(1)])
    head.take([message(1)])
    (entry,) = head.publish([message(1)])
    assert callbacks.entries == [entry]


def test_news_out_of_order_before_the_writer() -> None:
    """The same for a message that had to wait for the one before it."""
    head, callbacks = followed()
    head.take([message(2)])
    head.take([message(1)])
    (entry,) = head.publish([message(2)])
    assert [each.sequence for each in callbacks.entries] == [1, 2]
    assert callbacks.entries[1] is entry
    assert entry.pending == 1


def test_news_while_the_writer_waits() -> None:
    """News of a message that waits for the one before it leave its writer waiting for what is handed out."""
    head, callbacks = followed()
    (entry,) = head.publish([message(2)])
    head.take([message(2)])
    head.publish([message(1)])
    assert callbacks.entries[1] is entry
    entry.settle()
    assert not entry.pending


def test_what_was_open_is_forgotten() -> None:
    """Messages whose callbacks are through are kept for nobody, however many come with news."""
    head, callbacks = followed()
    for number in range(1, 5001):
        head.take([message(number)])
        callbacks.entries.pop().settle()
    assert len(head._open) < 1000
