"""An event bus for asyncio that starts as one SQLite file, with no broker, and moves to a server by a URL."""

# How the rooms lie on top of each other; each knows only what is below it:
#
#     cli              comes in by this door, as any other program does
#     testing
#     bus              opens the store, owns the channels
#     archive          a store as a stream of records: dump and load
#     channels         the rules of each kind: broadcast, work queue
#     delivery         the fan-out, subscriptions, claims
#     stores           where messages are kept: memory, SQLite, PostgreSQL, Redis, NATS
#     message          what users see, and how it is encoded
#     stored · topics · settings
#     errors · clock

# Names are loaded when they are first asked for, so that a short command pays only for what it uses.
# Type checkers and people read the imports; the table below them says the same to Python.

import typing
from importlib import import_module as _import_module

if typing.TYPE_CHECKING:
    from sssnbus.archive.load import Loaded as Loaded
    from sssnbus.bus import Bus as Bus
    from sssnbus.channels.base import Channel as Channel
    from sssnbus.channels.broadcast import BroadcastChannel as BroadcastChannel
    from sssnbus.channels.dead_letters import DeadLetters as DeadLetters
    from sssnbus.channels.reading import History as History
    from sssnbus.channels.statistics import BroadcastStatistics as BroadcastStatistics
    from sssnbus.channels.statistics import ChannelInfo as ChannelInfo
    from sssnbus.channels.statistics import QueueStatistics as QueueStatistics
    from sssnbus.channels.statistics import StoreUsage as StoreUsage
    from sssnbus.channels.statistics import SubscriptionInfo as SubscriptionInfo
    from sssnbus.channels.work_queue import WorkQueueChannel as WorkQueueChannel
    from sssnbus.clock import Clock as Clock
    from sssnbus.clock import SystemClock as SystemClock
    from sssnbus.delivery.claims import Claim as Claim
    from sssnbus.delivery.feed import Gap as Gap
    from sssnbus.delivery.feed import Handler as Handler
    from sssnbus.delivery.feed import Lagged as Lagged
    from sssnbus.delivery.feed import Notice as Notice
    from sssnbus.delivery.feed import Start as Start
    from sssnbus.delivery.subscription import Subscription as Subscription
    from sssnbus.delivery.subscription import SubscriptionStatistics as SubscriptionStatistics
    from sssnbus.delivery.workers import Workers as Workers
    from sssnbus.delivery.workers import WorkerStatistics as WorkerStatistics
    from sssnbus.errors import BusError as BusError
    from sssnbus.errors import BusTimeout as BusTimeout
    from sssnbus.errors import ChannelKindMismatch as ChannelKindMismatch
    from sssnbus.errors import ClaimLost as ClaimLost
    from sssnbus.errors import ClosedError as ClosedError
    from sssnbus.errors import ContentionError as ContentionError
    from sssnbus.errors import DeliveryTimeout as DeliveryTimeout
    from sssnbus.errors import ExclusiveReadError as ExclusiveReadError
    from sssnbus.errors import FanOutDied as FanOutDied
    from sssnbus.errors import ForkedProcess as ForkedProcess
    from sssnbus.errors import HandlerError as HandlerError
    from sssnbus.errors import IncompatibleStore as IncompatibleStore
    from sssnbus.errors import InvalidDump as InvalidDump
    from sssnbus.errors import InvalidName as InvalidName
    from sssnbus.errors import InvalidOption as InvalidOption
    from sssnbus.errors import InvalidTopic as InvalidTopic
    from sssnbus.errors import InvalidURL as InvalidURL
    from sssnbus.errors import MessageConflict as MessageConflict
    from sssnbus.errors import MessageCorrupt as MessageCorrupt
    from sssnbus.errors import MissingAbility as MissingAbility
    from sssnbus.errors import MissingExtra as MissingExtra
    from sssnbus.errors import NotBegun as NotBegun
    from sssnbus.errors import NotStarted as NotStarted
    from sssnbus.errors import OutcomeUnknown as OutcomeUnknown
    from sssnbus.errors import PayloadError as PayloadError
    from sssnbus.errors import PayloadTooLarge as PayloadTooLarge
    from sssnbus.errors import QueueFull as QueueFull
    from sssnbus.errors import StateError as StateError
    from sssnbus.errors import StoreError as StoreError
    from sssnbus.errors import StoreFull as StoreFull
    from sssnbus.errors import StoreReadOnly as StoreReadOnly
    from sssnbus.errors import StoreReplaced as StoreReplaced
    from sssnbus.errors import StoreReset as StoreReset
    from sssnbus.errors import StoreTimeout as StoreTimeout
    from sssnbus.errors import StoreUnavailable as StoreUnavailable
    from sssnbus.errors import SubscriptionDied as SubscriptionDied
    from sssnbus.errors import SubscriptionInUse as SubscriptionInUse
    from sssnbus.errors import SubscriptionLost as SubscriptionLost
    from sssnbus.errors import SubscriptionOverflow as SubscriptionOverflow
    from sssnbus.errors import UnknownMessage as UnknownMessage
    from sssnbus.errors import UsageError as UsageError
    from sssnbus.errors import WeakDurability as WeakDurability
    from sssnbus.errors import WrongLoop as WrongLoop
    from sssnbus.message import BytesContent as BytesContent
    from sssnbus.message import ChannelMessage as ChannelMessage
    from sssnbus.message import GenericContent as GenericContent
    from sssnbus.message import MessageContent as MessageContent
    from sssnbus.message import UnknownContent as UnknownContent
    from sssnbus.settings import Confirm as Confirm
    from sssnbus.settings import OnFull as OnFull
    from sssnbus.settings import Retention as Retention
    from sssnbus.settings import Retry as Retry
    from sssnbus.stored import Receipt as Receipt
    from sssnbus.topics import Pattern as Pattern

