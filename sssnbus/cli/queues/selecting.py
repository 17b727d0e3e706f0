"""Which messages a command means, and how it prints them: the options that read, peek and move share."""

from argparse import ArgumentParser
from dataclasses import dataclass
from typing import TypedDict

from sssnbus.cli.commands import Options
from sssnbus.cli.names import check_id
from sssnbus.cli.output import Messages
from sssnbus.cli.problem import WrongWords
from sssnbus.cli.times import bound


class Bounds(TypedDict):
    """The selection as the verbs of a queue take it."""

    ids: list[str] | None
    after: str | None
    before: str | None


@dataclass(frozen=True)
class Selected:
    """What the options of one command say."""

    all: bool
    bounds: Bounds


def add_output(parser: ArgumentParser) -> None:
    """Declare how messages are printed."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line: message, timestamp (number) and id (text)",
    )
    parser.add_argument(
        "-t", "--timestamps", action="store_true", help="print the id and a tab before each message"
    )


def add_selection(parser: ArgumentParser) -> None:
    """Declare which messages are meant, and how they are printed."""
    parser.add_argument("--all", action="store_true", help="every message that matches, not just the oldest")
    add_output(parser)
    parser.add_argument("-m", "--message", metavar="ID", help="the message with this id of 19 digits")
    parser.add_argument(
        "--after",
        metavar="TIME",
        help="only messages newer than this: an id, an ISO date, or Unix time with or without s, ms or ns",
    )
    parser.add_argument("--before", metavar="TIME", help="only messages older than this")


def selected(options: Options) -> Selected:
    """Read those options.

    Raises:
        Problem: a time or an id is none, or two options exclude each other.
    """
    after, before = bound(options.after), bound(options.before)
    if options.message is not None and (options.all or after is not None or before is not None):
        raise WrongWords("--message cannot be used with --all, --after, or --before")
    id = check_id(options.message)
    return Selected(options.all, {"ids": None if id is None else [id], "after": after, "before": before})


def printer(options: Options, *, several: bool) -> Messages:
    """Return what prints the messages of a command as its options say."""
    return Messages(json=options.json, ids=options.timestamps, several=several)
