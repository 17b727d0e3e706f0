"""Requests and their answers."""

import asyncio

import pytest

from sssnbus import Bus, BusTimeout, ChannelMessage, InvalidOption


async def test_request_and_reply(bus: Bus) -> None:
    """A request returns the answer to it, which carries its correlation id (SN-51, FX-40)."""
    channel = bus.broadcast("rpc")

    async def multiply(message: ChannelMessage) -> None:
        if message.reply_to is not None:
            await channel.reply(message, "server", message.content.data[0] * message.content.data[1])

    await channel.subscribe("server", multiply)
    answer = await channel.request("client", [6, 7], correlation_id="c1")
    assert (answer.content.data, answer.correlation_id, answer.sender_id) == (42, "c1", "server")


async def test_answers_do_not_cross(bus: Bus) -> None:
    """Many requests at once get each its own answer, whatever the order of the answers (FX-43)."""
    channel = bus.broadcast("rpc")
    waiting: list[ChannelMessage] = []

    async def answer_backwards(message: ChannelMessage) -> None:
        if message.reply_to is None:
            return
        waiting.append(message)
        if len(waiting) == 5:
            for request in reversed(waiting):
                await channel.reply(request, "server", request.content.data * 10)

    await channel.subscribe("server", answer_backwards)
    answers = await asyncio.gather(*(channel.request("client", n) for n in range(5)))
    assert [answer.content.data for answer in answers] == [0, 10, 20, 30, 40]


async def test_no_answer(bus: Bus) -> None:
    """A request that nobody answers ends by a time-out that names it (FX-42)."""
    with pytest.raises(BusTimeout, match="correlation id c2"):
        await bus.broadcast("rpc").request("client", 1, timeout=0.01, correlation_id="c2")


async def test_nobody_asked(bus: Bus) -> None:
    """A message that asks for no answer gets none (FX-41)."""
    channel = bus.broadcast("rpc")
    await channel.write("client", 1)
    (message,) = await channel.read("server")
    with pytest.raises(InvalidOption, match="reply_to"):
        await channel.reply(message, "server", 2)
