"""Steps between tasks, threads and event loops that every store needs."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any


async def outlive(future: "asyncio.Future[Any]") -> None:
    """Wait for a future or task, however often the caller is cancelled; then raise the cancellation.

    Its result or error is for who asks the future for it.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            # Looked at, so that nobody complains of an error that was never fetched.
            future.exception()
        raise cancelled


def call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Call a function on a loop from another thread; not at all if the loop is closed already."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        if not loop.is_closed():
            raise


def run_soon(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run something beside on a loop, from any thread; not at all if the loop is closed already."""
    call_soon(loop, partial(_start, loop, work))


_running: set["asyncio.Task[None]"] = set()


def _start(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = loop.create_task(work())
    _running.add(task)
    task.add_done_callback(_running.discard)
