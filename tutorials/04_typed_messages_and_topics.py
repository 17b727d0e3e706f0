"""Typed messages and topics: say what you send, and hear only what you asked for.

A dict is a fine start. Once several people write to a channel, give what they send a class: a subclass of
`MessageContent`, which is a pydantic model. It travels through every store and comes back as that class,
dates and decimals included. A *topic* is an address inside the channel, words joined by dots, by which
subscribers choose. And what would not come back as it was sent is refused at once, by the name of its place.

Run it:  python tutorials/04_typed_messages_and_topics.py
"""

import asyncio
from datetime import date
from decimal import Decimal

from pydantic import ValidationError

from sssnbus import BroadcastChannel, ChannelMessage, MessageContent, UsageError


# 1. Two kinds of content. Contents cannot be changed once they are made: subscribers share them.
class Login(MessageContent):
    user: str


class Purchase(MessageContent):
    user: str
    price: Decimal
    on: date


async def main() -> None:
    # 2. A channel may say what it takes. `content=` is one class or several.
    async with BroadcastChannel("shop", "What happens in the shop", content=(Login, Purchase)) as shop:
        # 3. A pattern says which topics to hear: `*` is any one word, a `>` at the end is one or more.
        #    Without a pattern one hears everything, messages without a topic too.
        heard: dict[str, list[str]] = {}

        async def listen(name: str, topic: str | list[str] | None) -> None:
            topics = heard[str(topic)] = []

            async def note(message: ChannelMessage) -> None:
                topics.append(message.topic or "no topic")

            await shop.subscribe(name, note, topic=topic)

        await listen("one-word", "user.*")
        await listen("all-of-user", "user.>")
        await listen("either", ["*.login", "order.>"])
        await listen("everything", None)

        # 4. What comes in is what was written, so a subscriber can tell contents apart by their class.
        async def accounts(message: ChannelMessage) -> None:
            match message.content:
                case Login(user=user):
                    print("4. welcome,", user)
                case Purchase(user=user, price=price, on=on):
                    print(f"4. {user} owes {price + 1} with postage, due in {on.year}")

        await shop.subscribe("accounts", accounts)

        # 5. A topic is given with each message.
        book = Purchase(user="ada", price=Decimal("9.90"), on=date(2024, 2, 29))
        await shop.write("web", Login(user="ada"), topic="user.login")
        await shop.write("web", Login(user="bob"), topic="user.login.mobile")
        await shop.write("web", book, topic="order.paid")
        await shop.write("web", book)
        for pattern, topics in heard.items():
            print("5.", pattern.ljust(22), topics)

        # 6. The model refuses what is wrong in a content; the channel, what it does not take.
        try:
            Login(user=7)  # type: ignore[arg-type]  # the mistake is the point
        except ValidationError as error:
            print("6.", error.errors()[0]["loc"], error.errors()[0]["msg"])
        for mistake, topic in (({"user": "ada"}, "user.login"), (book, "order.*"), (book, "order paid")):
            try:
                await shop.write("web", mistake, topic=topic)
            except UsageError as refused:
                print("6.", refused)

    # 7. Plain data must be what JSON can hold, for it has to read back equal and of the same type. The
    #    error names the place. Nothing of a refused message was stored.
    async with BroadcastChannel("anything") as anything:
        for data in ({"cart": [{"price": 1.5}, {"price": Decimal("1.5")}]}, {"size": (3, 4)}, {1: "one"}):
            try:
                await anything.write("web", data)
            except UsageError as refused:
                print("7.", refused)
        print("7. stored:", len(await anything.read("auditor")))


if __name__ == "__main__":
    asyncio.run(main())
