"""What the verbs of a store take and return: places, pages, leases, counts."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Self

from sssnbus.stored import Draft, Stored
from sssnbus.topics import Pattern, matcher

DEAD = "!dead"
"""What is added to a channel's name for the log of its dead letters."""


class Kind(StrEnum):
    """What a log is declared as."""

    LOG = "broadcast"
    QUEUE = "work queue"


class State(StrEnum):
    """Where a message of a queue stands."""

    READY = "ready"
    DELAYED = "delayed"
    LEASED = "leased"
    DONE = "done"


class Placed(NamedTuple):
    """Where an appended message went."""

    id: str
    sequence: int
    duplicate: bool = False
    """True if its id or dedupe key was there already: these are the id and place of the first one."""


class Page(NamedTuple):
    """A stretch of a log, from where a read began up to ``reach``."""

    messages: list[Stored]
    floor: int
    """Everything up to this sequence was trimmed by retention or cleared."""
    last: int
    """The newest sequence ever allocated, whether or not it is still there."""
    reach: int
    """Everything up to this sequence was looked through, and reading goes on after it.

    Of a page with as many messages as were asked for it is the sequence of the newest one. Any other page has
    come to the end, ``upto`` or ``last``, and this is that end; only a page that is filtered by topics may
    stop before, behind the floor and further on than it began. It is never below ``after``.
    """

    @classmethod
    def of(cls, messages: list[Stored], floor: int, last: int, *, after: int, limit: int, end: int) -> Self:
        """Return the page of a read after ``after`` that went up to ``end`` unless the limit stopped it."""
        if len(messages) < limit:
            return cls(messages, floor, last, max(after, end))
        return cls(messages, floor, last, messages[-1].sequence if messages else max(after, 0))

    def only(self, topics: Sequence[Pattern]) -> Self:
        """Return the page with only those messages whose topic fits one of the patterns, if there are any."""
        if not topics:
            return self
        matches = matcher(topics)
        return self._replace(messages=[stored for stored in self.messages if matches(stored.topic)])


class Selection(NamedTuple):
    """Which messages of a queue are meant: all, some ids, or an open interval of ids.

    The bounds are store-made ids, 19 digits each, and are compared as text.
    """

    ids: tuple[str, ...] | None = None
    after: str | None = None
    before: str | None = None


class Lease(NamedTuple):
    """One worker's hold on one message."""

    stored: Stored
    token: str
    """Proves the hold; every lease has a new one."""
    attempt: int
    """1 for the first time the message is handed out; counted when it is."""
    deadline: float
    """When the lease ends unless it is extended, on ``Clock.elapsed`` of the store's clock."""
    error: str | None = None
    """What the last failed attempt reported."""


class Leases(NamedTuple):
    """The outcome of one claim."""

    leases: list[Lease]
    next_due: float | None
    """Seconds until something not ready now becomes so by time alone; None if nothing will."""


class Ack(NamedTuple):
    """Settle: done. The message is removed, or kept in state *done* until vacuum."""

    sequence: int
    token: str
    keep: bool = False


class Release(NamedTuple):
    """Settle: give the message back, at once or after ``delay`` seconds."""

    sequence: int
    token: str
    delay: float = 0.0
    counted: bool = True
    """False takes back the attempt, as if the message had never been handed out."""
    error: str | None = None


class Bury(NamedTuple):
    """Settle: move the message to the dead letters, rewritten as ``draft`` (same id, new headers).

    An older dead letter with that id gives way to it.
    """

    sequence: int
    token: str
    draft: Draft


Settlement = Ack | Release | Bury


class LogInfo(NamedTuple):
    """What the catalogue knows of a log without reading its messages."""

    name: str
    kind: Kind
    last: int
    floor: int
    count: int  # type: ignore[assignment]  # tuple.count gives way: nobody counts within a LogInfo
    """Messages it holds now, in any state."""
    size: int
    """Bytes of their contents and headers; some stores count what else their engine needs for them."""


class Usage(NamedTuple):
    """What a store has given out and takes up, as a whole."""

    last_id: str | None
    """No id that the store has allocated is above it, every later one is; None if it cannot tell."""
    size: int
    """Bytes on the medium, 0 if it cannot tell."""


class Counts(NamedTuple):
    """How many messages of a queue are in each state."""

    ready: int = 0
    """With those that wait behind the head of their ordering key."""
    delayed: int = 0
    leased: int = 0
    done: int = 0


class Standing(NamedTuple):
    """How one message of a queue stands."""

    state: State
    """As in ``Counts``: ready ones include those that wait behind the head of their ordering key."""
    attempt: int = 0
    """How often it was handed out, as far as that counts. Of a done one the store may have forgotten it."""
    due: float | None = None
    """When its delay ends, in seconds since the epoch; also of one that waits behind its ordering key."""
    error: str | None = None
    """What the last failed attempt reported."""
    token: str | None = None
    """The token of a leased one."""
    deadline: float | None = None
    """When its lease ends, as in ``Lease``; None if only its owner's end or a settlement ends it."""


class Record(NamedTuple):
    """A small named value."""

    value: bytes
    version: int
    """Changes with every put; what compare-and-set compares."""


class News(NamedTuple):
    """Messages that others have just added to a log, next to each other; none: something there changed."""

    log: str
    messages: list[Stored]
