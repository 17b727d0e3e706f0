"""``sssnbus move``: move messages to another queue."""

from argparse import ArgumentParser
from typing import Final

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_queue, resolve
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import Problem
from sssnbus.cli.queues.handling import is_there, queue_of
from sssnbus.cli.queues.selecting import Selected, add_selection, printer, selected

_MOST: Final = 1_000_000
"""How many messages one command moves at most: they move in one step."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("source", help="the queue to take from, or @ALIAS")
    parser.add_argument("dest", help="the queue to move to, or @ALIAS; it is made if need be")
    add_selection(parser)
    describe(
        parser,
        "Move the oldest message of a queue, or all, to the end of another, in one step, and print what has "
        "moved. Messages keep their ids. With -m also a message that was consumed already is moved, and can "
        "be read again; one that somebody holds is not.",
        "sssnbus move failed jobs --all",
        "sssnbus move jobs failed -m 1837025672140161024",
        codes="0 moved, 1 error, 2 no message there",
    )


def run(options: Options, context: Context) -> int:
    """Move messages and print them."""
    which = selected(options)
    for operand in (options.source, options.dest):
        check_queue(operand)
    return running(_move(options, context, which))


async def _move(options: Options, context: Context, which: Selected) -> int:
    out = printer(options, several=which.all)
    async with opened(context) as bus:
        source, dest = await resolve(bus, options.source), await resolve(bus, options.dest)
        check_different(source, dest)
        if not await is_there(bus, source):
            return 2
        queue = queue_of(bus, source, context.settings)
        moved = await queue.move(dest, limit=_MOST if which.all else 1, **which.bounds)
        for message in moved:
            out.put(message)
    return 0 if moved else 2


def check_different(source: str, dest: str) -> None:
    """Refuse to move messages of a queue to itself."""
    if source == dest:
        raise Problem("Source and destination queues cannot be the same", code="INVALID_ARGUMENT")
