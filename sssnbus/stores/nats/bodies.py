"""The bodies of a queue's messages: fetched for many tasks with few requests, and a little ahead.

What the tasks of one round of the loop ask for goes together, and brings along what will be asked for next.
A message never changes, so what was read ahead is as good as what is read now; if somebody else takes it
first, it was read in vain.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from sssnbus.errors import ClosedError
from sssnbus.stores.nats.fetch import Got, several
from sssnbus.stores.nats.link import Link
from sssnbus.stores.nats.waiters import Promise

AHEAD: Final = 32
"""Messages that are read ahead, at most."""

AHEAD_BYTES: Final = 64 * 1024
"""Bytes that are read ahead, at most."""

_KEPT: Final = 4 * AHEAD
"""Messages that were read ahead and are kept, at most."""

Bodies = dict[int, Got]


class Reader:
    """Fetches messages of one stream."""

    def __init__(
        self, link: Link, stream: str, direct: bool, next_to: Callable[[int, int, int], list[int]]
    ) -> None:
        """Make a reader.

        Args:
            link: The connection.
            stream: Where the messages are.
            direct: Whether the server answers for single messages at once.
            next_to: Says what may be asked for behind a sequence, within a number of messages and of bytes.
        """
        self._link, self._stream, self._direct, self._next_to = link, stream, direct, next_to
        self._wanted: set[int] = set()
        self._future: Promise[Bodies] | None = None
        self._ahead: Bodies = {}

    def ask(self, sequences: Sequence[int]) -> Promise[Bodies]:
        """Return what will hold the messages with these sequences, and perhaps others, if they are there."""
        loop = asyncio.get_running_loop()
        if all(sequence in self._ahead for sequence in sequences):
            there: Promise[Bodies] = Promise(loop=loop)
            there.set_result({sequence: self._ahead.pop(sequence) for sequence in sequences})
            return there
        if self._future is None:
            self._future = Promise(loop=loop)
            loop.call_soon(self._begin)
        self._wanted.update(sequences)
        return self._future

    def _begin(self) -> None:
        future, self._future = self._future, None
        wanted, self._wanted = self._wanted, set()
        assert future is not None, "somebody asked"

        def ended(_: object) -> None:
            if not future.done():
                future.set_exception(ClosedError(f"Store {self._link.url}"))
            # Who asked may have given up.
            future.exception()

        self._link.spawn(self._fetch(future, wanted), "fetch").add_done_callback(ended)

    async def _fetch(self, future: Promise[Bodies], wanted: set[int]) -> None:
        along = set(self._next_to(max(wanted), AHEAD, AHEAD_BYTES)) - wanted
        numbers = sorted(wanted | along)
        try:
            got = await several(self._link, self._stream, numbers, self._direct, self._link.deadline())
        except Exception as error:
            future.set_exception(error)
            return
        future.set_result(got)
        self._ahead |= {sequence: got[sequence] for sequence in along if sequence in got}
        while len(self._ahead) > _KEPT:
            del self._ahead[next(iter(self._ahead))]
