"""Your first channel: one writes, everybody who subscribed hears it.

A *channel* is a named stream of messages. This one is a broadcast channel: every subscriber gets every
message. Without being told where to keep them, it keeps them in memory, so there is nothing to install,
to configure or to clean up. The five lines that matter are the first and the last of `main` and the three
verbs between them: subscribe, write, read.

Run it:  python tutorials/01_first_channel.py
"""

# A type checker asks of which class `content` is before it lets you use `.data`. Tutorial 04 shows how to
# tell; the short programs do without:
# mypy: disable-error-code="attr-defined"

import asyncio

from sssnbus import BroadcastChannel, ChannelMessage


async def main() -> None:
    # 1. A channel has an id, by which others find it, and a name for people. Making one does nothing yet;
    #    `start` opens it. (`async with BroadcastChannel(...) as bus` starts and stops it by itself.)
    bus = BroadcastChannel(id="events", name="Event Bus")
    await bus.start()

    # 2. A subscriber is a name and an `async def` function of one message. What was written is
    #    `message.content.data`; the rest of the message says who wrote it, when, and as which number.
    async def on_event(message: ChannelMessage) -> None:
        print(f"{message.sender_id} wrote number {message.sequence}: {message.content.data}")

    await bus.subscribe("printer", on_event)

    # 3. Write anything that JSON can hold. When `write` returns, the subscribers of this process have
    #    handled the message: the line above is printed first, then the one below.
    receipt = await bus.write("service", {"type": "user.login"})
    print("written as number", receipt.sequence)

    # 4. Messages are not gone when they were delivered. Whoever comes later reads what there was.
    for message in await bus.read("carol", limit=100):
        print("carol reads:", message.content.data["type"])

    # 5. Nothing hangs around after `stop`: the program ends here.
    await bus.stop()


if __name__ == "__main__":
    asyncio.run(main())
