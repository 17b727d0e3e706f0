"""The life of a store: opening, who may call when, closing, and what a fork leaves of it."""

import asyncio
import os
import warnings
from abc import abstractmethod
from enum import Enum
from typing import Final
from weakref import WeakSet

from sssnbus.errors import ClosedError, ForkedProcess, NotStarted, StateError, WrongLoop
from sssnbus.stores.base import Store
from sssnbus.stores.loop import outlive

_PATIENCE: Final = 1.0
"""Seconds for taking down a store that was closed while it was being opened."""


class Phase(Enum):
    """Where a store is in its life."""

    NEW = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3
    FORKED = 4


class LivingStore(Store):
    """A store with something to open and to close. It belongs to the loop and the process that opened it."""

    def __init__(self) -> None:
        self._phase = Phase.NEW
        self._loop: asyncio.AbstractEventLoop | None = None
        self._mutex = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        if self._phase is Phase.NEW:
            async with self._mutex:
                if self._phase is Phase.NEW:
                    await self._open()
                    await self._begin_life()
        self._check()

    async def aclose(self, grace: float = 5.0) -> None:
        if self._phase is Phase.NEW:
            self._phase = Phase.CLOSED
        if self._phase is Phase.FORKED:
            raise self._misuse()
        if self._closing is None:
            if self._phase is Phase.CLOSED:
                return
            loop = asyncio.get_running_loop()
            if loop is not self._loop:
                self._close_from_elsewhere()
                return
            self._phase = Phase.CLOSING
            self._closing = loop.create_task(self._take_down(grace), name=f"close {self.url}")
        # It takes no longer than its grace, and leaving now would leave things open.
        await outlive(self._closing)
        self._closing.result()

    def __del__(self) -> None:
        if getattr(self, "_phase", None) is Phase.OPEN:
            warnings.warn(f"Store {self.url} was never closed", ResourceWarning, stacklevel=2)
            self._phase = Phase.CLOSED
            self._let_go()

    @abstractmethod
    async def _open(self) -> None:
        """Connect, and begin whatever serves the store. A failure leaves nothing behind."""

    @abstractmethod
    async def _close(self, grace: float) -> None:
        """Give back what is held and take everything down, within ``grace`` seconds, whatever goes wrong."""

    @abstractmethod
    def _let_go(self) -> None:
        """Cut everything. Never waits; works from any thread, and when the loop is closed."""

    def _forked(self) -> None:
        """Close copies of what belongs to the parent. Called in a forked child; takes no lock.

        Most stores share nothing with a child that it could damage.
        """

    def _check(self) -> None:
        """Refuse a call at the wrong moment or from the wrong place."""
        try:
            if self._phase is Phase.OPEN and asyncio.get_running_loop() is self._loop:
                return
        except RuntimeError:
            # There is no loop here at all.
            pass
        raise self._misuse()

    def _misuse(self) -> StateError:
        what = f"Store {self.url}"
        if self._phase is Phase.FORKED:
            return ForkedProcess(what)
        if self._phase is Phase.NEW:
            return NotStarted(what)
        return WrongLoop(what) if self._phase is Phase.OPEN else ClosedError(what)

    async def _begin_life(self) -> None:
        closed_meanwhile = self._phase is not Phase.NEW
        self._loop, self._phase = asyncio.get_running_loop(), Phase.OPEN
        _living.add(self)
        if closed_meanwhile:
            self._phase = Phase.CLOSING
            await self._take_down(_PATIENCE)

    async def _take_down(self, grace: float) -> None:
        try:
            await self._close(grace)
        finally:
            self._phase = Phase.CLOSED

    def _close_from_elsewhere(self) -> None:
        """Close for a loop that is gone."""
        assert self._loop is not None, "it was opened"
        if not self._loop.is_closed():
            raise WrongLoop(f"Store {self.url}")
        self._phase = Phase.CLOSED
        self._let_go()


_living: WeakSet[LivingStore] = WeakSet()


def _after_fork() -> None:
    """In a forked child: nothing that was open before is its own."""
    for store in list(_living):
        if store._phase is not Phase.CLOSED:
            store._phase = Phase.FORKED
            store._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
