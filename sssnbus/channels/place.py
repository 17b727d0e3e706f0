"""Where a started channel lives, and who it belongs to."""

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from sssnbus.delivery.fanout import FanOut, Tail
from sssnbus.stores.base import Catalogue, LogStore


class Host(Protocol):
    """Who a channel belongs to, if it does not stand alone."""

    async def store(self) -> LogStore:
        """Return the open store; raise if the host is not running."""


class Life(Enum):
    """Where a channel is in its life."""

    NEW = "not started"
    STARTED = "started"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a started channel lives."""

    store: LogStore
    catalogue: Catalogue
    owned: bool
    fanout: FanOut
    tail: Tail
    loop: asyncio.AbstractEventLoop
    pid: int
    instant: bool
    """Whether the store's verbs never wait for anything."""
