"""``tail``: print everything that is written anywhere."""

import asyncio
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from sssnbus.cli import output
from sssnbus.cli.channels.showing import fields, moment, speak, tell_notice
from sssnbus.cli.context import Context, Stopped, opened, running
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import Problem

if TYPE_CHECKING:
    from sssnbus import Bus, BusError, ChannelMessage, Notice, Start
    from sssnbus.stores import LogInfo

_LOOK: Final = 0.25
"""Seconds between two looks for channels that are new."""

_WAITING: Final = 256
"""How many messages may wait to be printed."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    describe(
        parser,
        "Print what is written to any channel or queue, as it comes, with the name of the channel before\n"
        "it. Nothing is taken out of queues. Channels that are made later are followed too. Messages of\n"
        "one channel are in order; those of different channels come as they are read. SIGINT and SIGTERM\n"
        "end it.",
        "sssnbus tail",
        "sssnbus tail --start 2026-01-15T08:00:00Z --json | jq -c 'select(.channel != \"log\")'",
        codes="0 ended as it should, 1 error",
    )
    parser.add_argument(
        "--start", default="new", metavar="WHERE", help="new (the default), earliest, an id or a time"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: Namespace, context: Context) -> int:
    """Print messages until something ends it."""
    # An id is a time too, and as a time it means something in every channel.
    start: Start = options.start
    if start not in ("new", "earliest"):
        start = moment(options.start)
    if not context.settings.logging_enabled:
        speak()
    try:
        return running(_tail(start, options.json, context))
    except (Stopped, BrokenPipeError):
        return 0


async def _tail(start: "Start", json: bool, context: Context) -> int:
    async with opened(context) as bus:
        followers = _Followers(bus, json)
        try:
            await followers.begin(start)
            context.note("Following all channels")
            while True:
                channel, message = await followers.next()
                _put(channel, message, json=json)
        finally:
            await followers.stop()


def _put(channel: str, message: "ChannelMessage", *, json: bool) -> None:
    if json:
        output.line(output.as_json(fields(channel, message)))
        return
    where = channel if message.topic is None else f"{channel} {message.topic}"
    output.write(where.encode() + b"\t" + output.plain(message) + b"\n")


class _Followers:
    """One task for each channel, and one that looks for new channels."""

    def __init__(self, bus: "Bus", json: bool) -> None:
        self._bus, self._json = bus, json
        self._found: asyncio.Queue[tuple[str, ChannelMessage | BusError]] = asyncio.Queue(_WAITING)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def begin(self, start: "Start") -> None:
        """Follow every channel there is from ``start`` on, and what is made later from its beginning."""
        infos = await self._channels()
        starts: dict[str, Start] = dict.fromkeys((info.name for info in infos), start)
        if start == "new":
            # All places at one moment: what is written from here on is shown, however long the rest takes.
            lasts = await (await self._bus.store()).last(list(starts))
            starts = {name: last + 1 for name, last in lasts.items()}
        for info in infos:
            self._follow(info, starts[info.name])
        self._looking = asyncio.create_task(self._look(), name="sssnbus-tail-look")

    async def next(self) -> "tuple[str, ChannelMessage]":
        """Return the next message and its channel.

        Raises:
            BusError: the store has failed.
        """
        from sssnbus import BusError, StoreReset

        while True:
            channel, item = await self._found.get()
            if not isinstance(item, BusError):
                return channel, item
            if not channel:
                raise item
            if isinstance(item, StoreReset):
                # It was deleted. If it is made anew, it is a new channel.
                del self._tasks[channel]
            else:
                output.say(f"sssnbus: warning: channel {channel!r} is followed no longer: {item}")

    async def stop(self) -> None:
        """End all tasks."""
        tasks = [*self._tasks.values(), *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _channels(self) -> "list[LogInfo]":
        from sssnbus.stores import Catalogue

        store = await self._bus.store()
        if not isinstance(store, Catalogue):
            raise Problem(f"Store {store.url} cannot list its channels")
        return await store.logs()

    async def _look(self) -> None:
        from sssnbus import BusError

        try:
            while True:
                await asyncio.sleep(_LOOK)
                for info in await self._channels():
                    if info.name not in self._tasks:
                        self._follow(info, "earliest")
        except (BusError, Problem) as error:
            await self._found.put(("", error if isinstance(error, BusError) else BusError(str(error))))

    def _follow(self, info: "LogInfo", start: "Start") -> None:
        from sssnbus.stores import Kind

        work = self._queue if info.kind is Kind.QUEUE else self._broadcast
        self._tasks[info.name] = asyncio.create_task(
            self._guarded(info.name, work(info.name, start)), name=f"sssnbus-tail-{info.name}"
        )

    async def _guarded(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        from sssnbus import BusError

        try:
            await work
        except BusError as error:
            await self._found.put((name, error))

    async def _queue(self, name: str, start: "Start") -> None:
        # In every state: what a worker has taken the moment it came was written all the same.
        async with aclosing(self._bus.work_queue(name).observe(start, ready=False)) as messages:
            async for message in messages:
                await self._found.put((name, message))

    async def _broadcast(self, name: str, start: "Start") -> None:
        async def on_notice(notice: "Notice") -> None:
            tell_notice(notice, json=self._json, what=f" of channel {name!r}")

        subscription = self._bus.broadcast(name).subscribe(
            f"cli-{os.getpid()}", start=start, on_notice=on_notice
        )
        async with subscription:
            async for message in subscription:
                await self._found.put((name, message))
