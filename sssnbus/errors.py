"""Every error of the package, in one tree whose branches say how a caller recovers.

BusError
├── UsageError             the call is wrong: correct the program or its input; nothing happened
│   ├── InvalidName (ValueError)            a channel, consumer, worker or message id
│   ├── InvalidTopic (ValueError)           a topic or a topic pattern
│   ├── InvalidURL (ValueError)             a store URL
│   ├── InvalidOption (ValueError)          an argument outside its range
│   ├── PayloadError (ValueError)           content that JSON cannot hold; names the path
│   │   └── PayloadTooLarge
│   ├── ExclusiveReadError (TypeError)      the wrong kind of read for this kind of channel
│   ├── HandlerError (TypeError)            a callback that cannot be awaited
│   ├── InvalidDump (ValueError)            a line that is no part of a dump, or not of this one
│   ├── UnknownMessage (LookupError)        an id the channel does not hold
│   ├── MessageConflict                     an id or dedupe key used before with another body
│   ├── ChannelKindMismatch                 the name belongs to the other kind of channel
│   ├── MissingAbility                      this store cannot do what the channel asks
│   ├── WeakDurability                      this server does not promise what the URL demands
│   └── MissingExtra (ImportError)          an optional dependency is not installed
├── StateError (RuntimeError)  the right call at the wrong moment or place; nothing happened
│   ├── NotStarted (NotBegun) · ClosedError · WrongLoop · ForkedProcess
│   ├── SubscriptionDied                    its task was ended; subscribe again
│   └── FanOutDied                          the delivery task ended; restart the bus
├── ContentionError        somebody else was there first; go on with the next thing
│   ├── ClaimLost                           the claim ended or belongs to another worker
│   ├── SubscriptionInUse · SubscriptionLost
│   ├── SubscriptionOverflow                the policy "disconnect" ended a slow subscription
│   └── QueueFull                           try again when there is room
├── BusTimeout (TimeoutError)
│   ├── DeliveryTimeout                     stored, but not every callback has settled
│   └── StoreTimeout                        the store did not get to it; not applied, now or later
└── StoreError             the storage failed; what was acknowledged is kept
    ├── StoreUnavailable · StoreFull · StoreReadOnly
    ├── OutcomeUnknown                      it happened or not; again, a write under its dedupe key
    ├── StoreReplaced                       what the bus has open was deleted, swapped or set back
    ├── StoreReset                          the store went back behind a cursor
    ├── IncompatibleStore                   not a store, or of another schema version
    └── MessageCorrupt                      a stored message fails its checksum
"""

from collections.abc import Iterable
from typing import ClassVar


class BusError(Exception):
    """The root of every error that the package raises on purpose."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later without a change to the program."""

    def __reduce__(self) -> tuple[object, ...]:
        # By default a copy calls the class with the finished sentence, which most of these do not take.
        return _restore, (type(self), self.args, self.__dict__)


class UsageError(BusError):
    """The call is wrong as it stands; it was refused before anything happened."""


class InvalidName(UsageError, ValueError):
    """A name or id breaks the rule for its kind."""

    def __init__(self, what: str, name: object, rule: str) -> None:
        self.what, self.name, self.rule = what, name, rule
        super().__init__(f"Invalid {what} {_show(name)}: {rule}.")


class InvalidTopic(UsageError, ValueError):
    """A topic or pattern breaks the rules of its dialect."""

    def __init__(self, topic: object, rule: str) -> None:
        self.topic, self.rule = topic, rule
        super().__init__(f"Invalid topic {_show(topic)}: {rule}.")


class InvalidURL(UsageError, ValueError):
    """A store URL cannot be understood. The URL is shown without its password."""

    def __init__(self, url: str, rule: str) -> None:
        self.url, self.rule = url, rule
        super().__init__(f"Invalid store URL {url!r}: {rule}.")


class InvalidOption(UsageError, ValueError):
    """An argument lies outside its range."""

    def __init__(self, option: str, value: object, rule: str) -> None:
        self.option, self.value, self.rule = option, value, rule
        super().__init__(f"Invalid {option}={_show(value)}: {rule}.")


class PayloadError(UsageError, ValueError):
    """Content holds a value that would not read back equal and of the same type."""

    def __init__(self, path: str, rule: str) -> None:
        self.path, self.rule = path, rule
        super().__init__(f"Content cannot be stored: {path} {rule}.")


class PayloadTooLarge(PayloadError):
    """Content is larger than the limit, in bytes."""

    def __init__(self, size: int, limit: int, path: str = "content") -> None:
        self.size, self.limit = size, limit
        super().__init__(path, f"has {size} bytes, which exceeds maximum size of {limit} bytes")


class InvalidDump(UsageError, ValueError):
    """A line of a dump cannot be taken in."""

    def __init__(self, line: int, rule: str) -> None:
        self.line, self.rule = line, rule
        super().__init__(f"Line {line} of the dump cannot be loaded: {rule.rstrip('.')}.")


class ExclusiveReadError(UsageError, TypeError):
    """The read asked for does not exist on this kind of channel."""


