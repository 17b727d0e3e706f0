"""A claim for the length of a block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType

from sssnbus.delivery.claims import Claim
from sssnbus.delivery.desk import Desk
from sssnbus.errors import StateError


class Claiming:
    """``async with queue.claim(...)``: waits for a message, and settles it by how the block ends."""

    def __init__(self, desk: Callable[[], Awaitable[Desk]], worker: str, timeout: float | None) -> None:
        self._get_desk, self._worker, self._timeout = desk, worker, timeout
        self._claim: Claim | None = None

    async def __aenter__(self) -> Claim:
        if self._claim is not None:
            raise StateError("A claim can be entered once; call claim() again for the next message.")
        desk = await self._get_desk()
        (self._claim,) = await desk.wait(self._worker, self._timeout)
        return self._claim

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._claim is not None:
            await self._claim.conclude(error)
