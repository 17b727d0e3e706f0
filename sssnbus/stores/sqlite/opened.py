"""Everything that opening a database gives: connections, locks, a number. Made and undone in a thread."""

import sqlite3
import threading

from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.database import connect, keep_for_ever, open_database
from sssnbus.stores.sqlite.file import DatabaseFile
from sssnbus.stores.sqlite.lock import LockFile
from sssnbus.stores.sqlite.owner import boot_id, register


class Opened:
    """An open database."""

    file: DatabaseFile
    ticket: LockFile
    """For the thread that writes."""
    marks: LockFile
    """Holds the byte that says: this owner is alive."""
    number: int
    owner: str

    def __init__(self, path: str, url: str, durability: str, mode: int) -> None:
        self._path, self._url, self._durability, self._mode = path, url, durability, mode
        self._raw: list[sqlite3.Connection] = []

    def open(self, abandoned: threading.Event) -> sqlite3.Connection:
        """Open or make the database; return the connection that writes."""
        self.file = DatabaseFile(self._path, self._url, self._mode)
        writer, self.ticket = open_database(self.file, self._durability, abandoned)
        self._raw.append(writer)
        try:
            self.marks = LockFile(self.file.lock_path, self._mode)
            boot = boot_id()
            self.number = register(writer, self.ticket, self.marks, self.file.lock_path, boot)
            self.owner = f"{boot}:{self.number}"
            reader = connect(self.file, self._durability)
            self._raw.append(reader)
            reader.execute(sql.ONLY_QUERIES)
            reader.execute(sql.DATA_VERSION).fetchone()
        except BaseException:
            self.close(writer)
            raise
        return writer

    def take_reader(self) -> sqlite3.Connection:
        """Return the connection that reads."""
        return self._raw[1]

    def close(self, writer: sqlite3.Connection) -> None:
        """Undo it all. The last one out of the database moves the WAL into it, under the ticket."""
        for raw in self._raw:
            if raw is not writer:
                raw.close()
        with self.ticket:
            try:
                writer.execute(sql.NO_WAIT)
                writer.execute(sql.TRUNCATE).fetchone()
            except sqlite3.Error:
                # Somebody reads, the disk is full or the file is gone: the next one will do it.
                pass
            writer.close()
        self.ticket.close()
        if hasattr(self, "marks"):
            self.marks.close()

    def forget(self) -> None:
        """In a forked child: keep the connections for ever, and close copies of the locks."""
        for raw in self._raw:
            keep_for_ever(raw)
        self.ticket.close()
        self.marks.close()
