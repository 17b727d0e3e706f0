"""The lock file beside the database: a ticket that writers queue for, and a byte for each open store.

``flock`` and locks of open files do not know each other on Linux, so one file serves both. The kernel
gives both back when a process dies, however it dies.
"""

import os
import struct
import sys
from typing import Final

from sssnbus.errors import StoreUnavailable

if sys.platform != "win32":
    import fcntl

HAS_FLOCK: Final = sys.platform != "win32"

_LAYOUT: Final = "@hhqqi0q"
"""``struct flock``: type, whence, start, length, pid, filled up to the alignment of a long."""

# Locks that belong to an open file, not to a process: two stores of one process can tell each other
# apart, and closing another descriptor of the file does not give them up.
# Elsewhere than on Linux the layout differs, and only time ends leases.
_SET: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None
_GET: Final[int | None] = getattr(fcntl, "F_OFD_GETLK", None) if sys.platform == "linux" else None


class LockFile:
    """One descriptor of the lock file. Each thread that wants the ticket opens its own."""

    def __init__(self, path: str, mode: int = 0o600) -> None:
        if not HAS_FLOCK:
            raise StoreUnavailable("SQLite stores need file locks as Linux and macOS have them.")
        self._fd = _open(path, mode)

    def close(self) -> None:
        """Let go of the descriptor and, unless a forked child shares it, of its locks. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *exc_info: object) -> None:
        # A fork or a close may have taken the descriptor away meanwhile, and the lock with it.
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def is_at(self, path: str) -> bool:
        """Return whether the path still leads to this file."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(path))
        except OSError:
            return False

    def mark(self, number: int) -> bool:
        """Hold the byte of an owner for as long as this is open; return whether that is possible here."""
        if _SET is None:
            return False
        try:
            fcntl.fcntl(self._fd, _SET, _pack(number))
        except OSError:
            # Some network and user-space file systems have no such locks.
            return False
        return True

    def is_marked(self, number: int) -> bool | None:
        """Return whether somebody else holds the byte of an owner; None if that cannot be known here."""
        if _GET is None:
            return None
        try:
            answer = fcntl.fcntl(self._fd, _GET, _pack(number))
        except OSError:
            return None
        return bool(struct.unpack(_LAYOUT, answer)[0] != fcntl.F_UNLCK)


def _open(path: str, mode: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags | os.O_EXCL, mode)
    except FileExistsError:
        return os.open(path, flags, mode)
    # The umask must not decide who may write.
    os.fchmod(fd, mode)
    return fd


def _pack(number: int) -> bytes:
    return struct.pack(_LAYOUT, fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
