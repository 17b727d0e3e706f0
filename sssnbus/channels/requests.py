"""Asking over a broadcast channel: a message that wants an answer, and the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import uuid4

from sssnbus.delivery.subscription import Subscription
from sssnbus.errors import BusTimeout, InvalidOption
from sssnbus.stored import Envelope, Receipt

if TYPE_CHECKING:
    from sssnbus.message import ChannelMessage


async def request(
    subscribe: Callable[[str], Subscription],
    write: Callable[[Envelope], Awaitable[Receipt]],
    envelope: Envelope,
    timeout: float,
    elapsed: Callable[[], float],
) -> ChannelMessage:
    """Write a message and return the first answer to it; see ``BroadcastChannel.request``."""
    correlation_id = envelope.get("correlation_id") or uuid4().hex
    # A name of its own for each request, so that no answer crosses over to another one.
    inbox = f"reply-{uuid4().hex}"
    asked: Envelope = {**envelope, "correlation_id": correlation_id, "reply_to": inbox}
    deadline = elapsed() + timeout
    # Listening begins before the question is there, so that no answer is too early.
    async with subscribe(inbox) as answers:
        await write(asked)
        try:
            while True:
                message = await anext(answers.listen(max(0.0, deadline - elapsed())))
                if message.recipient_id == inbox and message.correlation_id == correlation_id:
                    return message
        except BusTimeout:
            late = f"No answer came to the request with correlation id {correlation_id} within {timeout:g} s."
            raise BusTimeout(late) from None


def answer(request: ChannelMessage, envelope: Envelope) -> Envelope:
    """Return the envelope of an answer; raise ``InvalidOption`` if the message asks for none."""
    if request.reply_to is None:
        raise InvalidOption(
            "request", request.id, "this message has no reply_to, so nobody waits for an answer"
        )
    return {**envelope, "recipient_id": request.reply_to, "correlation_id": request.correlation_id}
