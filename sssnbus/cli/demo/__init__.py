"""``sssnbus demo``: a publisher, two subscribers and some workers, all real processes, on one SQLite file.

It ends by itself with exit code 0 if everything adds up and 1 if anything does not. Ctrl-C and SIGTERM end
it, its children and its temporary file in order, with exit code 130 and 143.
"""

import argparse
from collections.abc import Callable

from sssnbus.cli.parser import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the demo."""
    describe(
        parser,
        "A publisher walks Python's standard library and writes an event and a job for each file. Two "
        "subscribers take the events, one of which joins late; workers hash the files. In the end everything "
        "must add up. Ctrl-C and SIGTERM end everything in order.",
        "sssnbus demo",
        "sssnbus demo --kill --files 500",
        codes="0 everything adds up, 1 something does not, 130 Ctrl-C, 143 SIGTERM",
    )
    add = parser.add_argument
    add(
        "--files",
        type=_number(int, 1),
        default=2000,
        metavar="N",
        help="how many files at most (default: 2000)",
    )
    add("--workers", type=_number(int, 1), default=2, metavar="N", help="how many workers (default: 2)")
    add(
        "--rate",
        type=_number(float, 0),
        default=200.0,
        metavar="R",
        help="files a second (default: 200; 0: at full speed)",
    )
    add("--kill", action="store_true", help="kill a worker in the middle of its work; needs 50 files or more")
    add(
        "--file",
        metavar="PATH",
        help="keep the database here; it must not exist yet (default: a temporary file)",
    )
    add("--json", action="store_true", help="print the result as one JSON object, and the progress to stderr")


def run(options: argparse.Namespace, context: object) -> int:
    """Run the demo and return the exit code."""
    from sssnbus.cli.demo.stage import perform

    return perform(options)


def _number(kind: Callable[[str], float], least: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not least <= value < 10**9:
            raise argparse.ArgumentTypeError(f"it must be {least} or more, and below a billion")
        return value

    return number
