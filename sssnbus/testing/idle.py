"""Waiting until there is nothing left to do."""

import asyncio

_QUIET = 5
"""How many turns without anything ready count as idle: one callback may still be on its way to another."""

_BLIND = 100
"""How many turns to wait on a loop that does not show what is ready."""


async def run_until_idle(max_turns: int = 100_000) -> None:
    """Let every other task of the running loop go as far as it can without time or the outside world.

    It returns when the loop has had nothing ready for some turns. It takes no time by itself, so with a
    ``ManualClock`` and the memory store a test is deterministic.

    Limits: it does not wait for timers of the real clock, for sockets, or for threads; the SQLite store
    works in a thread, so await its verbs or an event of your own instead.

    Args:
        max_turns: How many turns of the loop it allows before it gives up.

    Raises:
        TimeoutError: Something kept the loop busy for all these turns.
    """
    # asyncio has no public way to ask; loops without this deque just get many turns.
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    if ready is None:
        for _ in range(_BLIND):
            await asyncio.sleep(0)
        return
    quiet = 0
    for _ in range(max_turns):
        await asyncio.sleep(0)
        # At this point the deque holds what the others do next; this task is not in it.
        quiet = 0 if ready else quiet + 1
        if quiet == _QUIET:
            return
    raise TimeoutError(f"the event loop was still busy after {max_turns} turns")
