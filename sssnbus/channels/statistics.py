"""Snapshots of channels, as ``statistics()`` returns them."""

from dataclasses import dataclass

from sssnbus.delivery.subscription import SubscriptionStatistics
from sssnbus.delivery.workers import WorkerStatistics


@dataclass(frozen=True, slots=True)
class DurableStatistics:
    """A snapshot of one durable subscription, whichever process owns it."""

    name: str
    position: int
    """Everything up to this sequence is done."""
    lag: int
    """Sequences between that and the newest message."""
    active: bool
    """Whether a living process owns it."""


@dataclass(frozen=True, slots=True)
class BroadcastStatistics:
    """A snapshot of a broadcast channel."""

    id: str
    last: int
    """The newest sequence ever given out."""
    messages: int
    """Messages kept now."""
    size: int
    """Bytes of their contents and headers."""
    dead: int
    """Dead letters."""
    durability: str
    """What an acknowledged message survives: ``"none"``, ``"process"`` or ``"disk"``."""
    subscriptions: tuple[SubscriptionStatistics, ...]
    """Those of this channel object."""


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """A snapshot of a work queue."""

    id: str
    last: int
    """The newest sequence ever given out."""
    ready: int
    """Messages that a worker could claim now, those waiting behind their ordering key included."""
    delayed: int
    leased: int
    done: int
    """Messages that are settled but kept until vacuum."""
    dead: int
    """Dead letters."""
    size: int
    """Bytes of contents and headers."""
    durability: str
    """What an acknowledged message survives: ``"none"``, ``"process"`` or ``"disk"``."""
    workers: tuple[WorkerStatistics, ...]
    """The subscriptions of this channel object."""
