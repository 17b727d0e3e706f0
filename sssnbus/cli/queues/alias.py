"""``sssnbus alias``: other names for queues, kept in the store."""

from argparse import ArgumentParser

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import SPACE, check_name, records
from sssnbus.cli.output import as_json, line, say
from sssnbus.cli.parser import Parser, describe
from sssnbus.cli.problem import Problem
from sssnbus.cli.queues.handling import found


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the command."""
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    add = actions.add_parser("add", help="let @NAME stand for a queue")
    add.add_argument("name", help="the alias, without @")
    add.add_argument("target", help="the queue; it need not exist yet")
    add.add_argument("-q", "--quiet", action="store_true", help="do not warn of a queue of the same name")
    describe(
        add, "Let @NAME stand for a queue.", "sssnbus alias add urgent jobs.high", codes="0 done, 1 error"
    )
    remove = actions.add_parser("remove", help="forget an alias")
    remove.add_argument("name", help="the alias, without @")
    describe(
        remove, "Forget an alias; messages stay.", "sssnbus alias remove urgent", codes="0 done, 1 error"
    )
    listing = actions.add_parser("list", help="list the aliases")
    listing.add_argument("--target", metavar="QUEUE", help="only those of this queue")
    listing.add_argument("--json", action="store_true", help="print one object a line: alias and target")
    describe(
        listing,
        "List the aliases by name, each with the queue that it stands for.",
        "sssnbus alias list --target jobs.high",
        codes="0 listed, 1 error, 2 there is none for that target",
    )
    describe(
        parser,
        "Give queues other names. @NAME stands for the queue wherever a command takes one; a name without @ "
        "never does.",
        "sssnbus alias add urgent jobs.high",
        "sssnbus write @urgent 'now'",
    )


def run(options: Options, context: Context) -> int:
    """Do what is asked of the aliases."""
    if options.action == "list":
        return running(_list(context, options.target, json=options.json))
    if options.action == "remove":
        return running(_remove(context, options.name))
    _check(options.name, options.target)
    return running(_add(context, options.name, options.target, options.quiet))


def _check(name: str, target: str) -> None:
    if "@" in name or target.startswith("@"):
        raise Problem("Aliases and their targets are given without @", code="INVALID_ARGUMENT")
    check_name(name, "alias name")
    check_name(target)
    if name == target:
        raise Problem("Alias and target must differ", code="INVALID_ARGUMENT")


async def _add(context: Context, name: str, target: str, quiet: bool) -> int:
    async with opened(context) as bus:
        store = await records(bus)
        if await store.get(SPACE, target) is not None:
            raise Problem(f"Cannot target another alias: {target!r} is one", code="INVALID_ARGUMENT")
        if await store.put(SPACE, name, target.encode(), version=None) is None:
            raise Problem(f"Alias {name!r} already exists; remove it first", code="INVALID_ARGUMENT")
        if not (quiet or context.quiet) and await bus.channel(name) and await found(bus, name):
            say(f"sssnbus: warning: there is also a queue {name!r}; without @ the name means that queue")
    return 0


async def _remove(context: Context, name: str) -> int:
    async with opened(context) as bus:
        if not await (await records(bus)).delete(SPACE, name.removeprefix("@")):
            raise Problem(f"alias {name!r} does not exist", code="INVALID_ARGUMENT")
    return 0


async def _list(context: Context, target: str | None, *, json: bool) -> int:
    async with opened(context) as bus:
        known = await (await records(bus)).names(SPACE)
    pairs = sorted((name, record.value.decode()) for name, record in known.items())
    wanted = [(name, queue) for name, queue in pairs if target in (None, queue)]
    for name, queue in wanted:
        line(as_json({"alias": name, "target": queue}) if json else f"{name} -> {queue}")
    return 2 if target is not None and not wanted else 0