__version__ = "0.1.0"

__all__ = [
    "BroadcastChannel",
    "BroadcastStatistics",
    "Bus",
    "BusError",
    "BusTimeout",
    "BytesContent",
    "Channel",
    "ChannelInfo",
    "ChannelKindMismatch",
    "ChannelMessage",
    "Claim",
    "ClaimLost",
    "Clock",
    "ClosedError",
    "Confirm",
    "ContentionError",
    "DeadLetters",
    "DeliveryTimeout",
    "ExclusiveReadError",
    "FanOutDied",
    "ForkedProcess",
    "Gap",
    "GenericContent",
    "Handler",
    "HandlerError",
    "History",
    "IncompatibleStore",
    "InvalidDump",
    "InvalidName",
    "InvalidOption",
    "InvalidTopic",
    "InvalidURL",
    "Lagged",
    "Loaded",
    "MessageConflict",
    "MessageContent",
    "MessageCorrupt",
    "MissingAbility",
    "MissingExtra",
    "NotBegun",
    "NotStarted",
    "Notice",
    "OnFull",
    "OutcomeUnknown",
    "Pattern",
    "PayloadError",
    "PayloadTooLarge",
    "QueueFull",
    "QueueStatistics",
    "Receipt",
    "Retention",
    "Retry",
    "Start",
    "StateError",
    "StoreError",
    "StoreFull",
    "StoreReadOnly",
    "StoreReplaced",
    "StoreReset",
    "StoreTimeout",
    "StoreUnavailable",
    "StoreUsage",
    "Subscription",
    "SubscriptionDied",
    "SubscriptionInUse",
    "SubscriptionInfo",
    "SubscriptionLost",
    "SubscriptionOverflow",
    "SubscriptionStatistics",
    "SystemClock",
    "UnknownContent",
    "UnknownMessage",
    "UsageError",
    "WeakDurability",
    "WorkQueueChannel",
    "WorkerStatistics",
    "Workers",
    "WrongLoop",
    "__version__",
]

