"""``sssnbus init``: make the database of this directory or project."""

import os
from argparse import ArgumentParser
from typing import TYPE_CHECKING

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context, running
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import Problem
from sssnbus.cli.target import to_initialize

if TYPE_CHECKING:
    from sssnbus.stores import Store


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--force", action="store_true", help="accepted, and changes nothing: data is kept")
    describe(
        parser,
        "Make the database in the current directory; with SSSNBUS_PROJECT_SCOPE what the project file of "
        "this directory, or of one above it, names. What exists is kept. Other commands make a database when "
        "they need it, except with SSSNBUS_PROJECT_SCOPE.",
        "cd project && sssnbus init",
        codes="0 made, or there already, 1 error",
    )


def run(options: Options, context: Context) -> int:
    """Make the database."""
    if context.place.given:
        raise Problem(
            "init makes the database of the current directory or project and takes no --dir, --file or "
            "--url; go to the directory first",
            code="INVALID_ARGUMENT",
        )
    target = to_initialize(context.settings)
    known = target.path is not None and os.path.exists(target.path) and os.path.getsize(target.path) > 0
    running(_make(target.store()))
    if known:
        context.note(f"sssnbus database already exists: {target}")
    else:
        context.note(f"Initialized sssnbus database: {target}")
    return 0


async def _make(store: "Store") -> None:
    try:
        await store.open()
    finally:
        await store.aclose()
