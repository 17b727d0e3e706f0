"""What the server and the client report, in the words of the package. No text of theirs holds a secret."""

import re
import ssl
from typing import Final

from redis.exceptions import (
    AskError,
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

_TAIL: Final = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.?$")

_NO_RIGHT: Final = ("NOPERM", "ACL failure", "executing the script")
"""What servers say when a user, or a script of a user, may not do something."""

_PASSING: Final = ("BUSY ", "TRYAGAIN ", "CLUSTERDOWN ", "MASTERDOWN ")
"""Begins what a server says that will do it later. Some versions of the client have classes for these."""

_OUT_OF_MEMORY: Final = "OOM "
"""Begins what the server says when a script asks for room that there is not."""


def is_passing(exc: BaseException) -> bool:
    """Return whether the same request may succeed soon: a lost connection, a server that is busy."""
    if isinstance(exc, AuthenticationError | AuthorizationError):
        return False
    if isinstance(exc, ResponseError):
        return isinstance(exc, TryAgainError | ClusterDownError) or str(exc).startswith(_PASSING)
    return isinstance(exc, RedisError | OSError | EOFError)


def is_lasting(exc: BaseException) -> bool:
    """Return whether connecting failed for a file or a certificate: another try would end the same way."""
    while True:
        if isinstance(exc, FileNotFoundError | PermissionError):
            return True
        if isinstance(exc, ssl.SSLError):
            # A server that dies within the handshake is one that is away.
            return not isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        # The client raises an error of its own for what happens on the way to the server.
        below = exc.__cause__ or exc.__context__
        if below is None:
            return False
        exc = below


def is_read_only(exc: BaseException) -> bool:
    """Return whether a server refused to write because it is a replica."""
    return isinstance(exc, ReadOnlyError) or "READONLY" in str(exc)


def reason(exc: BaseException) -> str:
    """Return what went wrong, as the end of a sentence."""
    # Of an error within a script the line is told too: first before Redis 7, last since.
    text = _TAIL.sub("", _LINE.sub("", str(exc))).strip()
    return (text or type(exc).__name__).rstrip(".")


def refused(url: str, why: str) -> StoreError:
    """Return the error for what the rights of the user do not allow."""
    return StoreError(
        f"Store {url} refused a command ({why}). Its user needs the keys and channels of the store, and "
        "the commands on them."
    )


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
    if is_read_only(exc):
        return StoreReadOnly(url)
    if isinstance(exc, NoPermissionError) or any(mark in text for mark in _NO_RIGHT):
        return refused(url, text)
    if text.startswith(("MOVED ", "ASK ")):
        # As some versions of the client leave it.
        word, _, place = text.partition(" ")
        exc = MovedError(place) if word == "MOVED" else AskError(place)
    if isinstance(exc, MovedError):
        return StoreUnavailable(
            f"Store {url} lies on another node of a Redis cluster, {exc.host}:{exc.port}. Name that node."
        )
    # The client's error for MOVED is one for ASK too.
    if isinstance(exc, AskError) or "non local key" in text:
        return StoreUnavailable(
            f"Store {url} is being moved to another node of a Redis cluster. What an operation needs may be "
            "on either: stop what uses the store until it is on one."
        )
    if text.startswith("BUSY "):
        return StoreUnavailable(f"Store {url} does nothing else now: {text}.")
    if text.startswith(("MISCONF", "NOREPLICAS")):
        return StoreUnavailable(f"Store {url} takes no writes now: {text}. Nothing was applied.")
    if isinstance(exc, ResponseError) and not is_passing(exc):
        return StoreError(f"Store {url} failed: {text}.")
    if isinstance(exc, FileNotFoundError | PermissionError):
        # The client has an error of its own for what happens on the way to the server.
        return StoreUnavailable(
            f"Store {url} needs its ca file, and it cannot be read ({exc.strerror}). Check its path."
        )
    return StoreUnavailable(
        f"Store {url} cannot be reached: {text}. Nothing was applied. Check that it runs, the address, and "
        "whether it is redis:// or rediss://."
    )
