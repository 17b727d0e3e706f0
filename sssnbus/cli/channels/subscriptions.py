"""``subscriptions``: list durable subscriptions and how far behind they are."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from sssnbus.cli import output
from sssnbus.cli.channels.showing import known
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_name
from sssnbus.cli.parser import describe


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "List the durable subscriptions of a channel, or of all: how many messages each is behind, and\n"
        "whether a living program owns it.",
        "sssnbus subscriptions",
        "sssnbus subscriptions events --json | jq -r 'select(.lag > 1000) | .name'",
    )
    parser.add_argument("channel", nargs="?", help="the channel; all of them if it is left out")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: Namespace, context: Context) -> int:
    """Print the subscriptions; return 2 if the channel is not there."""
    if options.channel is not None:
        check_name(options.channel, "channel name")
    return running(_subscriptions(options, context))


async def _subscriptions(options: Namespace, context: Context) -> int:
    async with opened(context) as bus:
        if options.channel is not None and await known(bus, options.channel) is None:
            return 2
        for info in await bus.subscriptions(options.channel):
            owner = "active" if info.active else "nobody is listening"
            text = f"{info.channel} {info.name}: {info.lag} behind ({owner})"
            output.line(output.as_json(asdict(info)) if options.json else text)
    return 0
