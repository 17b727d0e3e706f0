"""``top``: a live table of all channels and queues."""

import asyncio
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from sssnbus.cli import output
from sssnbus.cli.channels.showing import seconds
from sssnbus.cli.context import Context, Stopped, opened, running
from sssnbus.cli.parser import describe
from sssnbus.cli.whole.figures import Row, Sample, Sampler

if TYPE_CHECKING:
    from rich.table import Table

_HEADINGS: Final = (
    "channel", "kind", "ready", "delayed", "in flight", "done", "dead", "oldest", "in/s", "out/s", "lag",
)  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "Show every channel and queue: messages that are ready (of a broadcast channel all it holds),\n"
        "delayed, in flight, done and dead; the age of the oldest one that is ready; messages written and\n"
        "taken a second; how far behind the slowest durable subscription is. The table is drawn anew each\n"
        "second; q or Ctrl-C ends it. Where there is no terminal it is printed as plain lines.",
        "sssnbus top",
        "sssnbus top --once --json | jq '.channels[] | select(.oldest > 60) | .name'",
        codes="0 ended as it should, 1 error",
    )
    parser.add_argument(
        "--once", action="store_true", help="show it once and end; the rates are not known then"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for each look")
    parser.add_argument(
        "--interval", type=seconds, default=1.0, metavar="S", help="seconds between two looks"
    )


def run(options: Namespace, context: Context) -> int:
    """Show the table until something ends it."""
    try:
        return running(_top(options, context))
    except (Stopped, BrokenPipeError):
        return 0


async def _top(options: Namespace, context: Context) -> int:
    async with opened(context) as bus:
        sampler = Sampler(bus)
        if options.once or options.json or not output.on_terminal():
            await _print(sampler, options)
        else:
            await _draw(sampler, options.interval)
    return 0


async def _print(sampler: Sampler, options: Namespace) -> None:
    while True:
        sample = await sampler.take()
        output.line(output.as_json(_object(sample)) if options.json else "\n".join(_lines(sample)))
        if options.once:
            return
        await asyncio.sleep(options.interval)


def _object(sample: Sample) -> dict[str, object]:
    found = asdict(sample)
    channels = found.pop("rows")
    return {**found, "channels": channels}


def _lines(sample: Sample) -> list[str]:
    """Return the table as plain text, in columns."""
    cells = [list(_HEADINGS), *([*_cells(row)] for row in sample.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADINGS))]
    lines = []
    for row in cells:
        parts = [
            f"{text:<{width}}" if column < 2 else f"{text:>{width}}"
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(parts).rstrip())
    return [*lines, ""]


def _cells(row: Row) -> Iterator[str]:
    yield row.name
    yield row.kind
    for count in (row.ready, row.delayed, row.in_flight, row.done, row.dead):
        yield f"{count:,}"
    yield "-" if row.oldest is None else _age(row.oldest)
    for rate in (row.rate_in, row.rate_out):
        yield "-" if rate is None else f"{rate:,.0f}"
    yield "-" if row.lag is None else f"{row.lag:,}"


def _age(age: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if age >= 2 * length:
            return f"{age / length:.0f} {unit}"
    return f"{age:.0f} s"


async def _draw(sampler: Sampler, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    ended = asyncio.Event()
    with _keys(ended), Live(console=Console(), screen=True, auto_refresh=False) as live:
        while not ended.is_set():
            live.update(_table(await sampler.take()), refresh=True)
            try:
                async with asyncio.timeout(interval):
                    await ended.wait()
            except TimeoutError:
                continue


def _table(sample: Sample) -> "Table":
    from rich.table import Table
    from rich.text import Text

    title = f"{sample.url}   {sample.messages:,} messages   {sample.size / 1e6:,.1f} MB   q ends"
    table = Table(title=Text(title), expand=True)
    for column, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="left" if column < 2 else "right", no_wrap=True)
    for row in sample.rows:
        # Text, since names may hold what the library would take for markup.
        table.add_row(*(Text(cell) for cell in _cells(row)), style="bold red" if row.dead else None)
    return table


@contextmanager
def _keys(ended: asyncio.Event) -> Iterator[None]:
    """Set an event when somebody presses q; the terminal gives single keys meanwhile."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    loop, fd = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        keys = os.read(fd, 64)
        if not keys:
            loop.remove_reader(fd)
        if set(keys) & set(b"qQ\x04"):
            ended.set()

    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    loop.add_reader(fd, read)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
