"""A service: questions and answers, writes that may be repeated, jobs for later, and an end in good order.

This program starts itself again as a service, as a supervisor would, talks to it over one file, and ends it
with SIGTERM while it is at work. `open_shop` is all that the service is; web frameworks that take a
`lifespan`, such as FastAPI and Starlette, can be given one like it. They have signal handlers of their own
and take the place of `serve`.

Run it:  python tutorials/10_a_service.py
"""

# A type checker asks of which class `content` is before it lets you use `.data`. Tutorial 04 shows how to
# tell; the short programs do without:
# mypy: disable-error-code="attr-defined"

import asyncio
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from sssnbus import Bus, BusTimeout, ChannelMessage


# 1. What the service does. Entering starts it; leaving ends it: nothing new is taken, what runs gets five
#    seconds to finish, and the rest is given back for others. (`await bus.stop(grace=30)` gives it more; let
#    the supervisor wait longer than that before it kills.)
@asynccontextmanager
async def open_shop(url: str) -> AsyncIterator[Bus]:
    async with Bus(url) as bus:
        questions = bus.broadcast("questions")

        async def price(question: ChannelMessage) -> None:
            await questions.reply(question, "shop", {"teapot": 12, "kettle": 30}[question.content.data])

        async def pack(order: ChannelMessage) -> None:
            print("packing", order.content.data, flush=True)
            await asyncio.sleep(0.5)
            print("packed", order.content.data, flush=True)

        await questions.subscribe("shop", price, topic="price")
        await bus.work_queue("orders").subscribe("packer", pack)
        yield bus


# 2. `serve` waits for Ctrl-C or SIGTERM, and leaving the block then ends everything.
async def service(url: str) -> None:
    async with open_shop(url) as bus:
        print("open", flush=True)
        await bus.serve()
    print("closed", flush=True)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/shop.db"
        shop = await asyncio.create_subprocess_exec(sys.executable, __file__, url, stdout=PIPE)
        assert shop.stdout is not None
        print("2. the shop is", (await shop.stdout.readline()).decode().strip())

        async with Bus(url) as bus:
            # 3. A question is a message with a place for the answer. The topic says who is asked.
            questions, orders = bus.broadcast("questions"), bus.work_queue("orders")
            answer = await questions.request("web", "teapot", topic="price")
            print("3. a teapot costs", answer.content.data)
            try:
                await questions.request("web", "teapot", topic="colour", timeout=0.1)
            except BusTimeout:
                print("   nobody knows its colour")

            # 4. Whoever cannot know whether a write got through writes again, under the same key. It is
            #    remembered for two minutes, or `dedupe_window` seconds, also when the job is long done.
            for _ in range(2):
                receipt = await orders.write("web", "a teapot", dedupe="order 7")
                print("4. order number", receipt.sequence, "written again" if receipt.duplicate else "is new")

            # 5. What has a time is not handed out before it. It is in the store, and survives the service.
            await orders.write("web", "a kettle", at=datetime.now(UTC) + timedelta(hours=1))

            # 6. SIGTERM in the middle of the work: it is finished first.
            print("6. the shop is", (await shop.stdout.readline()).decode().strip())
            shop.terminate()
            rest = (await shop.stdout.read()).decode().split("\n")
            print("  ", ", ".join(rest) + f"exit code {await shop.wait()}")
            print("   left for later:", (await orders.statistics()).delayed)


if __name__ == "__main__":
    asyncio.run(main() if len(sys.argv) == 1 else service(sys.argv[1]))
