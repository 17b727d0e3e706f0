"""``dump``: print everything that a store holds, as NDJSON."""

from argparse import ArgumentParser, Namespace
from typing import Any

from sssnbus.cli import output
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.parser import describe
from sssnbus.cli.whole.meter import Meter


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "Print the whole store, one JSON object a line, for 'load' to take into this store or any other:\n"
        "channels with their settings, messages with their ids and how they stand in their queues, dead\n"
        "letters, the places of durable subscriptions and readers, aliases.\n\n"
        "It holds what was there when it began; others may write meanwhile. Messages that are claimed\n"
        "come as ready. One that is moved meanwhile may come twice, with one id. One that is damaged is\n"
        "left out, with a word on stderr and exit code 1.",
        "sssnbus dump > backup.ndjson",
        "sssnbus dump --channel events --channel jobs | gzip > some.ndjson.gz",
        "sssnbus dump | sssnbus --url sqlite:///copy.db load",
        codes="0 done, 1 an error, or a message was damaged",
    )
    parser.add_argument(
        "--channel", action="append", default=[], metavar="NAME", help="only this one; may be repeated"
    )


def run(options: Namespace, context: Context) -> int:
    """Print the store; return 1 if a message was damaged."""
    return running(_dump(options.channel, context))


async def _dump(channels: list[str], context: Context) -> int:
    from json import dumps

    # On one terminal the two would be mixed.
    meter = Meter(shown=not (context.quiet or output.on_terminal()))
    damaged = messages = 0
    lines: list[str] = []
    size = 0
    async with opened(context) as bus:
        async for record in bus.dump(channels):
            if "damaged" in record and "end" not in record:
                damaged += 1
                meter.clear()
                what = _name(record)
                output.say(f"sssnbus: error: {what} is damaged ({record['reason']}) and not in the dump")
            messages += "message" in record
            lines.append(dumps(record, ensure_ascii=False, separators=(",", ":")))
            size += len(lines[-1])
            # Some at a time: one call of the system for each would be most of the work.
            if size >= 1 << 16:
                output.line("\n".join(lines))
                lines.clear()
                size = 0
                meter.tell(f"{messages:,} messages")
        output.line("\n".join(lines))
    meter.clear()
    return 1 if damaged else 0


def _name(record: dict[str, Any]) -> str:
    if "place" in record:
        return f"the place of {record['damaged']!r} in channel {record['channel']!r}"
    what = "dead letter" if record.get("dead") else "message"
    return f"{what} {record['sequence']} of channel {record['channel']!r}"
