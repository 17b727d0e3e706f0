"""Running a command for each message of a subscription."""

import asyncio
import os
import signal
from argparse import Namespace
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sssnbus.cli import output
from sssnbus.cli.channels.showing import fields, start_of, tell_notice
from sssnbus.cli.context import GRACE

if TYPE_CHECKING:
    from sssnbus import BroadcastChannel, ChannelMessage, Notice

_ATTEMPTS: Final = 5
"""How often a durable subscription tries a message."""

_LOOK: Final = 0.5
"""Seconds between two looks whether the subscription is still ours."""


_TICK: Final = 0.02
"""Seconds between two looks whether a command that was asked to end has done so."""

_PAUSE: Final = 1.0
"""No pause between two attempts is longer, in seconds."""


class CommandFailed(Exception):
    """The command did not end with 0."""


class _Progress:
    """How far the commands have come, and when to end."""

    def __init__(self, count: int | None, timeout: float | None) -> None:
        self._count, self._timeout = count, timeout
        self._changed = asyncio.Event()
        self._busy = False
        self.restart()
        self.through = 0

    @property
    def full(self) -> bool:
        """Whether no more messages are wanted."""
        return self._count is not None and self.through >= self._count

    def restart(self) -> None:
        """Count the time without a message from here."""
        self._since = asyncio.get_running_loop().time()

    def begin(self) -> None:
        """A message is in hand."""
        self._busy = True

    def pause(self) -> None:
        """The message will be tried again soon, unless programs before this one have tried it already."""
        self._busy = False
        self._since = asyncio.get_running_loop().time() + _PAUSE

    def end(self) -> None:
        """The message is done, or given up."""
        self._busy = False
        self.through += 1
        self.restart()
        self._changed.set()

    async def wait(self) -> bool:
        """Wait for a moment; return whether it is time to end."""
        left = _LOOK
        if self._timeout is not None and not self._busy:
            left = min(left, self._since + self._timeout - asyncio.get_running_loop().time())
            if left <= 0:
                return True
        try:
            async with asyncio.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return self.full


async def execute(channel: "BroadcastChannel", options: Namespace) -> int:
    """Run the command for each message until count, time-out or cancellation; return the exit code."""
    progress = _Progress(options.count, options.timeout)
    durable = options.name is not None
    failures: dict[str, int] = {}

    async def handle(message: "ChannelMessage") -> None:
        if progress.full:
            # One more than was asked for: it is given back when the subscription ends.
            await asyncio.Event().wait()
        progress.begin()
        failure = await _run(options.exec, _input(options, message), _environment(options.channel, message))
        if failure is None:
            failures.pop(message.id, None)
            progress.end()
            return
        output.say(f"sssnbus: error: the command {failure} on message {message.id}")
        if not durable:
            progress.end()
            return
        failures[message.id] = failures.get(message.id, 0) + 1
        if failures[message.id] < _ATTEMPTS:
            progress.pause()
        else:
            del failures[message.id]
            progress.end()
        raise CommandFailed(f"the command {failure}")

    async def on_notice(notice: "Notice") -> None:
        tell_notice(notice, json=options.json)

    subscription = channel.subscribe(
        options.name or f"cli-{os.getpid()}",
        handle,
        start=start_of(options.start),
        topic=options.topic,
        durable=durable,
        max_deliveries=_ATTEMPTS,
        on_notice=on_notice,
    )
    await subscription
    progress.restart()
    try:
        while not await progress.wait():
            if subscription.error is not None:
                raise subscription.error
    finally:
        await subscription.aclose(0.0 if progress.full else GRACE)
    return 0 if progress.through else 2


def _input(options: Namespace, message: "ChannelMessage") -> bytes:
    if options.json:
        return output.as_json(fields(options.channel, message)).encode() + b"\n"
    return output.plain(message)


def _environment(channel: str, message: "ChannelMessage") -> dict[str, str]:
    return os.environ | {
        "SSSNBUS_MESSAGE_ID": message.id,
        "SSSNBUS_MESSAGE_TOPIC": message.topic or "",
        "SSSNBUS_MESSAGE_CHANNEL": channel,
        "SSSNBUS_MESSAGE_SENDER": message.sender_id,
    }


async def _run(command: str, data: bytes, environment: dict[str, str]) -> str | None:
    """Run a command with a message on its stdin; return None if it went well, else what it did."""
    # Apart, so that all it starts can be ended with it, and Ctrl-C does not make a failure of it.
    process = await asyncio.create_subprocess_shell(
        command, stdin=PIPE, env=environment, start_new_session=True
    )
    try:
        # One that does not read its input may do its work all the same.
        await process.communicate(data)
    except asyncio.CancelledError:
        await _end(process)
        raise
    if process.returncode == 0:
        return None
    code = process.returncode or 0
    return f"ended with code {code}" if code > 0 else f"was ended by signal {-code}"


async def _end(process: Process) -> None:
    """Ask a command and all that it has started to end, and see to it that they do."""
    if process.returncode is not None:
        return
    loop = asyncio.get_running_loop()
    deadline = loop.time() + GRACE / 2
    # Nobody is left of the group, or nobody who is ours.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
        while loop.time() < deadline:
            await asyncio.sleep(_TICK)
            os.killpg(process.pid, 0)
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE / 2):
            await process.wait()
