"""The command line.

Data goes to stdout and words to stderr. The exit code is 0 for done, 1 for an error, 2 for nothing there.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from sssnbus.cli import commands, output
from sssnbus.cli.commands import COMMANDS as COMMANDS
from sssnbus.cli.commands import PROG, Words
from sssnbus.cli.context import Context
from sssnbus.cli.problem import Problem, WrongWords
from sssnbus.cli.settings import PREFIX, load
from sssnbus.cli.stopping import Stopped


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The words after the program's name; those of this process when left out.
    """
    call = _Call()
    try:
        return call.run(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BrokenPipeError:
        # Whoever read our output has gone, and knows.
        _forget_stdout()
        return 1
    except (KeyboardInterrupt, Stopped) as stop:
        return _stopped(stop)
    except Problem as problem:
        output.report(problem, json=call.json and not isinstance(problem, WrongWords))
        return problem.status
    except Exception as error:
        output.report(_told(error), json=call.json)
        return 1


class _Call:
    """One run of the program."""

    def __init__(self) -> None:
        self.json = False
        """Whether errors are told as JSON."""

    def run(self, given: list[str]) -> int:
        words = commands.split(given)
        if words.help:
            output.line(commands.overview())
            return 0
        self.json = words.json
        options = None if words.command is None else commands.parse(words.command, words.rest)
        self.json |= bool(getattr(options, "json", False))
        _check_actions(words)
        if words.version:
            from sssnbus import __version__

            output.line(f"{PROG} {__version__}")
            return 0
        context = Context(words.place, words.quiet, load(os.environ))
        if context.settings.logging_enabled:
            import logging

            logging.basicConfig(level=logging.DEBUG if context.settings.debug else logging.INFO)
        if words.action:
            from sssnbus.cli.queues import upkeep

            return upkeep.run(words, context)
        if words.command is None or options is None:
            output.line(commands.overview())
            return 0
        if words.command not in commands.STORELESS:
            # What is wrong with the place is told before standard input is read.
            _ = context.target
        return commands.module_of(words.command).run(options, context)


def _check_actions(words: Words) -> None:
    if words.status and words.command is not None:
        raise Problem("--status cannot be used with commands", code="INVALID_ARGUMENT")
    if words.compact and not words.vacuum:
        raise Problem("--compact can only be used with --vacuum", code="INVALID_ARGUMENT")
    if words.vacuum and words.command is not None:
        raise Problem("--vacuum cannot be used with commands", code="INVALID_ARGUMENT")


def _stopped(stop: BaseException) -> int:
    if isinstance(stop, Stopped) and stop.signal is not signal.SIGINT:
        output.say(f"{PROG}: ended by {stop.signal.name}")
        return 128 + stop.signal
    output.say(f"\n{PROG}: interrupted")
    return 0


def _told(error: Exception) -> Problem:
    """Return what people are told of an error; the traceback, too, if they asked for it."""
    from sssnbus import BusError, UsageError

    if os.environ.get(f"{PREFIX}DEBUG", "").lower() in ("1", "true", "yes", "on"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BusError):
        code = "INVALID_ARGUMENT" if isinstance(error, UsageError) else "ERROR"
        return Problem(str(error), code=code, retryable=error.retryable)
    if isinstance(error, OSError):
        return Problem(str(error))
    kind = type(error).__name__
    return Problem(f"unexpected {kind}: {error}. Set {PREFIX}DEBUG=1 to see where it comes from.")


def _forget_stdout() -> None:
    """Let nothing be written to a pipe that nobody reads, at exit either."""
    # It may be closed, or no file at all.
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
