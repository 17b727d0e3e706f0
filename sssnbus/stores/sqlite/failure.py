"""What SQLite and the system report, in the words of the package."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sssnbus.errors import (
    BusError,
    IncompatibleStore,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreReplaced,
    StoreTimeout,
    StoreUnavailable,
)

BUSY_SECONDS: Final = 5.0
"""How long SQLite waits for writers that do not take our ticket."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DENIED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_busy(exc: sqlite3.Error) -> bool:
    """Return whether somebody else holds the lock that a statement needed."""
    return _code(exc) & 0xFF in _BUSY


def translated(exc: BaseException, url: str) -> BaseException:
    """Return the error to raise for one that a thread met; the cause stays chained."""
    if isinstance(exc, sqlite3.Error):
        found = _from_sqlite(exc, url)
    elif isinstance(exc, BusError):
        return exc
    elif isinstance(exc, OSError):
        found = from_system(exc, url)
    elif isinstance(exc, TypeError | ValueError):
        # Values that we never wrote; a text of SQLite's own may be one, if it quotes what is damaged.
        found = StoreError(f"Store {url} met a value it cannot hold ({type(exc).__name__}): {exc}.")
    else:
        return exc
    found.__cause__ = exc
    return found


@contextmanager
def opening(url: str) -> Iterator[None]:
    """Translate what opening a file may raise, where damage means that it is none of ours."""
    try:
        yield
    except sqlite3.Error as exc:
        if _code(exc) & 0xFF in _DAMAGED:
            raise IncompatibleStore(url, "it is not a valid SQLite database") from exc
        raise _from_sqlite(exc, url) from exc
    except UnicodeError as exc:
        # The driver could not even read what SQLite has to say about it.
        raise IncompatibleStore(url, "it is not a valid SQLite database") from exc
    except OSError as exc:
        raise from_system(exc, url) from exc


def from_system(exc: OSError, url: str) -> BusError:
    """Return our error for one of the operating system."""
    if isinstance(exc, FileNotFoundError):
        return StoreUnavailable(f"Store {url} cannot be opened: its directory does not exist. Make it first.")
    if isinstance(exc, PermissionError) or exc.errno == errno.EROFS:
        return StoreReadOnly(url)
    if exc.errno in _NO_ROOM:
        return StoreFull(url)
    return StoreUnavailable(f"Store {url} cannot be opened: {exc.strerror or type(exc).__name__}.")


def _code(exc: sqlite3.Error) -> int:
    # Errors that the driver raises by itself carry no code.
    return int(getattr(exc, "sqlite_errorcode", 0) or 0)


def _from_sqlite(exc: sqlite3.Error, url: str) -> BusError:
    code = _code(exc)
    kind = code & 0xFF
    if kind == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_WRITE:
        return StoreFull(url)
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return StoreReplaced(url)
    if kind in _DENIED:
        return StoreReadOnly(url)
    if kind in _BUSY:
        return StoreTimeout(f"An operation on store {url}", BUSY_SECONDS)
    name = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
    if kind == sqlite3.SQLITE_CANTOPEN:
        return StoreUnavailable(f"Store {url} cannot be opened ({name}).")
    if kind == sqlite3.SQLITE_IOERR:
        # It may be over at the next try, and who works on in the background has to make one.
        return StoreUnavailable(f"Store {url} failed ({name}): {exc}.")
    if kind in _DAMAGED:
        return StoreError(f"Store {url} is damaged ({name}): {exc}.")
    return StoreError(f"Store {url} failed ({name}): {exc}.")
