"""``channels``: list all channels, queues among them."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from sssnbus.cli import output
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.parser import describe

if TYPE_CHECKING:
    from sssnbus import ChannelInfo


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "List all channels of the store, queues among them, with the messages that they hold.",
        "sssnbus channels",
        "sssnbus channels --json | jq -r 'select(.dead > 0) | .name'",
        codes="0 done, 1 error",
    )
    parser.add_argument("--prefix", default="", help="only those whose names begin like this")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: Namespace, context: Context) -> int:
    """Print the channels."""
    return running(_channels(options, context))


async def _channels(options: Namespace, context: Context) -> int:
    async with opened(context) as bus:
        for info in await bus.channels(options.prefix):
            output.line(output.as_json(asdict(info)) if options.json else _line(info))
    return 0


def _line(info: "ChannelInfo") -> str:
    from sssnbus.stores import Kind

    parts = [info.kind.value]
    messages = info.messages
    if info.kind is Kind.QUEUE:
        messages = info.ready
        counts = {"delayed": info.delayed, "in flight": info.leased, "done": info.done}
        parts += [f"{count} {what}" for what, count in counts.items() if count]
    if info.dead:
        parts.append(f"{info.dead} dead")
    return f"{info.name}: {messages} ({', '.join(parts)})"
