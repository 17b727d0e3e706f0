"""What the commands on channels share: how messages are shown, where they begin, what is told beside them."""

import argparse
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sssnbus.cli import output
from sssnbus.cli.problem import Problem
from sssnbus.cli.times import parse

if TYPE_CHECKING:
    from sssnbus import Bus, ChannelInfo, ChannelMessage, Notice, Start

SENDER: Final = "cli"
"""Who writes, in the messages of the command line."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ADDRESSES: Final = ("topic", "correlation_id", "reply_to", "recipient_id")


def fields(channel: str, message: "ChannelMessage") -> dict[str, object]:
    """Return a message as a JSON object: what the commands on queues show, and where it stands."""
    found = output.fields(message)
    found |= {"channel": channel, "sequence": message.sequence, "sender": message.sender_id}
    found |= {name: value for name in _ADDRESSES if (value := getattr(message, name)) is not None}
    return found | ({"metadata": message.metadata} if message.metadata else {})


def put(channel: str, message: "ChannelMessage", *, json: bool) -> None:
    """Write a message to stdout and flush it.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    if json:
        output.line(output.as_json(fields(channel, message)))
    else:
        output.write(output.plain(message) + b"\n")


def tell_notice(notice: "Notice", *, json: bool, what: str = "") -> None:
    """Say on stderr that messages were skipped, and why."""
    from sssnbus import Gap

    if isinstance(notice, Gap):
        parts = {"notice": "gap", "first": notice.first, "last": notice.last}
        text = f"messages {notice.first} to {notice.last}{what} were removed before they were read"
    else:
        parts = {"notice": "lagged", "count": notice.count}
        text = f"{notice.count} messages{what} were skipped, since this reader is too slow"
    output.say(output.as_json(parts) if json else f"sssnbus: warning: {text}")


def start_of(text: str | None) -> "Start | None":
    """Return where a subscription is to begin: ``new``, ``earliest``, at an id, or at a time."""
    if text is None or text in ("new", "earliest") or (len(text) == 19 and text.isdecimal()):
        return text
    try:
        return moment(text)
    except Problem:
        # Writers may give ids of their own; the channel knows whether this is one.
        return text


def moment(text: str) -> datetime:
    """Return the time that a text stands for, by the rules of ``--after``.

    Raises:
        Problem: it is none (``INVALID_TIMESTAMP``).
    """
    return _EPOCH + timedelta(microseconds=parse(text) // 1000)


async def known(bus: "Bus", name: str) -> "ChannelInfo | None":
    """Return what the store knows of a broadcast channel, without making it.

    Raises:
        Problem: it is a queue.
    """
    from sssnbus.stores import Kind

    info = await bus.channel(name)
    if info is not None and info.kind is not Kind.LOG:
        raise Problem(f"{name!r} is a queue; use 'peek' and 'read' for it", code="INVALID_ARGUMENT")
    return info


def whole(text: str) -> int:
    """Return a whole number from 1, as an argument."""
    if not text.isdecimal() or not 0 < int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds above 0, as an argument."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def speak() -> None:
    """Let what the library logs be told in one line each, without tracebacks."""
    logger = logging.getLogger("sssnbus")
    if not logging.getLogger().handlers and not logger.handlers:
        logger.addHandler(_Words(logging.WARNING))


class _Words(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        because = f" ({cause})" if cause is not None else ""
        output.say(f"sssnbus: {record.levelname.lower()}: {record.getMessage()}{because}")
