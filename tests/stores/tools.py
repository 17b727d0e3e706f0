"""What the tests of all stores share."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings

from sssnbus.stored import Draft

T = TypeVar("T")


def draft(channel: str = "jobs", body: bytes = b"1", **more: Any) -> Draft:
    """Return a draft of which only a few things matter."""
    return Draft(channel, more.pop("id", None), 1.0, "me", None, "json", b"", body, 0, **more)


def runs(examples: int, steps: int) -> settings:
    """Return how much to try; the time of one run says nothing here."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


async def until(
    ask: Callable[[], Awaitable[T]], holds: Callable[[T], object] = bool, patience: float = 20.0
) -> None:
    """Ask now and then until the answer is as it should be; the limit only fails.

    Args:
        ask: What to ask: somebody else, as a server or another process, so that there is no event.
        holds: Says whether an answer will do.
        patience: Seconds after which it never will.
    """
    async with asyncio.timeout(patience):
        while not holds(await ask()):  # noqa: ASYNC110  # who is asked is elsewhere
            await asyncio.sleep(0.01)
