"""How a command's own words are read, with argparse; imported only for commands that have options."""

import argparse
from collections.abc import Sequence
from textwrap import fill
from typing import Final, NoReturn

from sssnbus.cli.output import write
from sssnbus.cli.problem import WrongWords

_WIDTH: Final = 90
"""Where lines of descriptions break."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line on stderr and exit code 1."""

    def __init__(self, prog: str, description: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._words: Sequence[str] = ()

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the options that the words mean.

        Raises:
            WrongWords: they do not fit.
            SystemExit: they asked for help, which was printed.
        """
        self._words = words
        return self.parse_args(_joined(words))

    def error(self, message: str) -> NoReturn:
        """Refuse the words."""
        known = self._option_string_actions
        odd = [
            word
            for word in self._words
            if word[:1] == "-" and word[1:] and word.partition("=")[0] not in known
        ]
        if odd and message.startswith(
            ("the following arguments are required", "one of the arguments", "unrecognized")
        ):
            # It may have been meant as a name.
            message += f"; {odd[0]!r} is no option here, and would be an Invalid queue name"
        raise WrongWords(message)

    def print_help(self, file: object = None) -> None:
        """Write the help to stdout, as everything that was asked for."""
        write(self.format_help().encode())


def describe(
    parser: argparse.ArgumentParser,
    text: str,
    *examples: str,
    codes: str = "0 done, 1 error, 2 nothing there",
) -> None:
    """Give a command's help its text, its examples and its exit codes."""
    parser.description = text if "\n" in text else fill(text, _WIDTH)
    shown = "\n".join(f"  {example}" for example in examples)
    parser.epilog = f"examples:\n{shown}\n\nexit codes: {codes}"


def _joined(words: Sequence[str]) -> list[str]:
    """Return the words, with a value that begins with a minus sign joined to its option."""
    found: list[str] = []
    for word in words:
        if found and found[-1] in ("--after", "--before") and word[:1] == "-" and word[1:2].isdigit():
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found
