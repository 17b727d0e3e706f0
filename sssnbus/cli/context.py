"""What every command is given: where its store is, and how to open it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sssnbus.cli.output import say
from sssnbus.cli.settings import Settings
from sssnbus.cli.stopping import Stopped as Stopped
from sssnbus.cli.stopping import running as running
from sssnbus.cli.target import Place, Target, find

if TYPE_CHECKING:
    from sssnbus import Bus

GRACE = 1.0
"""How long closing may take, in seconds: a command that was asked to stop should be gone in two."""


@dataclass(frozen=True)
class Context:
    """What stood before the command, and the settings of the environment."""

    place: Place
    quiet: bool
    settings: Settings

    @cached_property
    def target(self) -> Target:
        """Where the store is.

        Raises:
            Problem: the words, the project file or the environment name no place that can be used.
        """
        return find(self.place, self.settings)

    def note(self, text: str) -> None:
        """Tell people what happens, on stderr, unless they want quiet."""
        if not self.quiet:
            say(text)


@asynccontextmanager
async def opened(context: Context) -> "AsyncIterator[Bus]":
    """Give a started bus on the store of the command line, and close it."""
    from sssnbus import Bus

    store = context.target.store()
    bus = Bus(store)
    try:
        await bus.start()
        yield bus
    finally:
        try:
            await bus.stop(GRACE)
        finally:
            await store.aclose(GRACE)
