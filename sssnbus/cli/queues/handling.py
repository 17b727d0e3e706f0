"""Opening queues, and handing their messages over to whoever reads standard output."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sssnbus.cli.problem import Problem
from sssnbus.cli.settings import Settings

if TYPE_CHECKING:
    from sssnbus import Bus, ChannelInfo, ChannelMessage, WorkQueueChannel

SENDER: Final = "cli"
"""Who writes, in the messages of the command line."""

WORKER: Final = f"cli-{os.getpid()}"
"""Who claims, for people to see."""

_MANY_DONE: Final = 10_000
"""A queue is not vacuumed by itself before it has so many consumed messages."""


def queue_of(bus: "Bus", name: str, settings: Settings) -> "WorkQueueChannel":
    """Return a queue as the command line uses it: what is consumed stays counted until vacuum."""
    return bus.work_queue(
        name,
        keep_done=True,
        # It is renewed as long as this process lives, and short for those who come after its death.
        claim_timeout=settings.claim_timeout,
        max_payload=settings.max_message_size,
    )


async def is_there(bus: "Bus", name: str) -> bool:
    """Return whether a queue has ever held a message, without making it.

    Looking for a queue must not declare it: the name may be meant for a channel.
    """
    store = await bus.store()
    return (await store.last([name]))[name] > 0


async def found(bus: "Bus", name: str) -> "ChannelInfo | None":
    """Return what the store knows of a queue, None if it holds nothing: neither ready nor consumed.

    Raises:
        Problem: it is a channel of the other kind.
    """
    info = await bus.channel(name)
    if info is None:
        return None
    if not is_queue(info):
        raise Problem(
            f"{name!r} is a {info.kind} channel, not a queue; use the commands of channels for it",
            code="INVALID_ARGUMENT",
        )
    return info if info.messages else None


def is_queue(info: "ChannelInfo") -> bool:
    """Return whether a channel is a queue."""
    from sssnbus.stores import Kind

    return info.kind is Kind.QUEUE


async def hand_over(
    queue: "WorkQueueChannel", messages: "Sequence[ChannelMessage]", put: "Callable[[ChannelMessage], None]"
) -> None:
    """Print claimed messages, and only then say that they are done.

    Whatever ends it, what was printed is acknowledged and the rest given back as if never taken. If the
    process is killed in between, some may be printed again; none is lost.

    Raises:
        BrokenPipeError: nobody reads any more.
        ClaimLost: somebody else may have got what was printed.
    """
    printed: list[str] = []
    try:
        for message in messages:
            put(message)
            printed.append(message.id)
    except BaseException:
        await _settle(queue, messages, printed)
        raise
    await queue.acknowledge(WORKER, printed)


async def _settle(
    queue: "WorkQueueChannel", messages: "Sequence[ChannelMessage]", printed: Sequence[str]
) -> None:
    from sssnbus import ClaimLost

    rest = [message.id for message in messages if message.id not in set(printed)]
    # A hold that had ended is no news now: there is an error on its way out already.
    with suppress(ClaimLost):
        await queue.acknowledge(WORKER, printed)
    with suppress(ClaimLost):
        await queue.release(WORKER, rest)


async def tidy(queue: "WorkQueueChannel", settings: Settings, taken: "Sequence[ChannelMessage]") -> None:
    """Vacuum a queue of which messages were just consumed, if it holds very many consumed ones.

    It looks once in a while only, told by the sequences: so many commands together look as often as one.
    """
    interval = max(1, settings.auto_vacuum_interval)
    if not settings.auto_vacuum or not any(message.sequence % interval == 0 for message in taken):
        return
    counts = await queue.statistics()
    total = counts.ready + counts.delayed + counts.leased + counts.done
    if counts.done > _MANY_DONE and counts.done * 100 >= settings.vacuum_threshold * total:
        await queue.vacuum()
