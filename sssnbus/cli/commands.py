"""The words of the command line: the table of commands, and how words become options."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from sssnbus.cli.context import Context
from sssnbus.cli.problem import WrongWords
from sssnbus.cli.target import Place

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from sssnbus.cli.parser import Parser

Options = Any
"""What a command made of its words: an ``argparse.Namespace``, or what its own ``parse`` returned."""

PROG: Final = "sssnbus"


class Command(NamedTuple):
    """A word of the command line."""

    module: str
    """Where it lives, imported only when it is called; with ``:name`` an object inside."""
    summary: str
    group: str


class CommandModule(Protocol):
    """What the module of a command holds, or an object in it if it holds several commands.

    It may also hold ``parse(words)``, which returns its options, if words that look like options are data to
    it; what it declares in ``add_arguments`` then is for its help only.
    """

    def add_arguments(self, parser: "ArgumentParser") -> None:
        """Declare the command's own arguments, and describe it."""

    def run(self, options: Options, context: Context) -> int:
        """Do it, and return the exit code: 0 for done, 2 for nothing there."""


QUEUES: Final = "queues, where each message is taken by one reader"
CHANNELS: Final = "channels, whose messages go to every subscriber"
STORE: Final = "the whole store"

_TABLE: Final = {
    QUEUES: {
        "write": ("queues.write", "add a message to a queue"),
        "read": ("queues.read", "take the oldest message, or all"),
        "peek": ("queues.peek", "look at messages without taking them"),
        "move": ("queues.move", "move messages to another queue"),
        "watch": ("queues.watch", "print messages as they come"),
        "exists": ("queues.counts:exists", "tell by the exit code whether a queue holds anything"),
        "stats": ("queues.counts:stats", "count the messages of a queue"),
        "list": ("queues.counts:listing", "list the queues"),
        "delete": ("queues.delete", "remove a queue, all queues or one message"),
        "broadcast": ("queues.broadcast", "write one message into every queue"),
        "alias": ("queues.alias", "give queues other names"),
        "claim": ("queues.claims:claim", "take a message for some time"),
        "ack": ("queues.claims:ack", "a claimed message is done"),
        "nack": ("queues.claims:nack", "a claimed message failed: give it back"),
        "extend": ("queues.claims:extend", "hold a claimed message for longer"),
        "dead": ("queues.dead", "look at messages that failed too often, send them back, remove them"),
        "init": ("queues.init", "make the database of this directory or project"),
    },
    CHANNELS: {
        "publish": ("channels.publish", "send a message to a channel"),
        "subscribe": (
            "channels.subscribe",
            "print a channel's messages as they come, or run a command on each",
        ),
        "history": ("channels.history", "print the messages that a channel holds"),
        "channels": ("channels.channels", "list the channels"),
        "subscriptions": ("channels.subscriptions", "list durable subscriptions and how far behind they are"),
    },
    STORE: {
        "top": ("whole.top", "a live table of all channels and queues"),
        "tail": ("whole.tail", "print everything that is written anywhere"),
        "doctor": ("whole.doctor", "look for what is dangerous or damaged"),
        "dump": ("whole.dump", "print everything the store holds, as NDJSON"),
        "load": ("whole.load", "take in what dump has printed"),
        "settings": ("environment", "list the settings of the environment and where the store is"),
        "completion": ("completion", "print a script that completes words in a shell"),
        "demo": ("demo", "events and jobs between real processes, one of which may be killed"),
    },
}

COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        word: Command(f"sssnbus.cli.{module}", summary, group)
        for group, words in _TABLE.items()
        for word, (module, summary) in words.items()
    }
)

STORELESS: Final = frozenset({"completion", "demo", "init", "settings"})
"""Commands that choose their own place, or need none."""


@dataclass(frozen=True)
class Words:
    """What stood before the command, the command, and what stood behind it."""

    directory: str | None = None
    file: str | None = None
    url: str | None = None
    quiet: bool = False
    help: bool = False
    version: bool = False
    cleanup: bool = False
    vacuum: bool = False
    compact: bool = False
    status: bool = False
    json: bool = False
    command: str | None = None
    rest: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """What they say of the place of the store."""
        return Place(self.directory, self.file, self.url)

    @property
    def action(self) -> bool:
        """Whether they ask for something that is no command."""
        return self.version or self.cleanup or self.vacuum or self.compact or self.status


