"""Reading what a store remembers of channels and subscriptions."""

from collections.abc import Callable
from typing import TypeVar

from sssnbus.errors import StoreError, UsageError

T = TypeVar("T")


def understood(value: bytes, read: Callable[[bytes], T], what: str, remedy: str) -> T:
    """Return what a record says.

    Args:
        value: The record's.
        read: Returns what it means.
        what: Whose record it is, for people.
        remedy: What to do if it cannot be read, a sentence.

    Raises:
        StoreError: it cannot be read: it is damaged, or of a later version.
    """
    try:
        return read(value)
    except (ValueError, TypeError, KeyError, AttributeError, UsageError) as error:
        raise StoreError(f"{what} cannot be read from the store: it is damaged. {remedy}") from error
