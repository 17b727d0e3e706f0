"""``sssnbus exists``, ``stats`` and ``list``: how many messages there are, and where."""

from argparse import ArgumentParser
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_name, check_queue, resolve
from sssnbus.cli.output import as_json, line
from sssnbus.cli.parser import describe
from sssnbus.cli.queues.handling import found, is_queue

if TYPE_CHECKING:
    from sssnbus import ChannelInfo


class Exists:
    """Tells by the exit code."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options of the command."""
        parser.add_argument("queue", help="the queue, or @ALIAS")
        parser.add_argument("--json", action="store_true", help="print an object with queue and exists, too")
        describe(
            parser,
            "Tell by the exit code whether a queue holds a message: one that can be read, or one that was "
            "consumed and not vacuumed since.",
            "sssnbus exists jobs && echo there is something",
            codes="0 it exists, 1 error, 2 it does not",
        )

    def run(self, options: Options, context: Context) -> int:
        """Look."""
        check_queue(options.queue)
        name, info = running(_look(context, options.queue))
        if options.json:
            line(as_json({"queue": name, "exists": info is not None}))
        return 2 if info is None else 0


class Stats:
    """Counts the messages of one queue."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options of the command."""
        parser.add_argument("queue", help="the queue, or @ALIAS")
        parser.add_argument("--json", action="store_true", help="print an object instead")
        describe(
            parser,
            "Count the messages of a queue: pending ones, delayed ones included; and with those that are "
            "held or were consumed and not vacuumed since (claimed), the total. Dead letters do not count.",
            "sssnbus stats jobs",
            "sssnbus stats jobs --json",
            codes="0 counted, also for a queue that does not exist, 1 error",
        )

    def run(self, options: Options, context: Context) -> int:
        """Count."""
        check_queue(options.queue)
        name, info = running(_look(context, options.queue))
        _print(name, info, json=options.json)
        return 0


class List:
    """Lists the queues."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options of the command."""
        parser.add_argument(
            "--stats",
            action="store_true",
            help="count consumed messages, too, and list queues with no others",
        )
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--prefix", default="", help="only queues whose names start with this")
        which.add_argument("-p", "--pattern", metavar="GLOB", help="only queues like this: 'jobs.*'")
        parser.add_argument("--json", action="store_true", help="print one object a line instead")
        describe(
            parser,
            "List the queues by name, with how many messages can be read.",
            "sssnbus list",
            "sssnbus list --stats --prefix jobs.",
            codes="0 listed, also when there are none, 1 error",
        )

    def run(self, options: Options, context: Context) -> int:
        """List."""
        if options.prefix:
            check_name(options.prefix, "queue prefix")
        queues = running(_all(context))
        if options.prefix or options.pattern is not None:
            wanted = [queue for queue in queues if _matches(queue.name, options.prefix, options.pattern)]
        else:
            wanted = queues
        for queue in wanted:
            if options.stats or pending(queue):
                _print(queue.name, queue, json=options.json, plain=not options.stats)
        claimed = sum(map(claimed_of, queues))
        if options.stats and not options.json and claimed:
            line(f"\nTotal claimed messages: {claimed}/{sum(queue.messages for queue in queues)}")
        return 0


exists, stats, listing = Exists(), Stats(), List()


def pending(info: "ChannelInfo") -> int:
    """Return how many messages can be read, now or when their delay is over."""
    return info.ready + info.delayed


def claimed_of(info: "ChannelInfo") -> int:
    """Return how many messages are held, or consumed and not vacuumed."""
    return info.leased + info.done


def _print(name: str, info: "ChannelInfo | None", *, json: bool, plain: bool = False) -> None:
    ready, claimed = (0, 0) if info is None else (pending(info), claimed_of(info))
    total = ready + claimed
    if json:
        counts = {"queue": name, "pending": ready, "claimed": claimed, "total": total, "exists": total > 0}
        line(as_json(counts))
    elif claimed and not plain:
        line(f"{name}: {ready} ({total} total, {claimed} claimed)")
    else:
        line(f"{name}: {ready}")


def _matches(name: str, prefix: str, pattern: str | None) -> bool:
    return name.startswith(prefix) if pattern is None else fnmatchcase(name, pattern)


async def _look(context: Context, operand: str) -> "tuple[str, ChannelInfo | None]":
    async with opened(context) as bus:
        name = await resolve(bus, operand)
        return name, await found(bus, name)


async def _all(context: Context) -> "list[ChannelInfo]":
    async with opened(context) as bus:
        return [info for info in await bus.channels() if is_queue(info) and info.messages]
