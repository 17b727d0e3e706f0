"""``history``: print the messages that a channel holds."""

from argparse import ArgumentParser, Namespace
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from sssnbus.cli.channels.showing import known, put, speak, tell_notice, whole
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_name
from sssnbus.cli.parser import describe

if TYPE_CHECKING:
    from sssnbus import BroadcastChannel, ChannelMessage

_PAGE: Final = 256


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "Print the messages that a channel holds, oldest first, and end. With --limit the newest N, or the\n"
        "oldest N behind --after. Nobody's place moves.",
        "sssnbus history events --limit 20",
        "sssnbus history events --after 1837025672140161024 --json",
    )
    parser.add_argument("channel")
    parser.add_argument("--limit", type=whole, metavar="N", help="at most so many")
    parser.add_argument("--after", metavar="ID", help="only those behind the message with this id")
    parser.add_argument("--topic", metavar="PATTERN", help="only those whose topic is like this")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: Namespace, context: Context) -> int:
    """Print the messages; return 2 if there are none."""
    check_name(options.channel, "channel name")
    if not context.settings.logging_enabled:
        speak()
    return running(_history(options, context))


async def _history(options: Namespace, context: Context) -> int:
    async with opened(context) as bus:
        info = await known(bus, options.channel)
        if info is None:
            return 2
        channel = bus.broadcast(options.channel)
        limit, last = options.limit, info.last
        printed = 0
        if limit is None or options.after is not None:
            async for message in _messages(channel, options, options.after, last):
                put(options.channel, message, json=options.json)
                printed += 1
                if printed == limit:
                    break
            return 0 if printed else 2
        newest = await _newest(channel, options, limit, last)
        for message in newest:
            put(options.channel, message, json=options.json)
        return 0 if newest else 2


async def _newest(
    channel: "BroadcastChannel", options: Namespace, limit: int, last: int
) -> "deque[ChannelMessage]":
    """Return the newest messages; it looks from further back until there are enough."""
    span = limit
    while True:
        start = max(0, last - span)
        found: deque[ChannelMessage] = deque(maxlen=limit)
        async for message in _messages(channel, options, start, last):
            found.append(message)
        if start == 0 or len(found) == limit:
            return found
        span *= 4


async def _messages(
    channel: "BroadcastChannel", options: Namespace, after: str | int | None, last: int
) -> "AsyncIterator[ChannelMessage]":
    """Yield the messages behind a place, up to what was there when the command began."""
    while page := await channel.read("cli", limit=_PAGE, after=after, topic=options.topic):
        if page.gap is not None and isinstance(after, str):
            tell_notice(page.gap, json=options.json)
        # From here on by the reader's own place, which is behind what did not match too.
        after = None
        for message in page:
            if message.sequence > last:
                return
            yield message
