"""Errors form one tree, say what to do, carry what they are about, and survive being sent elsewhere."""

import copy
import pickle
from collections.abc import Iterator

import pytest

from sssnbus import errors
from sssnbus.errors import (
    BusError,
    BusTimeout,
    ChannelKindMismatch,
    ClaimLost,
    ClosedError,
    ContentionError,
    DeliveryTimeout,
    ExclusiveReadError,
    FanOutDied,
    ForkedProcess,
    HandlerError,
    IncompatibleStore,
    InvalidDump,
    InvalidName,
    InvalidOption,
    InvalidTopic,
    InvalidURL,
    MessageConflict,
    MessageCorrupt,
    MissingAbility,
    MissingExtra,
    NotBegun,
    NotStarted,
    OutcomeUnknown,
    PayloadError,
    PayloadTooLarge,
    QueueFull,
    StateError,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreReplaced,
    StoreReset,
    StoreTimeout,
    StoreUnavailable,
    SubscriptionDied,
    SubscriptionInUse,
    SubscriptionLost,
    SubscriptionOverflow,
    UnknownMessage,
    UsageError,
    WeakDurability,
    WrongLoop,
)

EVIL = "evil\n2024-01-01 root: all is well\x1b[2J"

ALL: list[BusError] = [
    InvalidName("channel name", EVIL, "it must be short"),
    InvalidTopic(EVIL, "it is empty"),
    InvalidURL(EVIL, "it has no scheme"),
    InvalidOption("limit", EVIL, "it must be above 0"),
    PayloadError("content['a']", "is set"),
    PayloadTooLarge(11, 10),
    InvalidDump(7, "it is not JSON: the line was changed or damaged"),
    ExclusiveReadError("BroadcastChannel does not support exclusive reads."),
    HandlerError(print),
    UnknownMessage("jobs", EVIL),
    MessageConflict("jobs", "id", EVIL),
    ChannelKindMismatch("jobs", "broadcast", "work queue"),
    MissingAbility("jobs", "memory://", iter(["Delay", "Priority"])),
    WeakDurability("redis://h", "disk", "none", "appendfsync is everysec"),
    MissingExtra("redis://", "redis"),
    NotStarted("Channel 'jobs'"),
    NotBegun("dashboard"),
    ClosedError("Channel 'jobs'"),
    WrongLoop("Channel 'jobs'"),
    ForkedProcess("Channel 'jobs'"),
    FanOutDied(),
    ClaimLost("jobs", ["17", EVIL], EVIL),
    SubscriptionDied("jobs", "me", KeyboardInterrupt()),
    SubscriptionInUse("jobs", "me"),
    SubscriptionLost("jobs", "me"),
    SubscriptionOverflow("jobs", "me", 8),
    QueueFull("jobs", 10, 10),
    DeliveryTimeout("17", iter(["me", "you"])),
    StoreTimeout("The write", 2.5),
    StoreUnavailable("Store sqlite:///x.db cannot be opened."),
    OutcomeUnknown("redis://localhost", "a write"),
    StoreFull("sqlite:///x.db"),
    StoreReadOnly("sqlite:///x.db"),
    StoreReplaced("sqlite:///x.db"),
    StoreReset("jobs", 7, 3),
    IncompatibleStore("sqlite:///x.db", "it is no store"),
    MessageCorrupt("jobs", 3, "its checksum does not match"),
]

each_error = pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)


def classes(root: type[BusError] = BusError) -> Iterator[type[BusError]]:
    """Yield every class of the tree that the package itself defines publicly."""
    if root.__module__ == errors.__name__:
        yield root
    for child in root.__subclasses__():
        if not child.__name__.startswith("_"):
            yield from classes(child)


def test_every_error_is_tried_here() -> None:
    """The list above has one of every class that is no branch."""
    branches = {BusError, UsageError, StateError, ContentionError, BusTimeout, StoreError}
    assert set(classes()) - branches == {type(error) for error in ALL}


def test_the_drawing_shows_every_error() -> None:
    """The tree in the module's text is the tree there is."""
    drawing = errors.__doc__ or ""
    assert [kind.__name__ for kind in classes() if kind.__name__ not in drawing] == []


@each_error
def test_sentences(error: BusError) -> None:
    """An error is one line of whole sentences, whatever was put into it."""
    text = str(error)
    assert text[0].isupper() or "://" in text.split()[0], "a sentence begins with a capital, or with a URL"
    assert text.endswith((".", "]'")), "a sentence, or a command to copy"
    assert text.isprintable()


@each_error
def test_copies(error: BusError) -> None:
    """An error can be copied and sent to another process with all that it carries."""
    if isinstance(error, HandlerError):
        pytest.skip("a handler is a function of this process")
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        # By their texts, since an error that is carried along is not equal to its copy.
        assert repr(vars(again)) == repr(vars(error))


def test_built_in_branches() -> None:
    """Who knows only Python's own errors can catch ours by them (SN-31)."""
    pairs: list[tuple[type[BusError], type[Exception]]] = [
        (InvalidName, ValueError),
        (InvalidTopic, ValueError),
        (InvalidURL, ValueError),
        (InvalidOption, ValueError),
        (PayloadTooLarge, ValueError),
        (ExclusiveReadError, TypeError),
        (HandlerError, TypeError),
        (UnknownMessage, LookupError),
        (MissingExtra, ImportError),
        (ClosedError, RuntimeError),
        (DeliveryTimeout, TimeoutError),
        (StoreTimeout, TimeoutError),
    ]
    for ours, builtin in pairs:
        assert issubclass(ours, builtin)


def test_retryable() -> None:
    """What may succeed by itself later says so; nothing else does."""
    retryable = {type(error) for error in ALL if error.retryable}
    assert retryable == {SubscriptionInUse, QueueFull, StoreTimeout, StoreUnavailable, StoreFull}


def test_attributes() -> None:
    """Errors carry what they are about, and keep what came as an iterator."""
    full = QueueFull("jobs", 10, 9)
    assert (full.channel, full.depth, full.limit) == ("jobs", 10, 9)
    assert DeliveryTimeout("17", iter(["me"])).waiting_for == ("me",)
    assert ClaimLost("jobs", iter(["17"])).ids == ("17",)
    assert MissingAbility("jobs", "x", iter(["Delay"])).abilities == ("Delay",)
    assert "waiting for" not in str(DeliveryTimeout("17", []))


def test_long_values_are_shortened() -> None:
    """A value that makes no sense is quoted, but not at any length."""
    assert len(str(InvalidName("id", "x" * 10_000, "it is too long"))) < 200
