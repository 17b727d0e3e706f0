"""What a store promises, cut into abilities that a store inherits or does not.

A store keeps *logs*: named, append-only sequences of messages. A log declared as a queue also keeps
a state for each of its messages. Dead letters of channel ``jobs`` are the log ``jobs!dead``: names with
``!`` belong to channels and are not listed. That companion is a plain log, declared and dropped with its
channel.

Promises that hold for every verb, unless it says otherwise:

- **Order.** Sequences of a log start at 1 and have no gaps when allocated; they are allocated in commit
  order and never reused, not even after every message is gone. Reads are by sequence.
- **Atomicity.** A verb happens as a whole or not at all.
- **Durability.** When a verb returns, its effect survives what ``Store.durability`` says.
- **Cancellation.** A cancelled verb was either never applied, or is applied as a whole before the
  ``CancelledError`` leaves it. It never happens later.
- **Tasks.** Any number of tasks of the loop that opened the store may call it at once.
- **Unknown logs.** A log that nobody declared is empty to every verb; only adding to it is refused.
- **Errors.** ``ClosedError``, ``NotStarted``, ``WrongLoop`` and ``ForkedProcess`` for use at the wrong moment
  or place, ``NotStarted`` also for writing to a log that nobody declared, and ``ChannelKindMismatch`` for a
  verb of queues on a plain log; ``StoreError`` for trouble with the storage; ``StoreTimeout`` when an
  operation could not begin in time, in which case it is never applied.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final

from sssnbus.stored import Draft, Stored

# The values belong to the promises, so whoever imports these finds them here.
from sssnbus.stores.value import DEAD as DEAD
from sssnbus.stores.value import Ack as Ack
from sssnbus.stores.value import Bury as Bury
from sssnbus.stores.value import Counts as Counts
from sssnbus.stores.value import Kind as Kind
from sssnbus.stores.value import Lease as Lease
from sssnbus.stores.value import Leases as Leases
from sssnbus.stores.value import LogInfo as LogInfo
from sssnbus.stores.value import News as News
from sssnbus.stores.value import Page as Page
from sssnbus.stores.value import Placed as Placed
from sssnbus.stores.value import Record as Record
from sssnbus.stores.value import Release as Release
from sssnbus.stores.value import Selection as Selection
from sssnbus.stores.value import Settlement as Settlement
from sssnbus.stores.value import Standing as Standing
from sssnbus.stores.value import State as State
from sssnbus.stores.value import Usage as Usage
from sssnbus.topics import Pattern


class Store(ABC):
    """Something that keeps messages. Constructing it does no I/O; ``open`` and ``aclose`` frame its use."""

    url: str
    """Where it is, without secrets; fit for error messages."""
    durability: str
    """What survives once a verb has returned: ``"none"``, ``"process"`` (that the process which keeps the
    messages, ours or the server, is killed) or ``"disk"`` (a power cut)."""
    promise: ClassVar[str] = "see ``durability``"
    """In a few words for people, what decides on the durability."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and create or check what is kept. Idempotent while open.

        Raises:
            IncompatibleStore: what is there is not ours; it was left untouched.
            StoreUnavailable: it cannot be reached.
            StoreReadOnly: it cannot be written.
        """

    @abstractmethod
    async def aclose(self, grace: float = 5.0) -> None:
        """Give back what is held and renewed, uncounted, and disconnect, within ``grace`` seconds.

        Idempotent; the resource is gone even if it raises; later use raises ``ClosedError``.
        """


class LogStore(Store):
    """A store of logs. Every store is one."""

    @abstractmethod
    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        max_depth: Mapping[str, int] | None = None,
        timeout: float | None = None,
    ) -> list[Placed]:
        """Add messages to declared logs, all or none, and return where each one went, in their order.

        A draft without an id gets one: 19 decimal digits, Unix nanoseconds with the low 12 bits a
        counter, never going back. A given id, or a dedupe key inside its window, that is there already
        with the same type and body adds nothing and is a duplicate.

        Args:
            drafts: What to add; they may belong to several logs (then ``AtomicBatch`` is needed).
            max_depth: For a queue, how many messages it may hold afterwards (done ones not counted).
            timeout: Seconds within which it must begin; the store's own limit unless given.

        Raises:
            StoreTimeout: it could not begin in time; it is not applied.
            MessageConflict: an id or dedupe key is there with another type or body.
            QueueFull: a queue would hold more than its limit.
        """

    @abstractmethod
    async def read(
        self, log: str, *, after: int, limit: int, upto: int | None = None, topics: Sequence[Pattern] = ()
    ) -> Page:
        """Return up to ``limit`` messages with ``after < sequence <= upto``, oldest first.

        Of a queue it returns messages in every state. An unknown log is an empty page. Who wants all that
        there is reads on after ``Page.reach`` until that is ``upto`` or ``Page.last``.

        Args:
            log: Its name.
            after: The sequence after which to begin.
            limit: How many messages at most.
            upto: The last sequence that is wanted; None: the newest.
            topics: Only messages whose topic fits one of these; all messages, also those without a topic,
                if there are none. The store passes over the others, for a bounded while: the page may be
                short, or empty, though there are more to come.
        """

    @abstractmethod
    async def last(self, logs: Sequence[str]) -> dict[str, int]:
        """Return the newest allocated sequence of each log, 0 if it has none; one round trip for all."""

    @abstractmethod
    async def locate(self, log: str, time: float) -> int:
        """Return the sequence after which everything was stored at or after ``time`` (epoch seconds).

        It goes by the store's own monotone clock, not by timestamps of writers.
        """

    @abstractmethod
    async def trim(
        self,
        log: str,
        *,
        upto: int | None = None,
        older_than: float | None = None,
        max_count: int | None = None,
        max_bytes: int | None = None,
    ) -> int:
        """Remove from the old end whatever any given bound rules out; return how many went.

        Args:
            log: Its name.
            upto: Remove up to this sequence.
            older_than: Remove what was stored before this time, in seconds since the epoch.
            max_count: Keep at most so many.
            max_bytes: Keep at most so many bytes of contents and headers.
        """

    @abstractmethod
    async def remove(self, log: str, ids: Sequence[str]) -> int:
        """Remove messages by id, in whatever state; return how many were there."""


class ByID(Store):
    """The store finds a message by its id."""

    @abstractmethod
    async def find(self, log: str, id: str) -> Stored | None:
        """Return the message with this id, or None."""


class QueueStore(LogStore):
    """A store whose logs can be queues."""

    @abstractmethod
    async def claim(
        self,
        log: str,
        *,
        worker: str,
        lease: float,
        limit: int = 1,
        select: Selection | None = None,
        renew: bool = True,
    ) -> Leases:
        """Hand out up to ``limit`` ready messages: highest priority first, then oldest first.

        Each gets a new token and one more attempt. Messages whose delay has passed are ready, and so
        are those whose lease has ended or whose owner is known to be dead. With an ordering key only
        the oldest message of the key can be ready.

        Args:
            log: The queue.
            worker: Who asks; kept for people to see.
            lease: Seconds until the hold ends.
            limit: How many at most.
            select: Which ones; ``SelectiveClaim`` is needed.
            renew: True: the store renews the lease by itself, off the event loop, for as long as this
                store object is open and the hold is not settled; ``extend`` ends the renewing. False:
                only time and settling end the hold, even when its owner is dead.
        """

    @abstractmethod
    async def settle(self, log: str, settlements: Sequence[Settlement]) -> list[bool]:
        """End leases; return for each whether its token was still good. A stale one changes nothing.

        A token is stale from the moment its lease ends, even if nobody has taken the message since.

        Ending the head of an ordering key makes the next of that key ready, unless it was released
        with a delay: then the key waits with it.
        """

    @abstractmethod
    async def extend(self, log: str, holds: Sequence[tuple[int, str]], lease: float) -> list[bool]:
        """Let leases, given as (sequence, token), end ``lease`` seconds from now; return which were good."""

    @abstractmethod
    async def peek(self, log: str, *, limit: int, select: Selection | None = None) -> list[Stored]:
        """Return ready messages, oldest first, without claiming them."""

    @abstractmethod
    async def standing(self, log: str, sequences: Sequence[int]) -> dict[int, Standing]:
        """Return how messages of a queue stand now, by sequence; those that are not there are left out.

        One whose delay or lease has ended is ready.
        """

    @abstractmethod
    async def transfer(
        self, source: str, target: str, *, limit: int, select: Selection | None = None
    ) -> list[Stored]:
        """Move messages to the end of another declared log, oldest first, with their ids.

        From a queue those that are ready move, and with ``select.ids`` also those that are done; from
        a plain log all do. In the target they are new: ready, with no attempts; one that is there
        already with the same type and body stays as it is. Returned as they stand in the target.

        Raises:
            MessageConflict: the target holds one of the ids with another body.
        """


class Catalogue(Store):
    """The store knows its logs."""

    @abstractmethod
    async def declare(self, log: str, kind: Kind) -> Kind:
        """Create the log and the one of its dead letters, if need be; return its recorded kind."""

    @abstractmethod
    async def logs(self, prefix: str = "") -> list[LogInfo]:
        """Return the declared logs whose names start with ``prefix``, sorted by name.

        Logs of dead letters are listed only for a prefix that holds a ``!``.
        """

    @abstractmethod
    async def counts(self, log: str) -> Counts:
        """Return how many messages of a queue are in each state."""

    @abstractmethod
    async def drop(self, log: str) -> None:
        """Forget a log with its messages and its declaration; its next sequence starts from 1."""

    @abstractmethod
    async def vacuum(self, log: str | None = None, *, compact: bool = False) -> int:
        """Remove messages in state *done*, of one log or of all; return how many.

        With ``compact`` also give back the room that removed messages took up, where the store can. That
        may take long, and others may have to wait meanwhile.
        """

    @abstractmethod
    async def usage(self) -> Usage:
        """Return what the store has given out and takes up."""


class Records(Store):
    """The store keeps small named values: cursors, settings, aliases."""

    owner: str
    """Names this open store among all processes that use the same storage."""

    @abstractmethod
    async def get(self, space: str, name: str) -> Record | None:
        """Return a value, or None."""

    @abstractmethod
    async def put(self, space: str, name: str, value: bytes, *, version: int | None) -> int | None:
        """Write a value if its version is still ``version`` (None: it must not exist).

        Returns:
            The new version, or None if somebody else changed the value first; then nothing happened.
        """

    @abstractmethod
    async def delete(self, space: str, name: str) -> bool:
        """Remove a value; return whether it was there."""

    @abstractmethod
    async def names(self, space: str) -> dict[str, Record]:
        """Return every value of a space by name."""

    @abstractmethod
    async def alive(self, owner: str) -> bool:
        """Return whether the store that called itself ``owner`` is still open, this one included."""


class Portable(Store):
    """The store can tell what records it keeps, and put a queue's messages back as they stood elsewhere."""

    @abstractmethod
    async def spaces(self) -> list[str]:
        """Return the spaces that hold a record, sorted."""

    @abstractmethod
    async def restore(self, log: str, items: Sequence[tuple[Draft, Standing]]) -> list[Placed]:
        """Add messages to a declared queue as they stood elsewhere, all or none; return where each went.

        It is as ``append`` for the messages; one that is there already stays as it is. Of the standing,
        attempts and the last error are taken over, and that the message is done. A leased one is ready.

        Raises:
            MessageConflict: an id is there with another type or body.
        """


