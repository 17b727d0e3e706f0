"""``publish``: send a message to a channel."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sssnbus.cli.channels.showing import SENDER
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_name
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import Problem
from sssnbus.cli.queues.write import message_text
from sssnbus.cli.stopping import interruptible

_CHUNK: Final = 1 << 18


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "Send a message to everybody who subscribes to a channel. It stays there for those who come later.\n"
        "Without a message, or for -, it is what comes from stdin, kept byte for byte.\n\n"
        "With --json the message is a JSON value and kept as such. Stdin then is one value, or one a line,\n"
        "each of which is a message of its own and sent as it comes.",
        "sssnbus publish events 'deployed 1.4' --topic deploy.web",
        "sssnbus publish events --json '{\"user\": 7}'",
        "tail -f log.ndjson | sssnbus publish log --json",
        codes="0 sent, 1 error",
    )
    parser.add_argument("channel", help="the channel; it is made if need be")
    parser.add_argument(
        "message", nargs="?", metavar="MESSAGE|-", help="the message; after -- it may be any word"
    )
    parser.add_argument("--topic", help="its address inside the channel: words joined by dots")
    parser.add_argument("--json", action="store_true", help="the message is JSON")


def parse(words: Sequence[str]) -> Namespace:
    """Read the words: options may stand between the channel and the message."""
    from sssnbus.cli.commands import parser_of

    return parser_of("publish").parse_intermixed_args(words)


def run(options: Namespace, context: Context) -> int:
    """Send the message, or the messages."""
    check_name(options.channel, "channel name")
    if options.json and options.message in (None, "-"):
        return running(_send_lines(options, context))
    text = message_text(options.message, context.settings)
    return running(_send(options, context, _value(text, "the message") if options.json else text))


async def _send(options: Namespace, context: Context, data: object) -> int:
    async with opened(context) as bus:
        channel = bus.broadcast(options.channel, max_payload=context.settings.max_message_size)
        if options.topic is None:
            await channel.write(SENDER, data, confirm="stored")
        else:
            await channel.write(SENDER, data, confirm="stored", topic=options.topic)
    return 0


async def _send_lines(options: Namespace, context: Context) -> int:
    if sys.stdin is None:
        raise Problem("standard input is closed; pass a message", code="INVALID_ARGUMENT")
    if options.message is None and sys.stdin.isatty():
        raise Problem("message is required when stdin is a terminal; pass a message or pipe input")
    limit, sent = context.settings.max_message_size, 0
    async with opened(context) as bus:
        channel = bus.broadcast(options.channel, max_payload=limit)
        for values, problem in _values(limit):
            # What came in one piece goes in one step; what comes slowly goes as it comes.
            await channel.write_many(SENDER, values, confirm="stored", topic=options.topic)
            sent += len(values)
            if problem:
                raise Problem(f"{problem}; {sent} messages before it were sent", code="INVALID_ARGUMENT")
    return 0


def _values(limit: int) -> Iterator[tuple[list[object], str]]:
    """Yield the JSON values on stdin as they come, and what is wrong with the one behind them."""
    data = _chunk()
    while data and b"\n" not in data and len(data) <= 2 * limit and (more := _chunk()):
        data += more
    if not _is_json(data.partition(b"\n")[0]):
        # One value may have several lines.
        while len(data) <= 2 * limit and (more := _chunk()):
            data += more
        if len(data) > 2 * limit:
            raise Problem(f"Input exceeds maximum size of {limit} bytes", code="INVALID_ARGUMENT")
        yield [_value(data, "standard input")], ""
        return
    number, end = 0, False
    while not end:
        *lines, data = data.split(b"\n")
        found, problem = _parsed(lines, number)
        number += len(lines)
        if len(data) > 2 * limit:
            problem = problem or f"line {number + 1} of stdin exceeds maximum size of {limit} bytes"
        yield found, problem
        more = _chunk()
        end = not more
        data += more
    # The last line need not end with a newline.
    yield _parsed([data], number)


def _parsed(lines: list[bytes], number: int) -> tuple[list[object], str]:
    """Return the values of lines, up to the first that is not JSON, and what is wrong with that."""
    found: list[object] = []
    for line in lines:
        number += 1
        if line.strip():
            try:
                found.append(_value(line, f"line {number} of stdin"))
            except Problem as problem:
                return found, str(problem)
    return found, ""


def _chunk() -> bytes:
    with interruptible():
        stdin: Any = sys.stdin.buffer
        data: bytes = stdin.read1(_CHUNK)
        return data


def _is_json(text: bytes) -> bool:
    try:
        _value(text, "")
    except Problem:
        return False
    return True


def _value(text: str | bytes, what: str) -> Any:
    """Return the value that JSON stands for."""
    from json import loads

    try:
        return loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Problem(f"{what} is not JSON: {error}", code="INVALID_ARGUMENT") from None


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")
