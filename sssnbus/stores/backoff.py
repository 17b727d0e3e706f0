"""Waiting between tries that fail, longer each time."""

import asyncio
import random


class Backoff:
    """Pauses of which each is twice as long as the one before, up to a longest."""

    def __init__(self, first: float, longest: float) -> None:
        """Begin with the first pause; both are in seconds."""
        self._first, self._longest = first, longest
        self.pause = first
        """Seconds that the next ``wait`` takes at most."""

    def reset(self) -> None:
        """Begin with the first pause again, after a try that went well."""
        self.pause = self._first

    async def wait(self) -> None:
        """Pause before the next try, for at least half of ``pause``."""
        pause, self.pause = self.pause, min(2 * self.pause, self._longest)
        # Of many who lost the same server not all are to come back at the same moment.
        await asyncio.sleep(random.uniform(pause / 2, pause))