_HOMES = {
    "BroadcastChannel": "sssnbus.channels.broadcast",
    "BroadcastStatistics": "sssnbus.channels.statistics",
    "Bus": "sssnbus.bus",
    "BusError": "sssnbus.errors",
    "BusTimeout": "sssnbus.errors",
    "BytesContent": "sssnbus.message",
    "Channel": "sssnbus.channels.base",
    "ChannelInfo": "sssnbus.channels.statistics",
    "ChannelKindMismatch": "sssnbus.errors",
    "ChannelMessage": "sssnbus.message",
    "Claim": "sssnbus.delivery.claims",
    "ClaimLost": "sssnbus.errors",
    "Clock": "sssnbus.clock",
    "ClosedError": "sssnbus.errors",
    "Confirm": "sssnbus.settings",
    "ContentionError": "sssnbus.errors",
    "DeadLetters": "sssnbus.channels.dead_letters",
    "DeliveryTimeout": "sssnbus.errors",
    "ExclusiveReadError": "sssnbus.errors",
    "FanOutDied": "sssnbus.errors",
    "ForkedProcess": "sssnbus.errors",
    "Gap": "sssnbus.delivery.feed",
    "GenericContent": "sssnbus.message",
    "Handler": "sssnbus.delivery.feed",
    "HandlerError": "sssnbus.errors",
    "History": "sssnbus.channels.reading",
    "IncompatibleStore": "sssnbus.errors",
    "InvalidDump": "sssnbus.errors",
    "InvalidName": "sssnbus.errors",
    "InvalidOption": "sssnbus.errors",
    "InvalidTopic": "sssnbus.errors",
    "InvalidURL": "sssnbus.errors",
    "Lagged": "sssnbus.delivery.feed",
    "Loaded": "sssnbus.archive.load",
    "MessageConflict": "sssnbus.errors",
    "MessageContent": "sssnbus.message",
    "MessageCorrupt": "sssnbus.errors",
    "MissingAbility": "sssnbus.errors",
    "MissingExtra": "sssnbus.errors",
    "NotBegun": "sssnbus.errors",
    "NotStarted": "sssnbus.errors",
    "Notice": "sssnbus.delivery.feed",
    "OnFull": "sssnbus.settings",
    "OutcomeUnknown": "sssnbus.errors",
    "Pattern": "sssnbus.topics",
    "PayloadError": "sssnbus.errors",
    "PayloadTooLarge": "sssnbus.errors",
    "QueueFull": "sssnbus.errors",
    "QueueStatistics": "sssnbus.channels.statistics",
    "Receipt": "sssnbus.stored",
    "Retention": "sssnbus.settings",
    "Retry": "sssnbus.settings",
    "Start": "sssnbus.delivery.feed",
    "StateError": "sssnbus.errors",
    "StoreError": "sssnbus.errors",
    "StoreFull": "sssnbus.errors",
    "StoreReadOnly": "sssnbus.errors",
    "StoreReplaced": "sssnbus.errors",
    "StoreReset": "sssnbus.errors",
    "StoreTimeout": "sssnbus.errors",
    "StoreUnavailable": "sssnbus.errors",
    "StoreUsage": "sssnbus.channels.statistics",
    "Subscription": "sssnbus.delivery.subscription",
    "SubscriptionDied": "sssnbus.errors",
    "SubscriptionInUse": "sssnbus.errors",
    "SubscriptionInfo": "sssnbus.channels.statistics",
    "SubscriptionLost": "sssnbus.errors",
    "SubscriptionOverflow": "sssnbus.errors",
    "SubscriptionStatistics": "sssnbus.delivery.subscription",
    "SystemClock": "sssnbus.clock",
    "UnknownContent": "sssnbus.message",
    "UnknownMessage": "sssnbus.errors",
    "UsageError": "sssnbus.errors",
    "WeakDurability": "sssnbus.errors",
    "WorkQueueChannel": "sssnbus.channels.work_queue",
    "WorkerStatistics": "sssnbus.delivery.workers",
    "Workers": "sssnbus.delivery.workers",
    "WrongLoop": "sssnbus.errors",
}


if not typing.TYPE_CHECKING:  # or else type checkers would believe in any name

    def __getattr__(name):
        if (home := _HOMES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(home), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
