"""Durable subscriptions: stop, crash, come back, and miss nothing.

So far everything was gone when the program ended. Give the channel a file, and it is shared with every
process that opens that file; there is no server. A *durable* subscription keeps its place in the file under
its name, so that it goes on where it was. This program starts itself again, as a worker called `billing`.

Run it:  python tutorials/05_durable_subscriptions.py
"""

# A type checker asks of which class `content` is before it lets you use `.data`. Tutorial 04 shows how to
# tell; the short programs do without:
# mypy: disable-error-code="attr-defined"

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from sssnbus import BroadcastChannel, Subscription


def orders(file: Path) -> BroadcastChannel:
    # An absolute path makes four slashes: three belong to the scheme, one to the path.
    return BroadcastChannel("orders", "Orders", store=f"sqlite:///{file}")


def billing(channel: BroadcastChannel) -> Subscription:
    # `start` counts only the first time; from then on the place that was kept does.
    return channel.subscribe("billing", durable=True, start="earliest")


async def worker(file: Path, count: int, crash: bool) -> None:
    """Handle `count` orders in a process of its own, and die in the middle of one more if told so."""
    async with orders(file) as channel, billing(channel) as subscription:
        async for message in subscription:
            count -= 1
            if count < 0:
                print("   billing begins", message.content.data, "and is killed", flush=True)
                os._exit(1)
            print("   billing did", message.content.data, flush=True)
            if count == 0 and not crash:
                break  # leaving normally says that this one is done


async def start_worker(file: Path, count: int, crash: bool = False) -> None:
    mode = "crash" if crash else "stop"
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, str(file), str(count), mode)
    await process.wait()


async def tell_lag(channel: BroadcastChannel) -> None:
    # Anybody can see how far the durable subscriptions are, whichever process they live in.
    for known in await channel.subscriptions():
        print(f"   {known.name} is done up to {known.position} and {known.lag} behind", flush=True)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "orders.db"
        async with orders(file) as channel:
            print("1. Three orders; billing does two of them and stops.", flush=True)
            await channel.write_many("shop", ["order 1", "order 2", "order 3"])
            await start_worker(file, 2)
            await tell_lag(channel)

            print("2. Two more while it is away. It comes back, and is killed at work.", flush=True)
            await channel.write_many("shop", ["order 4", "order 5"])
            await start_worker(file, 1, crash=True)

            # The order that was begun and not finished comes again: at least once, not exactly once.
            print("3. It comes back once more and misses nothing.", flush=True)
            await start_worker(file, 2)
            await tell_lag(channel)

            # The name is free now, so this process may take it. `seek` goes to another place: back to
            # do something again, as here, or forward to leave something out.
            print("4. The books were lost: go back to the second order.", flush=True)
            async with billing(channel) as subscription:
                print("   lag", await subscription.lag())
                await subscription.seek(2)
                print("   lag", await subscription.lag(), "after seeking")
                async for message in subscription:
                    print("   again:", message.content.data)
                    if await subscription.lag() == 0:
                        break


if __name__ == "__main__":
    if len(sys.argv) == 1:
        asyncio.run(main())
    else:
        asyncio.run(worker(Path(sys.argv[1]), int(sys.argv[2]), crash=sys.argv[3] == "crash"))
