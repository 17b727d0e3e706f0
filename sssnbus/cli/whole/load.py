"""``load``: take in what ``dump`` has printed."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO, Final

from sssnbus.cli import output
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import Problem
from sssnbus.cli.stopping import interruptible
from sssnbus.cli.whole.meter import Meter

_LONGEST: Final = 256 * 1024 * 1024
"""No line of a dump is longer: what is, is no dump, and would fill the memory."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "Take the output of 'dump' into this store. Messages keep their ids and go to the ends of their\n"
        "channels. What is there already stays as it is, so loading twice changes nothing, and a load that\n"
        "was interrupted is completed by another one.\n\n"
        "A line that is damaged, or holds another message under an id that is taken, is refused with its\n"
        "number on stderr; the other lines are loaded all the same, and the exit code is 1.",
        "sssnbus load backup.ndjson",
        "zcat backup.ndjson.gz | sssnbus --url sqlite:///copy.db load",
        codes="0 everything is there now, 1 an error, or a line was refused",
    )
    parser.add_argument(
        "file", nargs="?", default="-", help="the dump; standard input if it is left out, or -"
    )


def run(options: Namespace, context: Context) -> int:
    """Load the dump; return 1 if a line was refused."""
    with ExitStack() as stack:
        if options.file == "-":
            if sys.stdin is None or sys.stdin.isatty():
                raise Problem("a dump is needed: name its file, or pipe it in")
            source: BinaryIO = sys.stdin.buffer
        else:
            source = stack.enter_context(open(options.file, "rb"))
        return running(_load(source, context))


async def _load(source: BinaryIO, context: Context) -> int:
    meter = Meter(shown=not context.quiet)

    def refuse(number: int, reason: str) -> None:
        meter.clear()
        output.say(f"sssnbus: error: line {number} was not loaded: {reason}")

    async with opened(context) as bus:
        loaded = await bus.load(_lines(source, meter), refuse=refuse)
    meter.clear()
    text = f"Loaded {loaded.messages} messages into {loaded.channels} channels"
    if loaded.duplicates:
        text += f"; {loaded.duplicates} were there already"
    if loaded.kept:
        text += f"; {loaded.kept} places, settings or aliases are others here and stay"
    if loaded.damaged:
        text += f"; {loaded.damaged} were damaged before the dump was made and are not in it"
    context.note(text)
    return 1 if loaded.refused else 0


def _lines(source: BinaryIO, meter: Meter) -> Iterator[bytes]:
    number = 0
    while True:
        with interruptible():
            line = source.readline(_LONGEST)
        if not line:
            return
        if len(line) == _LONGEST:
            raise Problem(f"line {number + 1} is longer than any line of a dump")
        number += 1
        meter.tell(f"line {number:,}")
        yield line
