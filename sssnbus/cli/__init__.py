"""The command line.

Data goes to stdout and words to stderr. The exit code is 0 for done, 1 for an error, 2 for nothing there.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, NoReturn, Protocol, cast

from sssnbus.errors import BusError

PROG: Final = "sssnbus"


class Command(NamedTuple):
    """A word of the command line."""

    module: str
    """Where it lives; imported only when it is called."""
    summary: str


class CommandModule(Protocol):
    """What the module of a command holds."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own arguments."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it, and return the exit code."""


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "demo": Command(
            "sssnbus.cli.demo", "events and jobs between real processes, one of which may be killed"
        ),
    }
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line on stderr and exit code 1."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{PROG}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The words after the program's name; those of this process when left out.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # Options of the program stand before the command; what follows the command belongs to it.
    split = next((place for place, text in enumerate(words) if not text.startswith("-")), len(words))
    try:
        options = _parser().parse_args(words[:split])
        if options.version:
            print(f"{PROG} {_version()}")
            return 0
        if split == len(words):
            _parser().print_help()
            return 0
        return _run(words[split], words[split + 1 :])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BrokenPipeError:
        # Whoever read our output has gone. Nothing may be written to it any more, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BusError as error:
        print(f"{PROG}: error: {error}", file=sys.stderr)
        return 1


def _parser() -> Parser:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
    parser = Parser(
        prog=PROG,
        usage=f"{PROG} [--version] [--help] COMMAND ...",
        description="An event bus in one SQLite file, with no broker to run.",
        epilog=f"commands:\n{listed}\n\n'{PROG} COMMAND --help' tells more of one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    return parser


def _run(name: str, words: Sequence[str]) -> int:
    if name not in COMMANDS:
        raise SystemExit(_fail(f"unknown command {name!r}; known are {', '.join(COMMANDS)}"))
    module = cast(CommandModule, importlib.import_module(COMMANDS[name].module))
    parser = Parser(prog=f"{PROG} {name}", description=COMMANDS[name].summary, allow_abbrev=False)
    module.add_arguments(parser)
    return module.run(parser.parse_args(words))


def _fail(text: str) -> int:
    print(f"{PROG}: error: {text}", file=sys.stderr)
    return 1


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(PROG)
    except PackageNotFoundError:
        return "(not installed)"
