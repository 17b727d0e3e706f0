"""``sssnbus dead``: the messages of a queue that failed too often."""

from argparse import ArgumentParser
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_queue, resolve
from sssnbus.cli.output import Messages, as_json, fields, line, plain, write
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import WrongWords
from sssnbus.cli.queues.handling import found, queue_of

if TYPE_CHECKING:
    from sssnbus import ChannelMessage, DeadLetters

_PAGE: Final = 100


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("queue", help="the queue, or @ALIAS")
    parser.add_argument(
        "action",
        choices=("list", "peek", "redrive", "purge"),
        help="list: each with its id, why it is here, after how many attempts; peek: print the oldest; "
        "redrive: send back to the queue; purge: remove for good",
    )
    parser.add_argument("-m", "--message", metavar="ID", help="only the dead letter with this id")
    parser.add_argument("--all", action="store_true", help="all of them; redrive and purge want -m or --all")
    parser.add_argument("--json", action="store_true", help="for list and peek: one JSON object a line")
    describe(
        parser,
        "Look at the dead letters of a queue: messages that failed too often, or that are damaged.",
        "sssnbus dead jobs list",
        "sssnbus dead jobs peek -m 1837025672140161024",
        "sssnbus dead jobs redrive --all",
        codes="0 done, 1 error, 2 there is no such dead letter",
    )


def run(options: Options, context: Context) -> int:
    """Do what is asked of the dead letters."""
    check_queue(options.queue)
    if options.all and options.message is not None:
        raise WrongWords("argument -m/--message: not allowed with argument --all")
    changes = options.action in ("redrive", "purge")
    if changes and not (options.all or options.message is not None):
        raise WrongWords(f"one of the arguments -m/--message --all is required for {options.action}")
    if changes and options.json:
        raise WrongWords(f"argument --json: not allowed with {options.action}")
    return running(_act(options, context))


async def _act(options: Options, context: Context) -> int:
    async with opened(context) as bus:
        name = await resolve(bus, options.queue)
        await found(bus, name)
        info = await bus.channel(name)
        if info is None or not info.dead:
            return 2
        letters = queue_of(bus, name, context.settings).dead_letters
        ids = None if options.message is None else [options.message]
        if options.action == "redrive":
            return 0 if await letters.redrive(ids) else 2
        if options.action == "purge":
            return 0 if await letters.purge(ids) else 2
        return await _show(options, letters)


async def _show(options: Options, letters: "DeadLetters") -> int:
    everything = options.all or (options.action == "list" and options.message is None)
    out = Messages(json=options.json, several=options.all)
    count = 0
    async for letter in _letters(letters, options.message):
        count += 1
        if options.action == "list":
            _print_entry(letter, json=options.json)
        else:
            out.put(letter)
        if not everything:
            break
    return 0 if count else 2


async def _letters(letters: "DeadLetters", id: str | None) -> "AsyncIterator[ChannelMessage]":
    if id is not None:
        letter = await letters.get(id)
        if letter is not None:
            yield letter
        return
    after = 0
    while page := await letters.list(limit=_PAGE, after=after):
        for letter in page:
            yield letter
        after = page[-1].sequence


def _print_entry(letter: "ChannelMessage", *, json: bool) -> None:
    note: dict[str, Any] = letter.metadata.get("dead") or {}
    if json:
        line(as_json(fields(letter) | {"dead": note}))
    else:
        head = f"{letter.id}\t{note.get('reason', '?')}\t{note.get('attempts', '?')}\t"
        write(head.encode() + plain(letter) + b"\n")
