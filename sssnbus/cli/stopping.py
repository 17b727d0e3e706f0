"""How SIGINT and SIGTERM end a command: in order, wherever they find it."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeVar

T = TypeVar("T")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class _State:
    """What the handler of signals has to know. There is one, as there is one main thread."""

    writing = False
    asked: signal.Signals | None = None
    """The signal that came, until somebody was stopped by it."""


class Stopped(BaseException):
    """The process was asked to stop. No ``Exception``: nothing may take it for a failure."""

    def __init__(self, signal: signal.Signals) -> None:
        super().__init__(signal)
        self.signal = signal


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a signal raise ``Stopped`` inside this block: for a write that nobody may ever read.

    What was being written then counts as not written.
    """
    _State.writing = True
    try:
        # One that came a moment ago has asked the task to end, but nothing has let it so far.
        _stop_if_asked()
        yield
    finally:
        _State.writing = False


def _stop_if_asked() -> None:
    asked, _State.asked = _State.asked, None
    if asked is not None:
        raise Stopped(asked)


def running(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return what it returns.

    The first SIGINT or SIGTERM cancels it, so that it gives back what it holds; a second one has its usual
    effect.

    Raises:
        Stopped: a signal ended it.
    """
    _State.asked = None
    received: list[signal.Signals] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    async def watched() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel() -> None:
            if _State.asked is not None:
                _State.asked = None
                task.cancel()

        def stop(number: int, frame: FrameType | None) -> None:
            restore()
            _State.asked = signal.Signals(number)
            received.append(_State.asked)
            if _State.writing:
                _stop_if_asked()
            # The loop may be asleep.
            loop.call_soon_threadsafe(cancel)

        for number in SIGNALS:
            # What was started with a signal ignored, as by nohup or in the background, goes on ignoring it.
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, stop)
        return await work

    main = watched()
    try:
        result = asyncio.run(main)
    except asyncio.CancelledError:
        if not received:
            raise
        raise Stopped(received[0]) from None
    finally:
        restore()
        # If Ctrl-C came before the loop ran, nobody has awaited them, and Python would say so.
        main.close()
        work.close()
    if received:
        raise Stopped(received[0])
    return result
