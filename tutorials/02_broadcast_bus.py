"""A broadcast bus: metrics go out once, and three parts of a program act on them.

`monitor` does not know who listens. A dashboard shows every metric, an alerter picks the bad ones, an
archiver keeps them; a fourth comes late, and reads up before it listens. All of them see the messages in
the same order, none of them can take a message away from another, and none can hurt another by failing.

Run it:  python tutorials/02_broadcast_bus.py
"""

# A type checker asks of which class `content` is before it lets you use `.data`. Tutorial 04 shows how to
# tell; the short programs do without:
# mypy: disable-error-code="attr-defined"

import asyncio
import logging

from sssnbus import BroadcastChannel, ChannelMessage, NotStarted

METRICS = [("cpu", 35), ("memory", 62), ("cpu", 97), ("disk", 12)]


async def main() -> None:
    bus = BroadcastChannel(id="metrics", name="Metrics")

    # 1. Nothing is written by accident into a channel that nobody has opened.
    try:
        await bus.write("monitor", {"name": "cpu", "value": 1})
    except NotStarted as error:
        print("1.", error)
    await bus.start()

    # 2. Three subscribers under three names. Each runs on its own: they do not wait for each other, but
    #    each of them has handled one message before it gets the next.
    log: list[tuple[str, str, int]] = []

    async def dashboard(message: ChannelMessage) -> None:
        log.append(("dashboard", message.content.data["name"], message.content.data["value"]))

    async def alerting(message: ChannelMessage) -> None:
        name, value = message.content.data["name"], message.content.data["value"]
        log.append(("alerting", name, value))
        if value > 90:
            print(f"2. ALERT: {name} is at {value} %")

    async def archiver(message: ChannelMessage) -> None:
        log.append(("archiver", message.content.data["name"], message.content.data["value"]))

    for consumer, handler in (("dashboard", dashboard), ("alerting", alerting), ("archiver", archiver)):
        await bus.subscribe(consumer, handler)

    # 3. Each write returns when all three are through with the message, so there is nothing to wait for.
    for name, value in METRICS:
        await bus.write("monitor", {"name": name, "value": value})
    print("3. handled:", len(log), "= 3 subscribers x", len(METRICS), "metrics")
    print("   the archive:", [(name, value) for who, name, value in log if who == "archiver"])

    # 4. A late joiner was sent nothing, but the history is there. Every reader has a place of its own:
    #    a second read goes on where the first one stopped, and other readers are not affected.
    print("4. carol:", [message.content.data["value"] for message in await bus.read("carol", limit=3)])
    print("   carol:", [message.content.data["value"] for message in await bus.read("carol")])
    print("   dave: ", [message.content.data["value"] for message in await bus.read("dave")])

    # 5. Having read up, carol listens. A consumer that has read goes on behind what it has read, so
    #    nothing can slip through between reading and subscribing, and nothing comes twice.
    async def carol(message: ChannelMessage) -> None:
        print("5. carol hears:", message.content.data)

    await bus.subscribe("carol", carol)
    await bus.write("monitor", {"name": "network", "value": 44})

    # 6. Whoever unsubscribes hears nothing more; the others go on. A subscriber that fails is logged
    #    (here that is muted), and harms neither the writer nor the others; it gets the next message too.
    async def broken(message: ChannelMessage) -> None:
        raise RuntimeError("the disk of the archive is full")

    logging.getLogger("sssnbus").setLevel(logging.CRITICAL)
    await bus.unsubscribe("carol")
    await bus.subscribe("archiver", broken)  # the same name: it takes the place of the one before
    log.clear()
    await bus.write("monitor", {"name": "reboot", "value": 0})
    print("6. reboot was handled by:", sorted(who for who, _, _ in log))

    # 7. There is no claiming here: a message belongs to everybody. The error says what to use instead.
    try:
        await bus.read("reader", exclusive=True)
    except TypeError as error:
        print("7.", error)
    await bus.stop()


if __name__ == "__main__":
    asyncio.run(main())
