"""What the server and the client report, in the words of the package. No text of theirs holds a secret."""

import re
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from sssnbus.errors import BusError, StoreError, StoreFull, StoreReadOnly, StoreUnavailable

_LINE: Final = re.compile(r"^@?user_script: ?\d+: -?")

_OUT_OF_MEMORY: Final = "OOM "
"""Begins what the server says when a script asks for room that there is not."""


def is_passing(exc: BaseException) -> bool:
    """Return whether the same request may succeed soon: a lost connection, a server that is busy."""
    if isinstance(exc, AuthenticationError | AuthorizationError):
        return False
    if isinstance(exc, ResponseError):
        return isinstance(exc, TryAgainError | ClusterDownError) or str(exc).startswith("BUSY ")
    return isinstance(exc, RedisError | OSError | EOFError)


def reason(exc: BaseException) -> str:
    """Return what went wrong, as the end of a sentence."""
    # Of an error within a script the line is told first.
    text = _LINE.sub("", str(exc)).strip()
    return (text or type(exc).__name__).rstrip(".")


def translated(exc: BaseException, url: str) -> BusError:
    """Return the error to raise for one of the client or the server; the cause stays chained."""
    if isinstance(exc, BusError):
        return exc
    found = _translated(exc, url)
    found.__cause__ = exc
    return found


def _translated(exc: BaseException, url: str) -> BusError:
    text = reason(exc)
    if isinstance(exc, AuthenticationError | AuthorizationError) or text.startswith("WRONGPASS"):
        return StoreError(
            f"Store {url} refused the login ({text}). Check the user and the password in the URL, or the "
            "password in the environment variable REDISCLI_AUTH."
        )
    if isinstance(exc, OutOfMemoryError) or _OUT_OF_MEMORY in text:
        return StoreFull(url)
    if isinstance(exc, ReadOnlyError) or "READONLY" in text:
        return StoreReadOnly(url)
    if isinstance(exc, NoPermissionError) or "NOPERM" in text:
        return StoreError(
            f"Store {url} refused a command ({text}). Its user needs the keys and channels of the store, and "
            "the commands on them."
        )
    if isinstance(exc, MovedError):
        return StoreUnavailable(
            f"Store {url} lies on another node of a Redis cluster, {exc.host}:{exc.port}. Name that node."
        )
    if text.startswith(("MISCONF", "NOREPLICAS")):
        return StoreUnavailable(f"Store {url} takes no writes now: {text}. Nothing was applied.")
    if isinstance(exc, ResponseError):
        return StoreError(f"Store {url} failed: {text}.")
    return StoreUnavailable(f"Store {url} cannot be reached: {text}. Nothing was applied.")
