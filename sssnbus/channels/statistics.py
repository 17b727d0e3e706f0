"""Snapshots of channels, as ``statistics()`` returns them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sssnbus.delivery.subscription import SubscriptionStatistics
    from sssnbus.delivery.workers import WorkerStatistics
    from sssnbus.stores.base import Kind


@dataclass(frozen=True, slots=True)
class SubscriptionInfo:
    """A snapshot of one durable subscription, whichever process owns it."""

    channel: str
    name: str
    position: int
    """Everything up to this sequence is done."""
    lag: int
    """Sequences between that and the newest message."""
    active: bool
    """Whether a living process owns it."""


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """A snapshot of one channel as its store keeps it, whichever process uses it."""

    name: str
    kind: Kind
    last: int
    """The newest sequence ever given out."""
    messages: int
    """Messages kept now, in any state; dead letters are not counted."""
    size: int
    """Bytes of their contents and headers."""
    ready: int
    """Messages that wait for a worker, those behind another one of their ordering key included."""
    delayed: int
    """Messages whose time has not come."""
    leased: int
    """Messages that workers hold."""
    done: int
    """Messages that are settled but kept until vacuum."""
    dead: int
    """Dead letters."""


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """A snapshot of a whole store."""

    url: str
    """Where it is, without secrets."""
    durability: str
    """What an acknowledged message survives: ``"none"``, ``"process"`` or ``"disk"``."""
    messages: int
    """Messages in all channels, in any state; dead letters are not counted."""
    last_id: str | None
    """No id that the store has made is above it, every later one is; None if it cannot tell."""
    size: int
    """Bytes on the medium, 0 if the store cannot tell."""


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
    """Messages that wait for a worker, those behind another one of their ordering key included."""
    delayed: int
    """Messages whose time has not come."""
    leased: int
    """Messages that workers hold."""
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
