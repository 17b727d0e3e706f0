"""Who waits for which answer, and until when."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sssnbus.stores.nats.wire import Incoming

TICK: Final = 0.05
"""How exactly deadlines are kept, in seconds."""

T = TypeVar("T")

Told = Incoming | Exception
"""An answer, or why there is none: ``TimeoutError``, or whatever ``lose`` was given."""


class Promise(asyncio.Future[T]):
    """A future that is kept, whatever becomes of those who wait for it.

    A task that is cancelled cancels what it waits for; this one goes on, and so does the task until it is
    done: then the cancellation is raised there.
    """

    def cancel(self, msg: object = None) -> bool:
        """Refuse."""
        return False


class _Waiter:
    """Somebody who waits for one answer, or for all of many."""

    __slots__ = ("deadline", "many", "tell")

    def __init__(self, tell: Callable[[Told], None], deadline: float, many: list[Incoming] | None) -> None:
        self.tell, self.deadline, self.many = tell, deadline, many


class Waiters:
    """Those who wait, each told once, by the token that comes back with the answer."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiter] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def expect(
        self, tell: Callable[[Told], None], deadline: float, many: list[Incoming] | None = None
    ) -> str:
        """Wait for an answer; return its token.

        Args:
            tell: Called with the answer, or with what ends the waiting; must not wait, nor raise.
            deadline: When it is told ``TimeoutError``, on the loop's clock.
            many: Takes the messages of an answer that consists of several; the last of them is told.
        """
        self._count += 1
        token = str(self._count)
        self._waiting[token] = _Waiter(tell, deadline, many)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._expire)
        return token

    def forget(self, token: str) -> None:
        """Wait no longer; nobody is told anything."""
        self._waiting.pop(token, None)

    def take(self, token: str, message: Incoming) -> bool:
        """Hand over an answer; return whether anybody waited for it."""
        waiter = self._waiting.get(token)
        if waiter is None:
            return False
        if waiter.many is not None and message.status is None:
            waiter.many.append(message)
        else:
            del self._waiting[token]
            waiter.tell(message)
        return True

    def lose(self, error: Callable[[], Exception]) -> None:
        """Tell all who wait that nothing comes any more."""
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.tell(error())

    def _expire(self) -> None:
        # One timer for all, since nearly none of them comes to its end.
        loop = asyncio.get_running_loop()
        now = loop.time()
        for token in [token for token, waiter in self._waiting.items() if waiter.deadline <= now]:
            waiter = self._waiting.pop(token, None)
            if waiter is not None:
                waiter.tell(TimeoutError())
        self._timer = loop.call_later(TICK, self._expire) if self._waiting else None


def teller(future: "asyncio.Future[Any]") -> Callable[[Told], None]:
    """Return what tells a future."""

    def tell(told: Told) -> None:
        if future.done():
            return
        if isinstance(told, Exception):
            future.set_exception(told)
        else:
            future.set_result(told)

    return tell
