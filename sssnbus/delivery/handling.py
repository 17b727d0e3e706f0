"""Calling the functions that users hand in."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

from sssnbus.clock import Clock
from sssnbus.errors import HandlerError

T = TypeVar("T")

_turn: ContextVar[list[bool] | None] = ContextVar("sssnbus_turn", default=None)

mark = _turn.set
"""Marks the running task as inside a handler for as long as the given list holds True.

The list is made for one call of a handler: tasks that outlive the handler see it end.
"""


def in_handler() -> bool:
    """Return whether the running code is a handler, or was started by one that still runs."""
    turn = _turn.get()
    return turn is not None and turn[0]


def outside() -> Context:
    """Return a copy of the running context that is not inside any handler."""
    context = copy_context()
    context.run(_turn.set, None)
    return context


def called_from(context: Context) -> bool:
    """Return whether the handler that runs in ``context`` is the one that has called us, by whatever way."""
    return in_handler() and context.get(_turn) is _turn.get()


def at_work(context: Context) -> bool:
    """Return whether a handler runs in ``context``."""
    turn = context.get(_turn)
    return turn is not None and turn[0]


def check_handler(handler: object) -> None:
    """Refuse a callback that cannot be awaited, before it is ever called."""
    # An object may have an async __call__ instead of being a function.
    calls = (handler, getattr(type(handler), "__call__", None))  # noqa: B004  # looked at, not called
    if not any(inspect.iscoroutinefunction(call) for call in calls):
        raise HandlerError(handler)
    try:
        inspect.signature(handler).bind(None)  # type: ignore[arg-type]  # one of the calls is a function
    except TypeError:
        raise HandlerError(handler) from None
    except ValueError:
        # Some callables have no signature to look at.
        return


async def call(handler: Callable[[T], Awaitable[object]], argument: T) -> BaseException | None:
    """Run a handler once and return how it failed, if it did."""
    mark(turn := [True])
    try:
        await handler(argument)
    except BaseException as error:
        return failure(error)
    finally:
        turn[0] = False
    return None


def failure(error: BaseException) -> BaseException:
    """Return an error as a handler's failure; raise it again if it is not the handler's own.

    Not its own are the cancelling of the task that runs it, and what ends the whole program. All else is,
    also what does not derive from ``Exception``, such as the outcomes that test runners raise.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise error
        return RuntimeError(f"The handler was cancelled from inside: {error!r}")
    return error


class Begun:
    """A handler that ran up to its first wait; ``finish`` runs the rest of it."""

    __slots__ = ("_blocks", "_cancelled", "_handler", "_turn", "_waits_for")

    def __init__(self, handler: Coroutine[Any, Any, object], waits_for: Any, turn: list[bool]) -> None:
        self._handler, self._waits_for, self._turn = handler, waits_for, turn
        self._cancelled = False
        # What a task does at once with a future that is yielded to it; until ours does, others may wait
        # for the same one.
        self._blocks = getattr(waits_for, "_asyncio_future_blocking", None) is True
        if self._blocks:
            waits_for._asyncio_future_blocking = False

    async def finish(self) -> BaseException | None:
        """Run the handler to its end, in the task that it was begun for; return how it failed, if it did."""
        try:
            await self
        except BaseException as error:
            return failure(error)
        finally:
            self._turn[0] = False
        return None

    def cancel(self) -> None:
        """Pass on what has cancelled the task before it could take the handler over, as a task does."""
        self._cancelled = not (self._blocks and self._waits_for.cancel())

    def close(self) -> None:
        """Give the handler up where it waits."""
        self._turn[0] = False
        self._handler.close()

    def __await__(self) -> Generator[Any, Any, None]:
        step = self._waits_for
        try:
            if self._cancelled:
                step = self._handler.throw(asyncio.CancelledError())
            elif self._blocks:
                step._asyncio_future_blocking = True
            while True:
                try:
                    result = yield step
                except BaseException as error:
                    step = self._handler.throw(error)
                else:
                    step = self._handler.send(result)
        except StopIteration:
            return


def begin(
    handler: Callable[[T], Awaitable[object]], argument: T, task: asyncio.Task[Any], context: Context
) -> Begun | BaseException | None:
    """Run a handler up to its first wait, now, on behalf of a task that waits meanwhile.

    This is what eager tasks do: most handlers end without having waited, and then no task needs to be
    switched to at all. To the handler it looks as if ``task`` ran it, in ``context``: time-outs, task groups
    and context variables are that task's.

    Returns:
        None if the handler ended well, its error if it failed, or what ``task`` has to finish.
    """
    loop = task.get_loop()
    current = asyncio.current_task(loop)
    if current is not None:
        asyncio._leave_task(loop, current)
    asyncio._enter_task(loop, task)
    try:
        return context.run(_begin, handler, argument)
    finally:
        asyncio._leave_task(loop, task)
        if current is not None:
            asyncio._enter_task(loop, current)


def _begin(handler: Callable[[T], Awaitable[object]], argument: T) -> Begun | BaseException | None:
    mark(turn := [True])
    try:
        coroutine: Any = handler(argument)
        return Begun(coroutine, coroutine.send(None), turn)
    except StopIteration:
        turn[0] = False
        return None
    except BaseException as error:
        turn[0] = False
        return error if isinstance(error, GeneratorExit) else failure(error)


def within(
    handler: Callable[[T], Awaitable[object]], timeout: float | None, clock: Clock
) -> Callable[[T], Awaitable[object]]:
    """Return a handler that is cancelled, and has failed, after ``timeout`` seconds of ``clock``."""
    if timeout is None:
        return handler

    async def limited(argument: T) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            # Through our clock, so that a test that owns the time owns this time-out too.
            timer = clock.call_later(timeout, lambda: limit.reschedule(loop.time()))
            try:
                await handler(argument)
            finally:
                timer.cancel()

    return limited


def text_of(error: BaseException | str | None) -> str | None:
    """Return what is kept of an error: one short line that any store can hold."""
    if error is None:
        return None
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return text[:1000].encode(errors="replace").decode()
