"""``sssnbus settings``: what the environment can set, what it has set, and where the store is by that."""

from argparse import ArgumentParser
from dataclasses import fields

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context
from sssnbus.cli.output import as_json, line
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import Problem
from sssnbus.cli.settings import PREFIX, Settings


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    describe(
        parser,
        "Print where the store is, and every setting with its value and what it does. Values that are not "
        "the default are marked with a star.",
        "sssnbus settings",
        "SSSNBUS_PROJECT_SCOPE=1 sssnbus settings --json",
        codes="0 printed, 1 error",
    )


def run(options: Options, context: Context) -> int:
    """Print the settings."""
    from sssnbus import UsageError

    try:
        place: str | None = str(context.target)
        why = ""
    except (Problem, UsageError) as error:
        place, why = None, str(error)
    shown = {
        PREFIX + each.name.upper(): (_shown(context.settings, each.name), _shown(Settings(), each.name), each)
        for each in fields(Settings)
    }
    if options.json:
        settings = {
            key: {"value": value, "default": default, "summary": each.metadata["summary"]}
            for key, (value, default, each) in shown.items()
        }
        line(as_json({"store": place, "settings": settings}))
        return 0
    line(f"store: {place or f'none ({why})'}")
    for key, (value, default, each) in shown.items():
        mark = " " if value == default else "*"
        line(f"{mark} {key}={'' if value is None else value}\n      {each.metadata['summary']}")
    return 0


def _shown(settings: Settings, name: str) -> object:
    value: object = getattr(settings, name)
    if value is None or not name.endswith(("password", "target", "url")):
        return value
    # URLs may hold a password as well.
    return "***"