class HandlerError(UsageError, TypeError):
    """A callback is not an ``async def`` function that takes one message."""

    def __init__(self, handler: object) -> None:
        self.handler = handler
        name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
        super().__init__(
            f"Handler {name!r} must be an async function that takes one message. "
            "Declare it with 'async def'; for blocking work await asyncio.to_thread(...) inside it."
        )


class UnknownMessage(UsageError, LookupError):
    """An id names no message of the channel."""

    def __init__(self, channel: str, id: str) -> None:
        self.channel, self.id = channel, id
        super().__init__(
            f"Channel {channel!r} holds no message with id {_show(id)}: it may have been removed, or it is "
            'no id. To begin elsewhere use "earliest", "new" or a sequence.'
        )


class MessageConflict(UsageError):
    """An id or dedupe key was used before with another body."""

    def __init__(self, channel: str, what: str, value: str) -> None:
        self.channel, self.what, self.value = channel, what, value
        super().__init__(
            f"Channel {channel!r} already has a message with {what} {_show(value)} and another body. "
            f"Use a new {what} for a new message."
        )


_VERBS = {
    "broadcast": "Bus.broadcast; in a shell publish, subscribe, history",
    "work queue": "Bus.work_queue; in a shell write, read, claim",
}
"""How each kind of channel is used, for those who took it for the other."""


class ChannelKindMismatch(UsageError):
    """The name is recorded in the store as the other kind of channel."""

    def __init__(self, channel: str, recorded: str, asked: str) -> None:
        self.channel, self.recorded, self.asked = channel, recorded, asked
        super().__init__(
            f"Channel {channel!r} is a {recorded} channel in this store, not a {asked} channel. "
            f"Use the recorded kind ({_VERBS.get(recorded, recorded)}) or another name."
        )


class MissingAbility(UsageError):
    """The channel asks for something its store cannot do."""

    def __init__(self, channel: str, store: str, abilities: Iterable[str]) -> None:
        self.channel, self.store, self.abilities = channel, store, tuple(abilities)
        super().__init__(
            f"Channel {channel!r} needs {', '.join(self.abilities)}, which the store {store} does not "
            "have. Leave out what asks for it, or use another store."
        )


class WeakDurability(UsageError):
    """The URL demands more than the server behind it promises."""

    def __init__(self, store: str, asked: str, given: str, why: str) -> None:
        self.store, self.asked, self.given, self.why = store, asked, given, why
        super().__init__(
            f"Store {store} was asked for durability={asked}, but promises {given!r}: {why}. Change that "
            "setting of the server, or ask for less."
        )


class MissingExtra(UsageError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature, self.extra = feature, extra
        super().__init__(f"{feature} needs an extra: run  pip install 'sssnbus[{extra}]'")


class StateError(BusError, RuntimeError):
    """The call came at the wrong moment or from the wrong place; nothing happened."""


class NotStarted(StateError):
    """The object has not been started yet."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} is not started. Call 'await start()' first, or use 'async with'.")


class NotBegun(NotStarted):
    """A subscription was used before it was awaited or entered."""

    def __init__(self, name: str) -> None:
        self.what = self.name = name
        StateError.__init__(
            self, f"Subscription {name!r} has not begun: await it, or enter it with 'async with'."
        )


class ClosedError(StateError):
    """The object was stopped or closed, or is about to be."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} is stopped and takes no more work. Start it again, or make a new one.")


class WrongLoop(StateError):
    """The object belongs to another event loop."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} was started in another event loop. Use it there, or start one of its own here."
        )


class ForkedProcess(StateError):
    """The process was forked after the object was started."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} was started before this process was forked and cannot be used here. "
            "Start a new one in the child, or use the 'spawn' start method."
        )


class FanOutDied(StateError):
    """The task that delivers messages ended by an error (the cause is chained)."""

    def __init__(self) -> None:
        super().__init__(
            "The delivery task of this event loop has died, so live messages are no longer handed "
            "out. Stop the bus and start it again; the cause is chained to this error."
        )


class ContentionError(BusError):
    """Somebody else holds or held what the call needs."""


class ClaimLost(ContentionError):
    """The claim has ended, or another worker holds the message now."""

    def __init__(self, channel: str, ids: Iterable[str], worker: str | None = None) -> None:
        self.channel, self.ids, self.worker = channel, tuple(ids), worker
        who = f"Worker {_show(worker)}" if worker else "The caller"
        super().__init__(
            f"{who} holds no claim on {', '.join(map(_show, self.ids))} in channel {channel!r}: it "
            "expired, was settled, or belongs to another worker. Nothing was changed; claim again."
        )


class SubscriptionInUse(ContentionError):
    """A durable subscription has one live owner, and it is somebody else."""

    retryable = True

    def __init__(self, channel: str, name: str) -> None:
        self.channel, self.name = channel, name
        super().__init__(
            f"Durable subscription {name!r} of channel {channel!r} is in use. Stop its owner, choose "
            "another name, or pass standby=True to wait for it."
        )


