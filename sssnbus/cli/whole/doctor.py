"""``doctor``: look for what is dangerous or damaged, without changing anything."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sssnbus.cli import output
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.parser import describe
from sssnbus.cli.whole.meter import Meter

if TYPE_CHECKING:
    from sssnbus.stores import Finding, Store


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "Look at the store, its file and what is around that, and say what is well and what is not.\n"
        "Nothing is changed, not even a damaged file or one of another program. Every page and every\n"
        "message is read, while others may write.",
        "sssnbus doctor",
        "sssnbus doctor --json | jq -r 'select(.level != \"ok\") | .text'",
        codes="0 nothing dangerous, 1 a danger or an error",
    )
    parser.add_argument("--json", action="store_true", help="one object a line: subject, level, text, advice")


def run(options: Namespace, context: Context) -> int:
    """Print the findings as they come; return 1 if one of them is a danger."""
    from sssnbus.stores import Level, SQLiteStore, examine

    store = context.target.store()
    meter = Meter(shown=not context.quiet and not options.json)
    findings = examine(store, meter.tell) if isinstance(store, SQLiteStore) else _elsewhere(context)
    dangerous = False
    for finding in findings:
        meter.clear()
        dangerous = dangerous or finding.level is Level.DANGER
        if options.json:
            output.line(output.as_json(finding._asdict()))
            continue
        output.line(f"{finding.level:7} {finding.subject}: {finding.text}")
        if finding.advice:
            output.line(f"{'':7} -> {finding.advice}")
    return 1 if dangerous else 0


def _elsewhere(context: Context) -> "Iterator[Finding]":
    """Yield what there is to say of a store that is no file of this machine."""
    from sssnbus.stores import Finding, Level, abilities

    async def connect() -> "Store":
        # What a store survives is known once it was open.
        async with opened(context) as bus:
            return await bus.store()

    store = running(connect())
    yield Finding("store", Level.OK, f"{store.url} answers")
    survives = {"none": "nothing", "process": "a crash, not always a power cut", "disk": "a power cut"}
    level = Level.NOTE if store.durability == "none" else Level.OK
    yield Finding("durability", level, f"what was written survives {survives[store.durability]}")
    yield Finding("abilities", Level.OK, ", ".join(abilities(store)))
