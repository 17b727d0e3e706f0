"""``sssnbus watch``: print the messages of a queue as they come."""

import asyncio
import os
import select
import sys
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from errno import EPIPE
from typing import TYPE_CHECKING, Final

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_queue, resolve
from sssnbus.cli.output import Messages, say
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import Problem, WrongWords
from sssnbus.cli.queues.handling import WORKER, hand_over, queue_of, tidy
from sssnbus.cli.queues.selecting import add_output, printer
from sssnbus.cli.stopping import Stopped
from sssnbus.cli.times import bound

if TYPE_CHECKING:
    from sssnbus import Bus, WorkQueueChannel

_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the queue without any news: a hold may have ended, or a delay."""

_READER_GONE: Final = 0.5
"""Seconds between two looks whether somebody still reads standard output."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("queue", help="the queue, or @ALIAS")
    parser.add_argument("--peek", action="store_true", help="print each message once, and take none")
    parser.add_argument("--move", metavar="QUEUE", help="move each message to this queue, then print it")
    add_output(parser)
    parser.add_argument("--after", metavar="TIME", help="only messages newer than this; see read --help")
    describe(
        parser,
        "Take the messages of a queue and print them: those that are there, then each one soon after it is "
        "written. Ctrl-C, SIGTERM and the end of whoever reads the output end it; what was not written out "
        "by then stays in the queue.",
        "sssnbus watch jobs",
        "sssnbus watch jobs --peek --json",
        "sssnbus watch incoming --move archive > log.txt",
        codes="0 ended by Ctrl-C, SIGTERM or a closed pipe, 1 error",
    )


def run(options: Options, context: Context) -> int:
    """Watch until the end."""
    if options.move is not None:
        if options.peek:
            raise WrongWords("argument --move: not allowed with argument --peek")
        if options.after is not None:
            raise WrongWords(
                "--move is incompatible with --after: --move drains all messages from the source queue"
            )
        check_queue(options.move)
    after = bound(options.after)
    check_queue(options.queue)
    try:
        running(_watch(options, context, after))
    except (Stopped, BrokenPipeError):
        # This is how it is meant to end.
        return 0
    return 0


async def _watch(options: Options, context: Context, after: str | None) -> None:
    out = printer(options, several=True)
    async with opened(context) as bus:
        name = await resolve(bus, options.queue)
        target = None if options.move is None else await resolve(bus, options.move)
        if target == name:
            raise Problem("Cannot move messages to the same queue", code="INVALID_ARGUMENT")
        mode = "peek mode" if options.peek else f"move to {target} mode" if target else "consume mode"
        context.note(f"Watching queue {name!r} ({mode})...")
        queue = queue_of(bus, name, context.settings)
        async with _while_somebody_reads():
            if options.peek:
                await _peek(queue, out, after)
            elif target is not None:
                await _follow(bus, context, lambda: _move(queue, target, out))
            else:
                await _follow(bus, context, lambda: _consume(queue, context, out, after))


async def _peek(queue: "WorkQueueChannel", out: Messages, after: str | None) -> None:
    from sssnbus import StoreReset

    while True:
        # Somebody may delete the queue; what is written then is new.
        with suppress(StoreReset):
            async with aclosing(queue.observe("earliest", after=after)) as messages:
                async for message in messages:
                    out.put(message)


async def _consume(queue: "WorkQueueChannel", context: Context, out: Messages, after: str | None) -> bool:
    from sssnbus import ClaimLost

    limit = context.settings.read_commit_interval
    messages = await queue.read(WORKER, exclusive=True, limit=limit, after=after)
    if messages:
        try:
            await hand_over(queue, messages, out.put)
        except ClaimLost as error:
            # This process was stopped for so long that somebody else may have them, too. There is more to do.
            say(f"sssnbus: warning: {error}")
        await tidy(queue, context.settings, messages)
    return bool(messages)


async def _move(queue: "WorkQueueChannel", target: str, out: Messages) -> bool:
    # One by one: what has moved, but could not be printed any more, is at most one message.
    moved = await queue.move(target, limit=1)
    for message in moved:
        out.put(message)
    return bool(moved)


async def _follow(bus: "Bus", context: Context, take: Callable[[], Awaitable[bool]]) -> None:
    """Take messages as long as there are any, and again at all news."""
    from sssnbus.stores import Wakeups

    store, news = await bus.store(), asyncio.Event()
    stop_listening = store.watch(news.set) if isinstance(store, Wakeups) else None
    interval = context.settings.max_interval
    try:
        while True:
            news.clear()
            if not await take():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY if interval is None else interval):
                        await news.wait()
    finally:
        if stop_listening is not None:
            stop_listening()


@asynccontextmanager
async def _while_somebody_reads() -> AsyncIterator[None]:
    """Cancel the block when whoever read standard output has gone, also while there is nothing to write.

    Raises:
        BrokenPipeError: that is how it ended.
    """
    task, gone = asyncio.current_task(), False
    assert task is not None

    async def look() -> None:
        nonlocal gone
        while not gone:
            await asyncio.sleep(_READER_GONE)
            gone = _nobody_reads()
        task.cancel()

    looking = asyncio.create_task(look(), name="sssnbus-cli-reader")
    try:
        yield
    except asyncio.CancelledError:
        if gone:
            raise BrokenPipeError(EPIPE, os.strerror(EPIPE)) from None
        raise
    finally:
        looking.cancel()


def _nobody_reads() -> bool:
    """Return whether standard output is a pipe without a reader."""
    if not hasattr(select, "poll") or sys.stdout is None:
        return False
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    # Nothing was asked for, so only what is told unasked comes: an error, or the end.
    return bool(poll.poll(0))
