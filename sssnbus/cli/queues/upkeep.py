"""What concerns a whole database and is no command: ``--status``, ``--vacuum`` and ``--cleanup``."""

import os
import time
from typing import TYPE_CHECKING

from sssnbus.cli.commands import Words
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.output import as_json, line
from sssnbus.cli.problem import Problem
from sssnbus.cli.target import is_ours

if TYPE_CHECKING:
    from sssnbus import StoreUsage


def run(words: Words, context: Context) -> int:
    """Do the strongest of what the words ask for."""
    if words.cleanup:
        return _cleanup(context)
    if words.vacuum:
        return _vacuum(context, compact=words.compact)
    return _status(context, json=words.json)


def _status(context: Context, *, json: bool) -> int:
    usage = running(_usage(context))
    last = usage.last_id
    counts = {
        "total_messages": usage.messages,
        "last_timestamp": int(last) if last is not None and last.isdigit() else 0,
        "db_size": usage.size,
    }
    line(as_json(counts) if json else "\n".join(f"{name}: {value}" for name, value in counts.items()))
    return 0


async def _usage(context: Context) -> "StoreUsage":
    async with opened(context) as bus:
        return await bus.usage()


def _vacuum(context: Context, *, compact: bool) -> int:
    path = context.target.path
    if path is not None and not os.path.exists(path):
        context.note(f"Database not found: {path}")
        return 0
    began = time.monotonic()
    removed = running(_remove_done(context, compact=compact))
    took = time.monotonic() - began
    said = (
        f"Vacuumed {removed} claimed messages in {took:.1f}s" if removed else "No claimed messages to vacuum"
    )
    context.note(f"{said}; the database was compacted" if compact else said)
    return 0


async def _remove_done(context: Context, *, compact: bool) -> int:
    async with opened(context) as bus:
        return await bus.vacuum(compact=compact)


def _cleanup(context: Context) -> int:
    path = context.target.path
    if path is None:
        raise Problem(
            f"--cleanup deletes database files, and {context.target} is none; delete what is in it with "
            "'sssnbus delete --all'",
            code="INVALID_ARGUMENT",
        )
    if not os.path.lexists(path):
        context.note("Database not found, nothing to clean up")
        return 0
    # A link is followed, as for writing; it stays behind and names nothing.
    real = os.path.realpath(path)
    if not os.path.exists(real) or os.path.getsize(real) == 0:
        raise Problem(f"{path} is no database of sssnbus: it is empty. It was left untouched.")
    running(_check(context))
    for suffix in ("", "-wal", "-shm", ".wlock"):
        try:
            os.unlink(real + suffix)
        except FileNotFoundError:
            continue
    context.note(f"Database cleaned up: {path}")
    return 0


async def _check(context: Context) -> None:
    """Open the store: whatever is not ours is refused by it, and left untouched."""
    from sssnbus import StoreFull

    try:
        async with opened(context):
            return
    except StoreFull:
        # It has no room to open itself, and deleting it is one way to make some. Its header says whose it is.
        if not is_ours(str(context.target.path)):
            raise
