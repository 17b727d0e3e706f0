"""``subscribe``: print a channel's messages as they come, or run a command on each."""

import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from sssnbus.cli.channels.showing import put, seconds, speak, start_of, tell_notice, whole
from sssnbus.cli.context import Context, Stopped, opened, running
from sssnbus.cli.names import check_name
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import Problem

if TYPE_CHECKING:
    from sssnbus import BroadcastChannel, Notice


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "Print the messages of a channel as they come. With --name the place is kept in the store: the next\n"
        "one with that name goes on behind the last message that was printed, or that the command of --exec\n"
        "was through with. What was skipped is told on stderr.\n\n"
        "With --exec a shell runs the command for each message, which it gets on stdin, with id, topic,\n"
        "channel and sender in SSSNBUS_MESSAGE_ID, _TOPIC, _CHANNEL and _SENDER. If it fails, the message\n"
        "is tried again with --name, five times with growing pauses, and then becomes a dead letter;\n"
        "without --name that is only told on stderr.\n\n"
        "It ends after --count messages, after --timeout seconds without one, by SIGINT or SIGTERM, and\n"
        "when nobody reads its output any more.",
        "sssnbus subscribe events --topic 'deploy.*'",
        "sssnbus subscribe events --name mailer --start earliest --exec './mail.sh'",
        "sssnbus subscribe events --count 1 --timeout 30 --json | jq .message",
        codes="0 ended as it should, 1 error, 2 no message came before --timeout",
    )
    parser.add_argument("channel", help="the channel; it is made if need be")
    parser.add_argument(
        "--topic", action="append", metavar="PATTERN",
        help="only topics like this: * stands for a word, > at the end for any number; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--start", metavar="WHERE",
        help="new (the default), earliest, the id of a message, or a time; with --name it counts once",
    )  # fmt: skip
    parser.add_argument("--name", metavar="NAME", help="keep the place in the store under this name")
    parser.add_argument("--count", type=whole, metavar="N", help="end after so many messages")
    parser.add_argument("--timeout", type=seconds, metavar="S", help="end after so many seconds without one")
    parser.add_argument("--exec", metavar="COMMAND", help="run this for each message instead of printing it")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line; with --exec, the object on stdin"
    )


def run(options: Namespace, context: Context) -> int:
    """Subscribe until something ends it."""
    check_name(options.channel, "channel name")
    if options.name is not None:
        check_name(options.name, "subscription name")
    if not context.settings.logging_enabled:
        speak()
    try:
        return running(_subscribe(options, context))
    except (Stopped, BrokenPipeError):
        # That is how one asks it to end; what was not printed stays for the next one.
        return 0


async def _subscribe(options: Namespace, context: Context) -> int:
    from sssnbus import SubscriptionInUse

    async with opened(context) as bus:
        channel = bus.broadcast(options.channel)
        try:
            if options.exec is not None:
                from sssnbus.cli.channels.executing import execute

                return await execute(channel, options)
            return await _print(channel, options)
        except SubscriptionInUse as error:
            raise Problem(
                f"subscription {options.name!r} of channel {options.channel!r} is in use by a running "
                "program; end that one, or choose another name",
                retryable=error.retryable,
            ) from None


async def _print(channel: "BroadcastChannel", options: Namespace) -> int:
    from sssnbus import BusTimeout

    async def on_notice(notice: "Notice") -> None:
        tell_notice(notice, json=options.json)

    subscription = channel.subscribe(
        options.name or f"cli-{os.getpid()}",
        start=start_of(options.start),
        topic=options.topic,
        durable=options.name is not None,
        on_notice=on_notice,
    )
    printed = 0
    # Leaving it without an error confirms the last message, and so does asking for the next.
    async with subscription:
        try:
            async for message in subscription.listen(options.timeout):
                put(options.channel, message, json=options.json)
                printed += 1
                if printed == options.count:
                    break
        except BusTimeout:
            return 0 if printed else 2
    return 0