class SubscriptionLost(ContentionError):
    """A durable subscription was taken over, its record was moved or removed."""

    def __init__(self, channel: str, name: str) -> None:
        self.channel, self.name = channel, name
        super().__init__(
            f"Durable subscription {name!r} of channel {channel!r} was taken over by another owner. "
            "Messages since the last confirmed one are redelivered there."
        )


class SubscriptionDied(StateError):
    """The task that runs a subscription's callback ended by something it cannot survive."""

    def __init__(self, channel: str, name: str, error: BaseException) -> None:
        self.channel, self.name, self.error = channel, name, error
        super().__init__(
            f"Subscription {name!r} of channel {channel!r} has died by {type(error).__name__}. "
            "Subscribe again."
        )


class SubscriptionOverflow(ContentionError):
    """A subscription with on_full="disconnect" fell behind its buffer."""

    def __init__(self, channel: str, name: str, buffer: int) -> None:
        self.channel, self.name, self.buffer = channel, name, buffer
        super().__init__(
            f"Subscription {name!r} of channel {channel!r} was disconnected: its buffer of {buffer} "
            "messages was full. Subscribe again, or choose another on_full policy."
        )


class QueueFull(ContentionError):
    """A work queue is at its max_depth."""

    retryable = True

    def __init__(self, channel: str, depth: int, limit: int) -> None:
        self.channel, self.depth, self.limit = channel, depth, limit
        super().__init__(
            f"Queue {channel!r} holds {depth} messages and takes no more than {limit}. "
            "Write again when workers have made room."
        )


class BusTimeout(BusError, TimeoutError):
    """A deadline passed."""

    retryable = True


class DeliveryTimeout(BusTimeout):
    """The message is stored, but some local callbacks did not settle in time."""

    retryable = False

    def __init__(self, id: str, waiting_for: Iterable[str]) -> None:
        self.id, self.waiting_for = id, tuple(waiting_for)
        super().__init__(
            f"Message {id} is stored, but these subscribers have not finished with it: "
            f"{', '.join(self.waiting_for) or 'none'}. Do not write it again."
        )


class StoreTimeout(BusTimeout):
    """The store did not get to an operation before its deadline; it is never applied later."""

    def __init__(self, what: str, seconds: float) -> None:
        self.what, self.seconds = what, seconds
        super().__init__(
            f"{what} did not start within {seconds:g} s: the store was busy, or did not answer. Nothing was "
            "applied; try again."
        )


class StoreError(BusError):
    """The storage failed. What was acknowledged before is kept."""


class StoreUnavailable(StoreError):
    """The storage cannot be reached or opened now."""

    retryable = True


class OutcomeUnknown(StoreError):
    """No answer came while the store was changing something: it may or may not have happened."""

    def __init__(self, store: str, what: str) -> None:
        self.store, self.what = store, what
        super().__init__(
            f"Store {store} gave no answer, so the outcome of {what} is unknown. Try again; repeat a write "
            "under its dedupe key or id, or it may be stored twice."
        )


class StoreFull(StoreError):
    """There is no room to write. A store that is open can still be read."""

    retryable = True

    def __init__(self, store: str) -> None:
        self.store = store
        super().__init__(f"Store {store} has no room left. Nothing was stored; free space and try again.")


class StoreReadOnly(StoreError):
    """The storage may be read but not written."""

    def __init__(self, store: str) -> None:
        self.store = store
        super().__init__(
            f"Store {store} is read-only. Check the permissions of the file and of its directory, or that "
            "the server is no replica and lets this user write."
        )


class StoreReplaced(StoreError):
    """What an open store kept was deleted, replaced or set back."""

    def __init__(self, store: str, how: str = "deleted, replaced or hard-linked") -> None:
        self.store, self.how = store, how
        super().__init__(
            f"Store {store} was {how} while it was open, so nothing more is written to it. Restore it and "
            "start the bus again."
        )


class StoreReset(StoreError):
    """The store's newest message is older than a cursor: it lost or replaced its data."""

    def __init__(self, channel: str, cursor: int, last: int) -> None:
        self.channel, self.cursor, self.last = channel, cursor, last
        super().__init__(
            f"Channel {channel!r} ends at {last}, but the reader had reached {cursor}: the store lost "
            "data or was replaced. Seek the subscription to go on."
        )


class IncompatibleStore(StoreError):
    """What the URL names is no store of ours, or one of another schema version."""

    def __init__(self, store: str, reason: str) -> None:
        self.store, self.reason = store, reason
        super().__init__(f"{store} cannot be used: {reason}. It was left untouched.")


class MessageCorrupt(StoreError):
    """A stored message fails its checksum or cannot be decoded."""

    def __init__(self, channel: str, sequence: int, reason: str) -> None:
        self.channel, self.sequence, self.reason = channel, sequence, reason
        super().__init__(f"Message {sequence} of channel {channel!r} is damaged: {reason}.")


def _restore(kind: type[BusError], args: tuple[object, ...], state: dict[str, object]) -> BusError:
    error = kind.__new__(kind, *args)
    # Those that are TimeoutError, and so OSError, set them in __init__ only.
    error.args = args
    error.__dict__.update(state)
    return error


def _show(value: object) -> str:
    """Quote a value so that it cannot forge a log line, and keep it short."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