_VALUES: Final = {
    "-d": "directory", "--dir": "directory", "-f": "file", "--file": "file", "--url": "url",
}  # fmt: skip
_FLAGS: Final = {
    "-q": "quiet", "--quiet": "quiet", "-h": "help", "--help": "help", "--version": "version",
    "--cleanup": "cleanup", "--vacuum": "vacuum", "--compact": "compact", "--status": "status",
    "--json": "json",
}  # fmt: skip


def split(words: Sequence[str]) -> Words:
    """Take the words before the command apart; what follows it belongs to it.

    Raises:
        WrongWords: one of them is not known, or lacks its value.
    """
    found: dict[str, Any] = {}
    place = 0
    while place < len(words) and words[place].startswith("-"):
        word, equals, value = words[place].partition("=")
        place += 1
        if word in _VALUES:
            if not equals and place < len(words) and not words[place].startswith("-"):
                value = words[place]
                place += 1
            if not value:
                raise WrongWords(f"option {word} requires an argument")
            found[_VALUES[word]] = value
        elif word in _FLAGS and not equals:
            found[_FLAGS[word]] = True
        else:
            raise WrongWords(f"unrecognized arguments: {words[place - 1]}")
    if place < len(words):
        found |= {"command": words[place], "rest": tuple(words[place + 1 :])}
    return _checked(Words(**found))


def _checked(words: Words) -> Words:
    if words.command is not None and words.command not in COMMANDS:
        raise WrongWords(f"unknown command {words.command!r}; '{PROG} --help' lists them")
    if words.json and not words.status:
        raise WrongWords("--json stands after the command, or with --status")
    return words


def module_of(command: str) -> CommandModule:
    """Import a command."""
    name, _, inside = COMMANDS[command].module.partition(":")
    try:
        module = importlib.import_module(name)
        return cast(CommandModule, getattr(module, inside) if inside else module)
    except ModuleNotFoundError as error:
        if error.name != name and not name.startswith(f"{error.name}."):
            raise
        raise WrongWords(f"unknown command {command!r}; '{PROG} --help' lists them") from None


def parser_of(command: str) -> "Parser":
    """Return the parser of a command's own words."""
    from sssnbus.cli.parser import Parser

    parser = Parser(f"{PROG} {command}", COMMANDS[command].summary)
    module_of(command).add_arguments(parser)
    return parser


def parse(command: str, words: Sequence[str]) -> Options:
    """Return the options that stand behind a command.

    Raises:
        WrongWords: they do not fit it.
        SystemExit: they asked for its help, which was printed.
    """
    own: Callable[[Sequence[str]], Options] | None = getattr(module_of(command), "parse", None)
    return parser_of(command).read(words) if own is None else own(words)


def overview() -> str:
    """Return the help of the program as a whole."""
    width = max(map(len, COMMANDS))
    lines = [
        f"usage: {PROG} [-d DIR] [-f FILE | --url URL] [-q] COMMAND ...",
        f"       {PROG} [-d DIR] [-f FILE] --status [--json] | --vacuum [--compact] | --cleanup",
        "",
        "Queues and channels in one SQLite file, with no broker to run.",
    ]
    for group, words in _TABLE.items():
        lines += ["", f"{group}:"]
        lines += [f"  {word:{width}}  {summary}" for word, (_, summary) in words.items()]
    return "\n".join([*lines, "", _OPTIONS])


_OPTIONS: Final = f"""\
options, before the command:
  -d, --dir DIR    the directory of the database, in place of the current one
  -f, --file NAME  the name of the database, in place of .sssnbus.db; an absolute path carries its directory
  --url URL        another store, such as sqlite:///jobs.db or redis://host; SSSNBUS_URL names one too
  -q, --quiet      say nothing but errors on stderr
  --status         count messages and bytes of the whole store; --json for programs
  --vacuum         remove messages that were consumed; with --compact shrink the file as well
  --cleanup        delete the database
  --version        print the version
  -h, --help       print this

Data goes to stdout and words to stderr. Exit codes: 0 done, 1 error, 2 nothing there.
'{PROG} COMMAND --help' tells more of a command, '{PROG} settings' what the environment can set."""
