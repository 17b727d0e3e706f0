"""``completion``: print a script that completes words in a shell.

The scripts are made from the table of commands and from the parser of each, so they know what the program
knows. Names of queues and channels are asked for when they are needed, by ``completion --names``.
"""

import argparse
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sssnbus.cli import output
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import WrongWords

if TYPE_CHECKING:
    from sssnbus import Bus

SHELLS: Final = ("bash", "zsh", "fish")
NAMES: Final = ("queues", "channels", "all")

GLOBAL_VALUES: Final = {"-d": "files", "--dir": "files", "-f": "files", "--file": "files", "--url": "nothing"}
"""Options before the command that take a value, and what that is."""
GLOBAL_FLAGS: Final = (
    "-q", "--quiet", "-h", "--help", "--version", "--cleanup", "--vacuum", "--compact", "--status",
)  # fmt: skip

_QUEUES: Final = frozenset({"queue", "source", "dest", "target"})
_CHANNELS: Final = frozenset({"channel"})
_FILES: Final = frozenset({"file"})


@dataclass
class Spec:
    """What may follow a command, or a word behind it."""

    summary: str = ""
    options: dict[str, str] = field(default_factory=dict)
    """Each option with its help."""
    values: dict[str, str] = field(default_factory=dict)
    """What follows an option: ``queues``, ``channels``, ``all`` of both, ``files``, ``nothing`` that is
    known, or words with commas between them."""
    operands: list[str] = field(default_factory=list)
    """The same for the words that are no options, in their order."""
    words: "dict[str, Spec]" = field(default_factory=dict)
    """The commands behind this one."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "Print a script that lets a shell complete commands, options and the names of queues and channels.",
        'eval "$(sssnbus completion bash)"    # in ~/.bashrc',
        'eval "$(sssnbus completion zsh)"     # in ~/.zshrc, behind compinit',
        "sssnbus completion fish > ~/.config/fish/completions/sssnbus.fish",
        codes="0 done, 1 error",
    )
    parser.add_argument("shell", choices=SHELLS, nargs="?", help="which shell")
    parser.add_argument("--names", choices=NAMES, help=argparse.SUPPRESS)


def run(options: Namespace, context: Context) -> int:
    """Print the script, or the names that one asks for."""
    if options.names is not None:
        return _print_names(options.names, context)
    if options.shell is None:
        raise WrongWords(f"which shell? one of {', '.join(SHELLS)}")
    from sssnbus.cli import shells

    script = {"bash": shells.bash, "zsh": shells.zsh, "fish": shells.fish}[options.shell]
    output.line(script(specify()))
    return 0


def specify() -> dict[str, Spec]:
    """Return what may follow each command."""
    from sssnbus.cli.commands import COMMANDS, parser_of

    found = {}
    for name, command in COMMANDS.items():
        try:
            found[name] = _spec(parser_of(name), command.summary)
        except WrongWords:
            # A command that is not in this installation.
            continue
    return found


def flattened(specs: dict[str, Spec], before: str = "") -> Iterator[tuple[str, Spec]]:
    """Yield every command with what may follow it, words behind words too: ``alias add``."""
    for name, spec in specs.items():
        yield before + name, spec
        yield from flattened(spec.words, f"{before}{name} ")


def _spec(parser: ArgumentParser, summary: str) -> Spec:
    spec = Spec(summary)
    for action in parser._actions:  # argparse has no public way to ask
        if action.help == argparse.SUPPRESS:
            continue
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            spec.words = {word: _spec(sub, helps.get(word, "")) for word, sub in action.choices.items()}
            spec.operands.append(",".join(action.choices))
        elif action.option_strings:
            for option in action.option_strings:
                spec.options[option] = (action.help or "").partition(";")[0]
                if action.nargs != 0:
                    spec.values[option] = _kind(action)
        else:
            spec.operands.append(_kind(action))
    return spec


def _kind(action: argparse.Action) -> str:
    if action.choices is not None:
        return ",".join(map(str, action.choices))
    if action.dest in _QUEUES or action.metavar == "QUEUE":
        return "queues"
    if action.dest in _CHANNELS:
        return "all" if action.option_strings else "channels"
    return "files" if action.dest in _FILES else "nothing"


def _print_names(which: str, context: Context) -> int:
    """Print names for a shell, which wants no words and nothing made."""
    path = context.target.path
    if path is not None and not os.path.exists(path):
        return 0
    return running(_names(which, context))


async def _names(which: str, context: Context) -> int:
    from sssnbus.stores import Catalogue, Kind

    async with opened(context) as bus:
        store = await bus.store()
        if isinstance(store, Catalogue):
            kinds = {"queues": [Kind.QUEUE], "channels": [Kind.LOG]}.get(which, list(Kind))
            names = [info.name for info in await store.logs() if info.kind in kinds]
            if which == "queues":
                names += await _aliases(bus)
            for name in names:
                output.line(name)
    return 0


async def _aliases(bus: "Bus") -> list[str]:
    from sssnbus.cli.names import SPACE
    from sssnbus.stores import Records

    store = await bus.store()
    return [f"@{name}" for name in await store.names(SPACE)] if isinstance(store, Records) else []
