"""``sssnbus delete``: remove a queue, all queues, or one message."""

from argparse import ArgumentParser

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_id, check_queue, resolve
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import WrongWords
from sssnbus.cli.queues.handling import WORKER, found, is_queue, is_there, queue_of, tidy


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the command."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("queue", nargs="?", help="the queue, or @ALIAS")
    which.add_argument("--all", action="store_true", help="all queues; aliases and channels stay")
    parser.add_argument("-m", "--message", metavar="ID", help="only the message with this id of 19 digits")
    describe(
        parser,
        "Remove a queue with everything in it, dead letters too. With -m one message counts as consumed "
        "instead; its room is free after the next vacuum.",
        "sssnbus delete jobs",
        "sssnbus delete jobs -m 1837025672140161024",
        codes="0 removed, also when there was no such queue, 1 error, 2 no such message",
    )


def run(options: Options, context: Context) -> int:
    """Remove it."""
    if options.all and options.message is not None:
        raise WrongWords("argument -m/--message: not allowed with argument --all")
    id = check_id(options.message)
    if options.queue is not None:
        check_queue(options.queue)
    if options.all:
        return running(_delete_all(context))
    if id is None:
        return running(_delete(context, options.queue))
    return running(_consume(context, options.queue, id))


async def _delete(context: Context, operand: str) -> int:
    async with opened(context) as bus:
        name = await resolve(bus, operand)
        await found(bus, name)
        await bus.delete(name)
    return 0


async def _delete_all(context: Context) -> int:
    async with opened(context) as bus:
        for info in await bus.channels():
            if is_queue(info):
                await bus.delete(info.name)
    return 0


async def _consume(context: Context, operand: str, id: str) -> int:
    async with opened(context) as bus:
        name = await resolve(bus, operand)
        if not await is_there(bus, name):
            return 2
        queue = queue_of(bus, name, context.settings)
        messages = await queue.read(WORKER, exclusive=True, ids=[id])
        if not messages:
            return 2
        await queue.acknowledge(WORKER, [id])
        await tidy(queue, context.settings, messages)
    return 0
