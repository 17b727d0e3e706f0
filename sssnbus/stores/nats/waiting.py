"""Waiting for a stream that nobody answers for: it was dropped, or its server is not ready yet."""

from sssnbus.errors import OutcomeUnknown
from sssnbus.stores.nats.failure import NOT_SENT
from sssnbus.stores.nats.link import Link


async def until_ready(link: Link, stream: str, deadline: float, write: str | None = None) -> None:
    """Return when a stream is worth another try.

    Args:
        link: The connection.
        stream: What was asked for.
        deadline: When to give up, on the loop's clock.
        write: What was sent before, if that may have been taken.

    Raises:
        Missing: there is no such stream.
        OutcomeUnknown: the time is over, and nobody knows what became of the write.
        StoreUnavailable: the time is over, and nothing was changed.
    """
    try:
        # Its own question tells whether it is there.
        await link.api(f"STREAM.INFO.{stream}", deadline=deadline)
        await link.pause(deadline)
    except NOT_SENT as error:
        if write is not None:
            raise OutcomeUnknown(link.url, write) from error
        raise
