"""A live dashboard: what happens to those who cannot keep up, and who decides it.

Every subscriber has a buffer, and every buffer has an end. When it is full, the messages are still in the
channel, and `on_full` says what to do. By default a slow subscriber catches up and misses nothing. A
dashboard is better off with the newest values, and with a word about how many it did not show.

Run it:  python tutorials/07_live_dashboard.py
"""

# A type checker asks of which class `content` is before it lets you use `.data`. Tutorial 04 shows how to
# tell; the short programs do without:
# mypy: disable-error-code="attr-defined"

import asyncio
import logging

from sssnbus import BroadcastChannel, BusTimeout, ChannelMessage, Gap, Lagged, SubscriptionOverflow


async def main() -> None:
    logging.getLogger("sssnbus").setLevel(logging.CRITICAL)  # the disconnecting below is meant
    async with BroadcastChannel("metrics", "Metrics") as metrics:
        # 1. Without a handler a subscription is for `async for`, at your own pace; writers never wait for
        #    such a loop. Three of them, with room for four messages each. The block opens and closes them.
        whole = metrics.subscribe("archive", buffer=4)
        fresh = metrics.subscribe("dashboard", buffer=4, on_full="drop_oldest")
        strict = metrics.subscribe("robot", buffer=4, on_full="disconnect")
        async with whole, fresh, strict:
            # 2. Ten messages come while nobody looks.
            await metrics.write_many("monitor", list(range(1, 11)))

            # 3. "catch_up", the default: what finds no room stays in the store and is read when there is.
            #    `listen` is the loop with a limit: it ends by an error when nothing comes for so long.
            print("3. catch_up:", end=" ")
            try:
                async for message in whole.listen(timeout=0.05):
                    print(message.content.data, end=" ")
            except BusTimeout:
                print("and then it is quiet")

            # 4. "drop_oldest": the newest win. `events()` is the loop that also yields the notices, each
            #    at its place: `Lagged` for what the policy skipped, `Gap` for what was removed too early.
            async for event in fresh.events():
                match event:
                    case Lagged(count=count):
                        print(f"4. drop_oldest: {count} values skipped")
                    case Gap(first=first, last=last):
                        print(f"4. values {first} to {last} are no longer kept")
                    case ChannelMessage():
                        print("4. drop_oldest:", event.content.data)
                        if event.content.data == 10:
                            break

            # 5. "disconnect": who must not skip and must not be late gets what it had room for, and an error.
            print("5. disconnect:", end=" ")
            try:
                async for message in strict:
                    print(message.content.data, end=" ")
            except SubscriptionOverflow:
                print("and then the end")

        # 6. With a handler, `on_notice` gets the notices, in their place before what follows. Dropped is
        #    dropped: the writer does not wait for it, only for what is shown.
        async def show(message: ChannelMessage) -> None:
            print("6. shown:", message.content.data)

        async def skipped(notice: Lagged | Gap) -> None:
            print("6. skipped:", notice)

        await metrics.subscribe("screen", show, buffer=2, on_full="drop_oldest", on_notice=skipped)
        await metrics.write_many("monitor", [11, 12, 13, 14, 15])

        # 7. A place that retention or an eviction has passed is told as well: history begins with a gap.
        await metrics.evict(max_count=2)
        history = await metrics.read("late", after=10)
        print("7. gap:", history.gap, "then", [message.content.data for message in history])


if __name__ == "__main__":
    asyncio.run(main())
