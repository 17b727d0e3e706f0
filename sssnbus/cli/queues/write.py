"""``sssnbus write``: add a message to a queue."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_queue, resolve
from sssnbus.cli.problem import Problem, WrongWords
from sssnbus.cli.queues.handling import SENDER, queue_of
from sssnbus.cli.settings import Settings

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Written(NamedTuple):
    """The words of the command."""

    queue: str
    message: str | None


def add_arguments(parser: "ArgumentParser") -> None:
    """Describe the command; its words are read by ``parse``."""
    from sssnbus.cli.parser import describe

    parser.add_argument("queue", help="the queue, or @ALIAS; it is made if need be")
    parser.add_argument(
        "message", nargs="?", metavar="MESSAGE|-", help="the message; stdin without it or for -"
    )
    describe(
        parser,
        "Add a message to a queue. The word behind the queue is the message, whatever it looks like. What "
        "comes from stdin is kept byte for byte, with its last newline.",
        "sssnbus write jobs 'ship it'",
        "df -h | sssnbus write reports",
        codes="0 written, 1 error",
    )


def parse(words: Sequence[str]) -> Written:
    """Read the words: a queue and a message, which are data even if they look like options.

    Raises:
        WrongWords: there are too few or too many.
        SystemExit: they asked for help, which was printed.
    """
    if not words:
        raise WrongWords("the following arguments are required: queue")
    if words[0] in ("-h", "--help"):
        from sssnbus.cli.commands import parser_of

        parser_of("write").print_help()
        raise SystemExit(0)
    given = [*words]
    if given[0] == "--" and len(given) > 1:
        del given[0]
    if len(given) > 2 and given[1] == "--":
        del given[1]
    if len(given) > 2:
        raise WrongWords(f"unrecognized arguments: {' '.join(given[2:])}; quote a message that has spaces")
    return Written(given[0], given[1] if len(given) > 1 else None)


def run(options: Written, context: Context) -> int:
    """Write the message."""
    check_queue(options.queue)
    text = message_text(options.message, context.settings)
    return running(_write(context, options.queue, text))


async def _write(context: Context, operand: str, text: str) -> int:
    async with opened(context) as bus:
        queue = queue_of(bus, await resolve(bus, operand), context.settings)
        await queue.write(SENDER, text)
    return 0


def message_text(operand: str | None, settings: Settings) -> str:
    """Return the message that an operand gives, or standard input for ``-`` or without one.

    Raises:
        Problem: it is too large, or no UTF-8, or a terminal was to give it.
    """
    limit = settings.max_message_size
    if operand not in (None, "-"):
        assert operand is not None
        try:
            # The bytes that were given, in UTF-8 even where the locale says that words are something else.
            data = os.fsencode(operand)
            text = data.decode()
        except UnicodeError:
            raise Problem("the message is not UTF-8", code="INVALID_ARGUMENT") from None
        if len(data) > limit:
            raise Problem(f"Message exceeds maximum size of {limit} bytes", code="INVALID_ARGUMENT")
        return text
    return _from_stdin(operand, limit)


def _from_stdin(operand: str | None, limit: int) -> str:
    if sys.stdin is None:
        raise Problem("standard input is closed; pass a message", code="INVALID_ARGUMENT")
    if operand is None and sys.stdin.isatty():
        raise Problem("message is required when stdin is a terminal; pass a message or pipe input")
    # One byte more tells that it is too much, however much there is.
    data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        raise Problem(f"Input exceeds maximum size of {limit} bytes", code="INVALID_ARGUMENT")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Problem(
            f"standard input is not UTF-8 (byte {error.start}); encode it first, as with base64",
            code="INVALID_ARGUMENT",
        ) from None
