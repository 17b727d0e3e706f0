"""Claims: how a message of a work queue is held, settled, retried and given up."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sssnbus.delivery.handling import text_of
from sssnbus.errors import BusError, StateError
from sssnbus.stores.base import Lease, Release, Settlement

if TYPE_CHECKING:
    from sssnbus.delivery.desk import Desk
    from sssnbus.message import ChannelMessage

log = logging.getLogger("sssnbus")


class Claim:
    """One worker's hold on one message, renewed by itself until it is settled; see ``hold`` for others."""

    def __init__(self, desk: Desk, message: ChannelMessage, worker: str, lease: Lease) -> None:
        self.message = message
        self.worker = worker
        self.token = lease.token
        """Proves the hold. Whoever has it and the message's id may settle the claim."""
        self.attempt = lease.attempt
        """1 for the first time the message is handed out."""
        self.deadline = lease.deadline
        """When the hold ends unless it is renewed, on ``Clock.elapsed``."""
        self.sequence = lease.stored.sequence
        self.settled = False
        self._desk = desk

    async def ack(self) -> None:
        """The message is done: it is removed, or kept as done if the channel says so. Durable on return.

        If cancelled, it is finished all the same before the cancellation is raised.

        Raises:
            ClaimLost: the hold had ended; nothing was changed.
            StateError: the claim was settled before.
        """
        self._end()
        await self._desk.settle([self], [self._desk.done(self)])

    async def nack(self, *, delay: float | None = None, error: BaseException | str | None = None) -> None:
        """The attempt failed: the message is ready again, or dead after its last attempt.

        Args:
            delay: Seconds until it is ready; by the channel's ``retry`` when left out.
            error: What went wrong, kept with the message.

        Raises:
            ClaimLost: the hold had ended; nothing was changed.
            StateError: the claim was settled before.
        """
        self._end()
        await self._desk.settle([self], [self._desk.failed(self, text_of(error), delay)])

    async def release(self) -> None:
        """Give the message back as if it had never been taken: no attempt is counted."""
        self._end()
        await self._desk.settle([self], [Release(self.sequence, self.token, counted=False)])

    async def conclude(self, error: BaseException | None) -> None:
        """Settle it by how the work ended: done, failed by an exception, or given back if it was cancelled.

        Nobody will settle it again, so what the store cannot do now is done as soon as it can.

        Raises:
            BusError: it could not be settled, and no other error is on its way out.
        """
        if self.settled:
            return
        settlement: Settlement
        if error is None:
            settlement = self._desk.done(self)
        elif isinstance(error, Exception):
            settlement = self._desk.failed(self, text_of(error), None)
        else:
            # Cancelled or interrupted: that is nobody's failure.
            settlement = Release(self.sequence, self.token, counted=False)
        self._end()
        try:
            await self._desk.settle([self], [settlement])
        except asyncio.CancelledError as cancelled:
            self._desk.settle_at_last([self], [settlement], cancelled.__cause__)
            raise
        except BusError as failure:
            self._desk.settle_at_last([self], [settlement], failure)
            if error is None:
                raise
            log.warning("%s", failure)

    async def extend(self, seconds: float) -> None:
        """Let the hold end ``seconds`` from now; it is renewed no longer.

        Raises:
            ClaimLost: the hold had ended.
        """
        if self.settled:
            raise StateError(f"The claim on message {self.message.id} is settled.")
        self.deadline = await self._desk.extend(self, seconds)

    def _end(self) -> None:
        if self.settled:
            raise StateError(f"The claim on message {self.message.id} is settled.")
        self.settled = True
