"""``sssnbus broadcast``: write one message into every queue there is."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.problem import WrongWords
from sssnbus.cli.queues.handling import SENDER, is_queue, queue_of
from sssnbus.cli.queues.write import message_text

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Spread(NamedTuple):
    """The words of the command."""

    message: str
    pattern: str | None


def add_arguments(parser: "ArgumentParser") -> None:
    """Describe the command; its words are read by ``parse``."""
    from sssnbus.cli.parser import describe

    parser.add_argument("-p", "--pattern", metavar="GLOB", help="only queues like this: 'jobs.*'")
    parser.add_argument("message", metavar="MESSAGE|-", help="the message; stdin for -")
    describe(
        parser,
        "Write one copy of a message into every queue that holds anything, or held anything since the last "
        "vacuum: into all or none. Subscribers of channels do not get it: that is 'publish'. The first word "
        "that is no option is the message, whatever it looks like.",
        "sssnbus broadcast 'shutting down'",
        "sssnbus broadcast --pattern 'jobs.*' reload",
        codes="0 written, 1 error, 2 no queue to write into",
    )


def parse(words: Sequence[str]) -> Spread:
    """Read the words: perhaps a pattern, then a message, which is data even if it looks like an option.

    Raises:
        WrongWords: there are too few or too many.
        SystemExit: they asked for help, which was printed.
    """
    given, pattern = [*words], None
    if given in (["-h"], ["--help"]):
        from sssnbus.cli.commands import parser_of

        parser_of("broadcast").print_help()
        raise SystemExit(0)
    while given:
        word, equals, value = given[0].partition("=")
        if given[0] in ("-p", "--pattern"):
            if len(given) == 1:
                raise WrongWords("argument -p/--pattern: expected one argument")
            pattern = given[1]
            del given[:2]
        elif word == "--pattern" and equals:
            pattern = value
            del given[0]
        else:
            break
    if len(given) > 1 and given[0] == "--":
        del given[0]
    if not given:
        raise WrongWords("the following arguments are required: message")
    if len(given) > 1:
        raise WrongWords(f"unrecognized arguments: {' '.join(given[1:])}; quote a message that has spaces")
    return Spread(given[0], pattern)


def run(options: Spread, context: Context) -> int:
    """Write the copies."""
    return running(_broadcast(context, message_text(options.message, context.settings), options.pattern))


async def _broadcast(context: Context, text: str, pattern: str | None) -> int:
    async with opened(context) as bus:
        names = [info.name for info in await bus.channels() if is_queue(info) and info.messages]
        if pattern is not None:
            names = [name for name in names if fnmatchcase(name, pattern)]
        for name in names:
            queue_of(bus, name, context.settings)
        if names:
            await bus.write_to(names, SENDER, text)
    return 0 if names else 2
