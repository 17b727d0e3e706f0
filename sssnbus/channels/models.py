"""Loading the message classes, not before they are needed: pydantic takes a quarter of a second to import."""

import asyncio
from importlib import import_module

_loaded = False


def loaded() -> bool:
    """Return whether using the message classes holds nobody up."""
    return _loaded


async def load() -> None:
    """Import the message classes, once, in a thread: the event loop has other things to do."""
    global _loaded
    if not _loaded:
        await asyncio.to_thread(import_module, "sssnbus.message")
        _loaded = True
