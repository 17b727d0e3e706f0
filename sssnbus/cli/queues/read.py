"""``sssnbus read``: take the oldest message of a queue, or all."""

from argparse import ArgumentParser

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_queue, resolve
from sssnbus.cli.output import say
from sssnbus.cli.parser import describe
from sssnbus.cli.queues.handling import WORKER, hand_over, is_there, queue_of, tidy
from sssnbus.cli.queues.selecting import Selected, add_selection, printer, selected


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("queue", help="the queue, or @ALIAS")
    add_selection(parser)
    describe(
        parser,
        "Take the oldest message of a queue and print it. A message is printed first and counts as consumed "
        "then: if the process dies in between it may be printed again, but none is lost.",
        "sssnbus read jobs",
        'while job=$(sssnbus read jobs); do work "$job"; done',
        "sssnbus read jobs --all --after 2024-01-15 --json",
        codes="0 printed, 1 error, 2 no message there",
    )


def run(options: Options, context: Context) -> int:
    """Take messages and print them."""
    which = selected(options)
    check_queue(options.queue)
    try:
        return running(_read(options, context, which))
    except BrokenPipeError:
        say("sssnbus: error: nobody reads the output any more; what was not written stays in the queue")
        raise


async def _read(options: Options, context: Context, which: Selected) -> int:
    step = context.settings.read_commit_interval if which.all else 1
    out = printer(options, several=which.all)
    count = 0
    async with opened(context) as bus:
        name = await resolve(bus, options.queue)
        if not await is_there(bus, name):
            return 2
        queue = queue_of(bus, name, context.settings)
        while messages := await queue.read(WORKER, exclusive=True, limit=step, **which.bounds):
            await hand_over(queue, messages, out.put)
            await tidy(queue, context.settings, messages)
            count += len(messages)
            if not which.all:
                break
    return 0 if count else 2
