"""What a forked child has to know: nothing that was open before is its own."""

import ctypes
import os
from abc import ABC, abstractmethod
from weakref import WeakSet


class Forkable(ABC):
    """Something open that a child must not touch."""

    @abstractmethod
    def forget(self) -> None:
        """Refuse all use from now on, and close copies of descriptors. Called in the child; takes no lock."""


_open: WeakSet[Forkable] = WeakSet()


def track(thing: Forkable) -> None:
    """Tell something about forks from now on."""
    _open.add(thing)


def untrack(thing: Forkable) -> None:
    """Tell it no more."""
    _open.discard(thing)


def keep_for_ever(thing: object) -> None:
    """Never free an object, not even when the interpreter ends.

    A SQLite connection that a child frees takes itself for the last one and deletes the WAL.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _after_fork() -> None:
    for thing in list(_open):
        thing.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
