"""What the server and the driver report, in the words of the package. No text of either is passed on that
could hold a secret or a message: only the code and its name."""

import asyncio
import json
import ssl
from typing import Any, Final

import asyncpg

from sssnbus.errors import (
    BusError,
    ChannelKindMismatch,
    IncompatibleStore,
    MessageConflict,
    NotStarted,
    QueueFull,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreTimeout,
    StoreUnavailable,
)
from sssnbus.stores.base import Kind

UNKNOWN_OWNER: Final = "SSN01"
NOT_DECLARED: Final = "SSN10"
CONFLICT: Final = "SSN11"
NOT_A_QUEUE: Final = "SSN12"
FULL: Final = "SSN13"

_AGAIN: Final = frozenset({"40001", "40P01"})
"""Nothing was applied because somebody else was in the way: a serialization failure or a deadlock."""

_STALE: Final = frozenset({"0A000", "26000", "08P01"})
"""The session has an older idea of a statement or of the schema; a new session has not."""

_GONE: Final = frozenset({"3F000", "42P01", "42883"})

_READ_ONLY: Final = "25006"
_FORBIDDEN: Final = "42501"

_DRIVER: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError)


class Lost(Exception):
    """The connection is gone, or the answer was late. What was sent may or may not have happened."""


def is_lost(exc: BaseException) -> bool:
    """Return whether an error says that the session has ended, and nothing of the statement."""
    if isinstance(exc, asyncpg.PostgresError):
        state = exc.sqlstate or ""
        # 57P01 to 57P05: the server or the session is being shut down.
        return state.startswith(("08", "57P")) and state not in _STALE
    if isinstance(exc, asyncpg.InterfaceError):
        return "connection" in str(exc) and not isinstance(exc, asyncpg.exceptions.DataError)
    return isinstance(exc, OSError | EOFError | asyncio.TimeoutError | asyncpg.InternalClientError)


def is_stale(exc: BaseException) -> bool:
    """Return whether a new session would not meet this error. Nothing was applied."""
    return isinstance(exc, asyncpg.PostgresError) and (
        exc.sqlstate in _STALE
        or isinstance(exc, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError)
    )


def is_again(exc: BaseException) -> bool:
    """Return whether the very same statement may succeed now. Nothing was applied."""
    return isinstance(exc, asyncpg.PostgresError) and exc.sqlstate in _AGAIN


def is_unknown_owner(exc: BaseException) -> bool:
    """Return whether the server has no row of ours."""
    return isinstance(exc, asyncpg.PostgresError) and exc.sqlstate == UNKNOWN_OWNER


def refuses_tls(exc: BaseException) -> bool:
    """Return whether the server has no TLS for a client that insists on it."""
    # The driver has no class for it.
    return isinstance(exc, ConnectionError) and "rejected SSL upgrade" in str(exc)


def refusal(code: str, detail: list[Any]) -> BusError:
    """Return the error for what our own functions refuse."""
    if code == NOT_DECLARED:
        return NotStarted(f"Log {detail[0]!r}")
    if code == NOT_A_QUEUE:
        return ChannelKindMismatch(detail[0], Kind(detail[1]), Kind.QUEUE)
    if code == CONFLICT:
        return MessageConflict(detail[0], detail[1], detail[2])
    return QueueFull(detail[0], detail[1], detail[2])


def storable(text: str) -> str:
    """Return a text that the server can hold: what an exception says may have a NUL or a lone surrogate."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def from_server(exc: BaseException, url: str, what: str, seconds: float) -> BusError:
    """Return our error for one that a statement met; nothing was applied."""
    if isinstance(exc, BusError):
        return exc
    if not isinstance(exc, asyncpg.PostgresError):
        kind = type(exc).__name__
        if isinstance(exc, _DRIVER):
            # The driver could not encode a value; its text may quote it.
            return StoreError(f"Store {url} cannot hold a value of {what} ({kind}).")
        return StoreError(f"{what} on store {url} failed ({kind}).")
    state = exc.sqlstate or ""
    if state in (NOT_DECLARED, CONFLICT, NOT_A_QUEUE, FULL):
        return refusal(state, json.loads(exc.detail or "[]"))
    if state.startswith("53") and state != "53300":
        return StoreFull(url)
    if state == _READ_ONLY:
        return StoreReadOnly(url)
    if state == _FORBIDDEN:
        return _forbidden(url)
    if state in ("57014", "55P03"):
        return StoreTimeout(what, seconds)
    if state in _GONE:
        return StoreError(
            f"The namespace of store {url} is no longer there ({state}). Restore it, or start the bus again."
        )
    if state.startswith(("08", "57P", "53")):
        return StoreUnavailable(f"Store {url} is not available ({_named(exc)}). Try again.")
    return StoreError(f"{what} on store {url} failed ({_named(exc)}).")


def from_connecting(exc: BaseException, url: str, seconds: float) -> BusError:
    """Return our error for a connection that could not be made."""
    if isinstance(exc, BusError):
        return exc
    if isinstance(exc, TimeoutError):
        return StoreUnavailable(
            f"Store {url} did not answer within {round(seconds, 2):g} s. Check that it runs, and the address."
        )
    if isinstance(exc, ssl.SSLCertVerificationError):
        reason = exc.verify_message
        return StoreUnavailable(f"Store {url} shows a certificate that cannot be trusted: {reason}.")
    if isinstance(exc, asyncpg.PostgresError):
        state = exc.sqlstate or ""
        if state in ("28P01", "28000"):
            return StoreUnavailable(
                f"Store {url} refuses the user or the password ({state}). Check the URL and PGPASSWORD."
            )
        if state == "3D000":
            return StoreUnavailable(f"Store {url} has no such database ({state}). Create it first.")
        if state == "53300":
            return StoreUnavailable(
                f"Store {url} takes no more connections ({state}). Raise max_connections, or use a pooler."
            )
        if state == _READ_ONLY:
            return StoreReadOnly(url)
        if state == _FORBIDDEN:
            return _forbidden(url)
        return StoreUnavailable(f"Store {url} is not available ({_named(exc)}). Try again.")
    if isinstance(exc, ssl.SSLError):
        return StoreUnavailable(f"Store {url} cannot be reached over TLS ({exc.reason or 'SSLError'}).")
    if refuses_tls(exc):
        return StoreUnavailable(
            f"Store {url} does not speak TLS, which sslmode asks for. Check the address, or turn on ssl in "
            "the server's settings."
        )
    if isinstance(exc, FileNotFoundError | PermissionError):
        return StoreUnavailable(
            f"Store {url} cannot be reached: {exc.strerror}. Check the files that its URL names: a socket's "
            "folder, certificates, a password file."
        )
    if isinstance(exc, OSError):
        reason = exc.strerror or type(exc).__name__
        return StoreUnavailable(
            f"Store {url} cannot be reached: {reason}. Check that it runs and the address."
        )
    if isinstance(exc, asyncpg.ClientConfigurationError):
        # Its text may quote the DSN.
        return IncompatibleStore(
            f"Store {url}",
            "its address or its TLS settings are not understood. Check its options: sslmode=verify-ca and "
            "verify-full need sslrootcert, the file of the certificates to trust",
        )
    return StoreUnavailable(f"Store {url} cannot be reached ({type(exc).__name__}).")


def _forbidden(url: str) -> BusError:
    return StoreError(
        f"Store {url} does not let this user in ({_FORBIDDEN}). Grant it CREATE on the database, or "
        "everything in the schema of the namespace."
    )


def _named(exc: asyncpg.PostgresError) -> str:
    return f"{exc.sqlstate} {type(exc).__name__}"
