"""A work queue: each job goes to one worker, and again until it is done.

Here a message has a life. It is *ready*; a worker *claims* it, and nobody else sees it; it is *acked* and
gone, or *nacked* and ready again. The attempts are counted. After the last one the job is not lost and
does not block the others: it is put among the *dead letters*, where you can look at it and send it back.

Run it:  python tutorials/03_work_queue.py
"""

# A type checker asks of which class `content` is before it lets you use `.data`. Tutorial 04 shows how to
# tell; the short programs do without:
# mypy: disable-error-code="attr-defined"

import asyncio
import logging

from sssnbus import ChannelMessage, Retry, WorkQueueChannel


async def main() -> None:
    # Failed handlers are logged with their traceback. These fail on purpose, so that is muted.
    logging.getLogger("sssnbus").setLevel(logging.CRITICAL)
    # The pauses between attempts grow, from a tenth of a second up; here they are short.
    retry = Retry(initial=0.01, jitter=False)
    async with WorkQueueChannel("jobs", "Image jobs", max_deliveries=3, retry=retry) as jobs:
        # 1. By hand: hold a message for the length of a block. Leaving the block normally acks it,
        #    leaving it by an exception nacks it, so that somebody else may try.
        await jobs.write("web", {"resize": "cat.png"})
        async with jobs.claim("by-hand") as claim:
            print("1. claimed:", claim.message.content.data, "attempt", claim.attempt)

        # 2. Several at a time: claim with `read`, then say what became of each. A nacked job is ready at
        #    once, and it tells the next worker how the last one fared.
        await jobs.write_many("web", [{"resize": "dog.png"}, {"resize": "owl.png"}])
        dog, owl = await jobs.read("reader", limit=10, exclusive=True)
        await jobs.acknowledge("reader", [dog.id])
        await jobs.nack("reader", [owl.id], error="out of memory")
        (owl,) = await jobs.read("reader", limit=10, exclusive=True)
        print("2. again:", owl.content.data, owl.metadata)
        await jobs.acknowledge("reader", [owl.id])

        # 3. Mostly you hand in a function: returning acks, raising tries again, and `concurrency` is how
        #    many jobs are at work at a time. These three wait for each other, so they do overlap.
        together, outcomes = asyncio.Barrier(3), asyncio.Queue[str]()

        async def resize(message: ChannelMessage) -> None:
            name, retries = message.content.data["resize"], message.metadata.get("retries", 0)
            if retries == 0:
                await together.wait()
            if name == "bad.png" or (name == "slow.png" and retries == 0):
                outcomes.put_nowait(f"{name}: attempt {retries + 1} failed")
                raise ValueError("not an image")
            outcomes.put_nowait(f"{name}: attempt {retries + 1} done")

        await jobs.subscribe("resizer", resize, concurrency=3)
        await jobs.write_many("web", [{"resize": name} for name in ("good.png", "slow.png", "bad.png")])
        # Which of them ends first is not promised, hence the sorting.
        for outcome in sorted([await outcomes.get() for _ in range(6)]):
            print("3.", outcome)
        await jobs.unsubscribe("resizer")  # returns when the jobs at work are settled

        # 4. bad.png has had its three attempts. Look at it, mend what was wrong, and send it back; it
        #    keeps its id and begins anew.
        (letter,) = await jobs.dead_letters.list()
        dead = letter.metadata["dead"]
        print("4. dead:", letter.content.data, "after", dead["attempts"], "attempts:", dead["error"])
        print("   sent back:", await jobs.dead_letters.redrive())
        async with jobs.claim("by-hand") as claim:
            print("   the same job:", claim.message.id == letter.id, "attempt", claim.attempt)

        # 5. What is more urgent goes first. What has a delay is not ready before its time; a worker that
        #    waits for it sleeps just as long.
        await jobs.write("web", "every day", priority=0)
        await jobs.write("web", "urgent", priority=9)
        await jobs.write("web", "later", delay=0.3)
        ready = await jobs.read("by-hand", limit=10, exclusive=True)
        print("5. in this order:", [message.content.data for message in ready])
        await jobs.acknowledge("by-hand", [message.id for message in ready])
        async with jobs.claim("by-hand") as claim:
            print("   when its time has come:", claim.message.content.data)

        # 6. Jobs that share a key are handled one at a time, in order; other keys need not wait.
        for key, step in (("ada", "create"), ("ada", "rename"), ("bob", "create")):
            await jobs.write("web", f"{step} {key}", key=key)
        first = await jobs.read("by-hand", limit=10, exclusive=True)
        print("6. side by side:", [message.content.data for message in first])
        await jobs.acknowledge("by-hand", [message.id for message in first])
        async with jobs.claim("by-hand") as claim:
            print("   and then:", claim.message.content.data)


if __name__ == "__main__":
    asyncio.run(main())
