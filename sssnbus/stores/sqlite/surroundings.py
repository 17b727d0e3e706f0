"""What a store lies on: the library, the file and its companions, the file system, the disk."""

import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from sssnbus.stores.sqlite.finding import Finding, danger, note, well

_OLDEST: Final = (3, 35, 0)

# From the section on this bug in SQLite's own page on write-ahead logs: it came with 3.7.0, was repaired in
# 3.51.3, and the repair was taken back to two older lines.
_RESET_CAME: Final = (3, 7, 0)
_RESET_REPAIRED: Final = (3, 51, 3)
_RESET_LINES: Final = {(3, 50): 7, (3, 44): 6}

_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "gpfs", "ocfs2", "gfs2"}
    | {"beegfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "davfs", "ncpfs"}
)
_SHARED: Final = frozenset({"9p", "virtiofs", "vboxsf", "prl_fs", "fuse.vmhgfs-fuse", "drvfs", "fuse"})
_FLEETING: Final = frozenset({"tmpfs", "ramfs"})

_MIB: Final = 1024 * 1024


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Return whether this SQLite may damage a database when two checkpoints and a write meet."""
    if not _RESET_CAME <= version < _RESET_REPAIRED:
        return False
    return version[2] < _RESET_LINES.get(version[:2], 1 << 30)


def library() -> Finding:
    """Look at the version of SQLite that this Python uses."""
    version = sqlite3.sqlite_version_info
    text = f"SQLite {sqlite3.sqlite_version}"
    if version < _OLDEST:
        return danger("library", f"{text} is too old: 3.35 is needed", "Install a newer SQLite or Python.")
    if has_wal_reset_bug(version):
        return note(
            "library",
            f"{text} has the WAL-reset bug (3.7.0 to 3.51.2, without 3.50.7 and 3.44.6)",
            "Stores keep checkpoints and writes apart, so that they do not meet it; let no other program "
            "write to the file, and use SQLite 3.51.3 or newer when you can.",
        )
    return well("library", text)


def file(path: str) -> Finding:
    """Look at the kind of file and its names."""
    there = os.stat(path)
    where = path if os.path.realpath(path) == path else f"{path} -> {os.path.realpath(path)}"
    text = f"{where}, {there.st_size:,} bytes"
    if not stat.S_ISREG(there.st_mode):
        return danger("file", f"{where} is not a regular file", "Name the file of a store.")
    if there.st_nlink > 1:
        return danger(
            "file",
            f"{text}, has {there.st_nlink} hard links",
            "Remove the other names: under each of them programs would use other lock files.",
        )
    if not os.access(path, os.W_OK) or not os.access(os.path.dirname(path) or ".", os.W_OK):
        return note("file", f"{text}, cannot be written by this user", "Run as its owner to write messages.")
    return well("file", text)


def modes(path: str) -> Finding:
    """Look at who may read and write the files."""
    found = {}
    for suffix in ("", "-wal", "-shm", ".wlock"):
        try:
            found[suffix or "database"] = stat.S_IMODE(os.stat(path + suffix).st_mode)
        except OSError:
            # Most of them are there only while somebody has the store open.
            continue
    text = ", ".join(f"{name} {mode:04o}" for name, mode in found.items())
    everything = f"chmod o= {path}*"
    if any(mode & stat.S_IWOTH for mode in found.values()):
        return danger("modes", f"{text}: everybody may write", f"Run: {everything}")
    if any(mode & stat.S_IROTH for mode in found.values()):
        return note("modes", f"{text}: everybody may read the messages", f"Run: {everything}")
    if len({mode & 0o660 for mode in found.values()}) > 1:
        return danger(
            "modes", f"{text}: they differ", "Give all of them the mode of the database, or some cannot work."
        )
    return well("modes", text)


def file_system(path: str) -> Finding:
    """Look at what the file lies on."""
    kind = _kind_of(os.path.realpath(path))
    if kind is None:
        return note("file system", "unknown on this platform", "A store must not lie on a network share.")
    if kind in _NETWORK:
        return danger(
            "file system",
            f"{kind}: a network file system, whose locks and shared memory SQLite cannot trust",
            "Move the file to a local disk.",
        )
    if kind in _SHARED:
        return note(
            "file system",
            f"{kind}: shared with another system",
            "Use the store from one of the two sides only.",
        )
    if kind in _FLEETING:
        return note("file system", f"{kind}: gone when the machine restarts", "Fine for tests.")
    return well("file system", kind)


def disk(path: str) -> Finding:
    """Look at the room that is left."""
    info = os.statvfs(os.path.dirname(path) or ".")
    free = info.f_bavail * info.f_frsize
    text = f"{free // _MIB:,} MiB free"
    if free < 16 * _MIB:
        return danger("disk", text, "Make room: writes will soon be refused.")
    # A checkpoint and a vacuum each need about as much again.
    if free < os.stat(path).st_size or free < 256 * _MIB:
        return note("disk", text, "Make room before you compact the store.")
    return well("disk", text)


def _kind_of(path: str) -> str | None:
    """Return the type of the file system that holds a path."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = "", None
    for line in lines:
        left, _, right = line.partition(" - ")
        # A blank in the name of a mount point is written as an octal number.
        point = left.split()[4].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later one is seen.
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind
