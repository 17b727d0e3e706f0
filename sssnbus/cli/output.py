"""What goes to stdout: message lines and listings, flushed as they are written. Words go to stderr."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

from sssnbus.cli.problem import Problem
from sssnbus.cli.stopping import interruptible

if TYPE_CHECKING:
    from sssnbus import ChannelMessage


class Messages:
    """Prints messages of one command in the form that was asked for."""

    def __init__(self, *, json: bool = False, ids: bool = False, several: bool = False) -> None:
        """Choose the form.

        Args:
            json: One JSON object a line, with ``message``, ``timestamp`` (a number) and ``id`` (a string).
            ids: The id and a tab before each message; in JSON it is there anyway.
            several: More than one message may follow, so that a newline inside one is worth a warning.
        """
        self._json, self._ids = json, ids
        self._warn = several and not json and not ids

    def put(self, message: "ChannelMessage") -> None:
        """Write a message and flush it.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        if self._json:
            line(as_json(fields(message)))
            return
        text = plain(message)
        if self._warn and b"\n" in text:
            self._warn = False
            say(
                "sssnbus: warning: a message contains newline characters, so lines are not messages; "
                "use --json to tell them apart"
            )
        write(message.id.encode() + b"\t" + text + b"\n" if self._ids else text + b"\n")


def plain(message: "ChannelMessage") -> bytes:
    """Return a message's content for people: text as it is, anything else as compact JSON.

    Bytes are written as they are if they are UTF-8, else as ``base64:`` and their letters.
    """
    value, encoding = _value(message)
    if isinstance(value, str):
        return (f"{encoding}:{value}" if encoding else value).encode()
    return as_json(value, compact=True).encode()


def fields(message: "ChannelMessage") -> dict[str, object]:
    """Return a message as a JSON object: ``message``, ``timestamp`` and ``id``.

    Text is a string; other content is the JSON value that it is. Bytes are a string if they are UTF-8, else
    base64, which ``"encoding": "base64"`` then says.
    """
    value, encoding = _value(message)
    found = {"message": value, "timestamp": nanoseconds(message), "id": message.id}
    return found | {"encoding": encoding} if encoding else found


def nanoseconds(message: "ChannelMessage") -> int:
    """Return a message's time: its id, if that is one of 19 digits, else the time it was written."""
    if len(message.id) == 19 and message.id.isascii() and message.id.isdigit():
        return int(message.id)
    return int(message.timestamp * 1_000_000_000)


def _value(message: "ChannelMessage") -> tuple[Any, str | None]:
    content = message.content
    data = getattr(content, "data", None)
    if content.type_name == "json" or (content.type_name == "unknown" and hasattr(content, "type")):
        return data, None
    if content.type_name != "bytes" or not isinstance(data, bytes):
        return content.model_dump(mode="json"), None
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        from base64 import b64encode

        return b64encode(data).decode(), "base64"


def as_json(value: object, *, compact: bool = False) -> str:
    """Return a value as JSON on one line, with letters of all scripts as they are."""
    from json import dumps

    return dumps(value, ensure_ascii=False, separators=(",", ":") if compact else None)


def line(text: str) -> None:
    """Write a line to stdout and flush it.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    write(text.encode(errors="surrogateescape") + b"\n")


class _Raw(Protocol):
    def write(self, data: memoryview, /) -> int | None: ...


def write(data: bytes) -> None:
    """Write bytes to stdout, past its buffer: what could not be written is not tried again at exit.

    Raises:
        BrokenPipeError: nobody reads any more.
        Stopped: a signal came meanwhile.
    """
    if sys.stdout is None:
        raise Problem("standard output is closed")
    sys.stdout.flush()
    buffer = sys.stdout.buffer
    raw = cast(_Raw, getattr(buffer, "raw", buffer))
    rest = memoryview(data)
    with interruptible():
        while rest:
            rest = rest[raw.write(rest) or 0 :]


def on_terminal() -> bool:
    """Return whether stdout is a terminal; it is none if it was closed before the command began."""
    return sys.stdout is not None and sys.stdout.isatty()


def say(text: str) -> None:
    """Write words for people to stderr."""
    if sys.stderr is not None:
        # If nobody listens, or its disk is full, that is no reason to leave work half done.
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def report(problem: Problem, *, json: bool) -> None:
    """Say what went wrong: one line, or one JSON object."""
    if json:
        error: Mapping[str, object] = {
            "error": problem.code,
            "message": str(problem),
            "retryable": problem.retryable,
        }
        say(as_json(error))
    else:
        say(f"sssnbus: error: {problem}")
