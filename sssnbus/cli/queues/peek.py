"""``sssnbus peek``: look at the messages of a queue without taking them."""

from argparse import ArgumentParser
from contextlib import aclosing

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_queue, resolve
from sssnbus.cli.parser import describe
from sssnbus.cli.queues.handling import is_there, queue_of
from sssnbus.cli.queues.selecting import Selected, add_selection, printer, selected


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("queue", help="the queue, or @ALIAS")
    add_selection(parser)
    describe(
        parser,
        "Print the oldest message of a queue, or all, without taking any.",
        "sssnbus peek jobs --all -t",
        "sssnbus peek jobs -m 1837025672140161024",
        codes="0 printed, 1 error, 2 no message there",
    )


def run(options: Options, context: Context) -> int:
    """Print messages."""
    which = selected(options)
    check_queue(options.queue)
    return running(_peek(options, context, which))


async def _peek(options: Options, context: Context, which: Selected) -> int:
    out = printer(options, several=which.all)
    bounds, count = which.bounds, 0
    async with opened(context) as bus:
        name = await resolve(bus, options.queue)
        if not await is_there(bus, name):
            return 2
        queue = queue_of(bus, name, context.settings)
        if which.all:
            everything = queue.observe(
                "earliest", follow=False, after=bounds["after"], before=bounds["before"]
            )
            async with aclosing(everything):
                async for message in everything:
                    out.put(message)
                    count += 1
        else:
            for message in await queue.peek(**bounds):
                out.put(message)
                count += 1
    return 0 if count else 2
