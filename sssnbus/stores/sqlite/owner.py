"""Who has the database open: a row and a locked byte for each open store."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Final

from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.lock import LockFile

_LINUX_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return what names the time since the machine was started; the elapsed clock begins with it."""
    try:
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
            return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
        return _LINUX_BOOT.read_text("ascii").strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def register(connection: sqlite3.Connection, ticket: LockFile, marks: LockFile, path: str, boot: str) -> int:
    """Enter a new owner; return its number.

    The first one after a boot ends all older leases. Everyone frees what dead owners held: a command that
    only lives for one claim would not see a keeper do it.
    """
    with ticket:
        connection.execute(sql.BEGIN)
        try:
            known = connection.execute(sql.BOOT).fetchone()
            if known is None or known[0] != boot:
                connection.execute(sql.END_LEASES)
                connection.execute(sql.END_OWNERS)
                connection.execute(sql.SET_BOOT, (boot,))
            number = connection.execute(sql.ADD_OWNER).lastrowid
            assert number is not None
            bury(connection, dead_owners(connection, marks, path, number))
            # Before the commit: nobody may see the row without its lock.
            if marks.mark(number):
                connection.execute(sql.OWNER_LOCKED, (number,))
            connection.execute(sql.COMMIT)
        finally:
            if connection.in_transaction:
                connection.execute(sql.ROLLBACK)
    return number


def dead_owners(connection: sqlite3.Connection, marks: LockFile, path: str, own: int) -> list[int]:
    """Return the owners whose process has ended without a word."""
    owners = connection.execute(sql.OTHER_OWNERS, (own,)).fetchall()
    dead = [number for (number,) in owners if marks.is_marked(number) is False]
    # If somebody removed the lock file, the owners that came since hold their bytes elsewhere.
    return dead if dead and marks.is_at(path) else []


def bury(connection: sqlite3.Connection, numbers: list[int]) -> None:
    """Free what dead owners held, and forget them."""
    for number in numbers:
        connection.execute(sql.FREE_OWNED, (number,))
        connection.execute(sql.END_OWNER, (number,))


def is_alive(marks: LockFile, owner: str, own: str) -> bool | None:
    """Return whether an owner, by the name it gave itself, is still open; None if its row has to say."""
    if owner == own:
        return True
    boot, _, number = owner.rpartition(":")
    if boot != own.rpartition(":")[0] or not number.isdecimal():
        return False
    return marks.is_marked(int(number))