class Wakeups(Store):
    """The store can hint at news. A lost hint costs latency, never a message."""

    poll_interval: float | None = None
    """How often ``changed`` should be asked beside the hints, in seconds; None: the hints suffice."""

    @abstractmethod
    def watch(
        self, ring: Callable[[], None], take: Callable[[News], None] | None = None
    ) -> Callable[[], None]:
        """Call ``ring`` on the event loop whenever others may have news; return what ends that.

        What is done through this very store object need not ring: its users know. A store may know more
        than that there is news; then it calls ``take`` in place of ``ring``, if it was given.
        """

    @abstractmethod
    async def changed(self) -> bool:
        """Return whether anybody else may have written since the last call. It must be cheap."""


class OrderedIDs:
    """Marker: made ids rise with the places, whoever writes; without it they do for each open store."""


class AtomicBatch:
    """Marker: one ``append`` may span several logs."""


class AtomicMove:
    """Marker: ``transfer`` and ``Bury`` never leave a copy behind, not even in a crash."""


class SelectiveClaim:
    """Marker: ``claim``, ``peek`` and ``transfer`` take a ``Selection``."""


class Priority:
    """Marker: queues honour priorities."""


class Delay:
    """Marker: queues honour ``due`` and release with a delay."""


class OrderingKey:
    """Marker: queues honour ordering keys."""


class Fencing:
    """Marker: a stale token never settles anything."""


ABILITIES: Final[Sequence[type]] = (
    LogStore, ByID, QueueStore, Catalogue, Records, Portable, Wakeups,
    OrderedIDs, AtomicBatch, AtomicMove, SelectiveClaim, Priority, Delay, OrderingKey, Fencing,
)  # fmt: skip
"""All there are, the verbs first and then the markers."""


def abilities(store: Store | type[Store]) -> list[str]:
    """Return the names of the abilities that a store, or a class of stores, has."""
    kind = store if isinstance(store, type) else type(store)
    return [ability.__name__ for ability in ABILITIES if issubclass(kind, ability)]
