"""From one file to a cluster: the same program on SQLite, and then on NATS.

When one machine is no longer enough, the program stays as it is and gets another URL. What the file holds
goes along: messages with their ids, jobs as they stand, and the places of durable subscriptions, so that
everybody goes on where they were.

It needs a NATS server with JetStream, as ``nats-server -js`` runs it, and what talks to it:
``pip install 'sssnbus[nats]'``. The environment may say where the server is: NATS_URL.
"""

import asyncio
import os
import tempfile

from sssnbus import Bus, ChannelMessage

CLUSTER = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")


async def working_day(url: str, orders: list[str]) -> None:
    """The program: it knows nothing of stores but a URL."""
    async with Bus(url) as bus:
        events, parcels = bus.broadcast("orders"), bus.work_queue("parcels")
        for order in orders:
            await events.write("shop", {"order": order}, topic="order.placed")
            await parcels.write("shop", {"pack": order})

        # One parcel a day: the others wait in the queue.
        async with parcels.claim("packer") as claim:
            print("  packed", claim.message.content.data["pack"])

        closing_time = asyncio.Event()

        async def mail(message: ChannelMessage) -> None:
            print("  mailed about", message.content.data["order"])
            if message.content.data["order"] == orders[-1]:
                closing_time.set()

        async with events.subscribe("mailer", mail, durable=True, start="earliest"):
            await closing_time.wait()


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = f"sqlite:///{folder}/shop.db"
        print("On one file:")
        await working_day(file, ["teapot", "kettle"])

        print("Moving over:")
        # ``sssnbus --url ... dump | sssnbus --url ... load`` does the same in the shell.
        async with Bus(file) as old, Bus(CLUSTER) as new:
            loaded = await new.load(old.dump())
        print(f"  {loaded.messages} messages, {loaded.places} place")

        print("On a cluster:")
        # The mailer does not begin anew, and the kettle still waits to be packed.
        await working_day(CLUSTER, ["cup"])


if __name__ == "__main__":
    asyncio.run(main())
