"""The database as a file: made with care, pinned, and watched for being swapped.

Nothing here opens an existing database, WAL or shared-memory file: closing any descriptor of one would
drop the locks that SQLite holds on it in this process.
"""

import os
import sqlite3
import stat
from contextlib import suppress
from typing import Final

from sssnbus.errors import IncompatibleStore, StoreReadOnly, StoreReplaced, StoreUnavailable
from sssnbus.stores.sqlite import sql

_HEADER: Final = 512
_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24


class DatabaseFile:
    """Where a database lies and which file it is. A symbolic link is followed once, here."""

    def __init__(self, path: str, url: str, mode: int) -> None:
        self.path = os.path.realpath(path)
        self.url = url
        self.mode = mode
        self.lock_path = self.path + ".wlock"
        self._wal_path = self.path + "-wal"
        self._database: os.stat_result | None = None
        self._wal: os.stat_result | None = None
        self._size = self._wal_size = 0

    @property
    def key(self) -> tuple[int, int]:
        """What tells this file from all others of the machine."""
        assert self._database is not None
        return self._database.st_dev, self._database.st_ino

    def exists(self) -> bool:
        """Return whether there is something to look into, and check that it can be ours.

        Raises:
            IncompatibleStore: It is no file of its own.
            StoreReadOnly: It cannot be written.
        """
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            if not os.path.isdir(os.path.dirname(self.path)):
                raise
            return False
        if not stat.S_ISREG(there.st_mode):
            raise IncompatibleStore(self.url, "it is not a regular file")
        if there.st_nlink > 1:
            raise IncompatibleStore(
                self.url, f"it has {there.st_nlink} hard links, and SQLite's lock files belong to one name"
            )
        if not (os.access(self.path, os.W_OK) and os.access(os.path.dirname(self.path), os.W_OK)):
            raise StoreReadOnly(self.url)
        # SQLite takes what is too short for a header for nothing, and writes over it.
        if 0 < there.st_size < _HEADER:
            raise IncompatibleStore(self.url, "it is not a valid SQLite database")
        return there.st_size > 0

    def create(self) -> None:
        """Make an empty file with the right mode, unless there is one; -wal and -shm take it from there."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self.path, flags, self.mode)
        except FileExistsError:
            return
        os.fchmod(fd, self.mode)
        os.close(fd)

    def pin(self) -> None:
        """Remember which files these are from now on."""
        self._database = os.stat(self.path, follow_symlinks=False)
        try:
            self._wal = os.stat(self._wal_path, follow_symlinks=False)
        except FileNotFoundError:
            raise StoreUnavailable(
                f"Store {self.url} has no write-ahead log; its file system may not support one."
            ) from None
        self._size, self._wal_size = self._database.st_size, self._wal.st_size

    def check(self, connection: sqlite3.Connection) -> None:
        """Refuse to go on if the files are not the pinned ones any more. Call it before writing.

        Raises:
            StoreReplaced: The database or its WAL was deleted, replaced, linked or cut.
        """
        database, wal = self._database, self._wal
        assert database is not None
        assert wal is not None
        try:
            there = os.stat(self.path, follow_symlinks=False)
            log = os.stat(self._wal_path, follow_symlinks=False)
        except FileNotFoundError:
            raise StoreReplaced(self.url) from None
        if (
            there.st_ino != database.st_ino
            or log.st_ino != wal.st_ino
            or there.st_dev != database.st_dev
            or log.st_dev != wal.st_dev
            or there.st_nlink != 1
            or log.st_nlink != 1
        ):
            raise StoreReplaced(self.url)
        if there.st_size < self._size or log.st_size < self._wal_size:
            self._check_cut(connection, there.st_size < self._size)
        self._size, self._wal_size = there.st_size, log.st_size

    def note(self) -> None:
        """Remember how long the WAL became. Call it after a commit, still under the ticket."""
        # If it has just vanished, that commit cannot be taken back; the next one is refused.
        with suppress(FileNotFoundError):
            self._wal_size = os.stat(self._wal_path, follow_symlinks=False).st_size

    def _check_cut(self, connection: sqlite3.Connection, shrunk: bool) -> None:
        """Tell a vacuum or a checkpoint, after which files are smaller by right, from damage."""
        try:
            page = connection.execute(sql.PAGE_SIZE).fetchone()[0]
            frames = connection.execute(sql.PASSIVE).fetchone()[1]
            needed = _WAL_HEADER + frames * (page + _FRAME_HEADER) if frames > 0 else 0
            whole = os.stat(self._wal_path).st_size >= needed and os.stat(self.path).st_size > 0
            # Slow, but a database shrinks only when somebody vacuums it.
            if whole and not (shrunk and connection.execute(sql.QUICK_CHECK).fetchone()[0] != "ok"):
                return
        except (sqlite3.DatabaseError, FileNotFoundError) as exc:
            raise StoreReplaced(self.url) from exc
        raise StoreReplaced(self.url)
