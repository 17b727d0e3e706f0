"""Doorbells: a datagram socket for each store that listens, rung by whoever commits.

A bell is a hint. It may be lost, and nothing about bells ever fails a write. The bell of a short commit
carries the messages along, which spares its hearer the trip to the file. Only processes of the same user
can ring: they could write the file as well.
"""

import asyncio
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from sssnbus.stored import Stored
from sssnbus.stores.base import News
from sssnbus.stores.loop import call_soon
from sssnbus.stores.watchers import Watchers

_log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[0-9a-f]{24}\.bell\Z")
_MAX_PATH: Final = 107
_SETTLED: Final = 50_000_000
"""Nanoseconds after which a directory's time of change tells one change from the next."""

MAX_LETTER: Final = 32 * 1024
"""Bytes that a bell carries, at most."""

MAX_TOLD: Final = 8 * 1024
"""Bytes of messages that are worth carrying."""

_HINT: Final = b"!"
_VERSION: Final = 1
_HEADERS: Final = Stored._fields.index("headers")
_BODY: Final = Stored._fields.index("body")

_NEVER: Final = frozenset({errno.EACCES, errno.EPERM, errno.EPROTOTYPE, errno.ENOTSOCK})
"""Errors of what will never be a bell to us."""

HAS_BELLS: Final = sys.platform != "win32" and hasattr(socket, "AF_UNIX")


class Bells:
    """The bells of one database: ours, which rings our watchers, and those of others, which we ring."""

    def __init__(self, key: tuple[int, int], loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._mutex = threading.Lock()
        self._own: socket.socket | None = None
        self._name = ""
        self._closed = False
        self._sender: socket.socket | None = None
        self._others: list[str] = []
        self._listed = -1
        self._ignored: set[str] = set()
        self.watchers = Watchers()
        """Used on the loop alone."""
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        self._root, self._directory = _place(digest)

    def listen(self) -> None:
        """Hang up our own bell. In a thread; the loop listens to it from then on."""
        with self._mutex:
            if self._own is not None or self._closed or not HAS_BELLS:
                return
            try:
                try:
                    self._own = self._bind()
                except FileNotFoundError:
                    # Somebody who left has just taken the directory away.
                    self._own = self._bind()
            except OSError as exc:
                # Polling goes on; it finds everything within its interval. One warning is enough.
                self._closed = True
                _log.warning("No doorbell in %r: %s", self._directory, exc)
                return
        call_soon(self._loop, self._attend)

    def ring(self, news: News) -> None:
        """Ring the bells of all others. In a thread; never raises."""
        if not HAS_BELLS:
            return
        try:
            with self._mutex:
                others = [] if self._closed else [name for name in self._list() if name != self._name]
                letter = _letter(news) if others else b""
                for name in others:
                    self._send(name, letter)
        except OSError as exc:
            _log.debug("Bells were not rung: %s", exc)

    def close(self) -> None:
        """Stop listening and ringing. On the loop, or anywhere if that is closed."""
        with self._mutex:
            own, self._own = self._own, None
            sender, self._sender = self._sender, None
            self._closed = True
        self.watchers.clear()
        if sender is not None:
            sender.close()
        if own is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(own)
            own.close()

    def take_down(self) -> None:
        """Remove our bell from the directory. In a thread; what is rung there later rings nowhere."""
        if self._name:
            _unlink(os.path.join(self._directory, self._name))
            # The last one takes the directory away; who comes then makes it anew.
            with suppress(OSError):
                os.rmdir(self._directory)

    def forget(self) -> None:
        """Close our copies in a forked child; the bell goes on hanging for the parent."""
        for bell in (self._own, self._sender):
            if bell is not None:
                bell.close()

    def _attend(self) -> None:
        own = self._own
        if own is None or self._loop.is_closed():
            return
        self._loop.add_reader(own, self._answer)
        # Whatever was committed before the bell hung has not rung it.
        self.watchers.tell()

    def _answer(self) -> None:
        own = self._own
        if own is None:
            return
        # Drained before anybody looks: what comes later rings again.
        letters = []
        try:
            while True:
                letters.append(own.recv(MAX_LETTER))
        except OSError:
            pass
        # Of several, others may have been refused for want of room; then everybody looks for themselves.
        self.watchers.tell(_read(letters[0]) if len(letters) == 1 else None)

    def _bind(self) -> socket.socket:
        for directory in (self._root, self._directory):
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
            if not _is_private(os.lstat(directory)):
                raise PermissionError("the directory is not a private one of this user")
        # Names are never used twice, so that sweeping a dead one cannot hit a live one.
        self._name = secrets.token_hex(12) + ".bell"
        bell = _socket()
        try:
            # The umask of a process cannot be changed for one thread; the mode of a socket can, on Linux.
            with suppress(OSError):
                os.fchmod(bell.fileno(), 0o600)
            with _Address(self._directory) as address:
                bell.bind(address(self._name))
                os.chmod(address(self._name), 0o600)
        except BaseException:
            bell.close()
            raise
        return bell

    def _list(self) -> list[str]:
        try:
            there = os.lstat(self._directory)
        except FileNotFoundError:
            return []
        if not _is_private(there):
            return []
        if there.st_mtime_ns != self._listed:
            names = os.listdir(self._directory)
            self._others = [name for name in names if _NAME.match(name) and name not in self._ignored]
            settled = time.time_ns() - there.st_mtime_ns > _SETTLED
            self._listed = there.st_mtime_ns if settled else -1
        return self._others

    def _send(self, name: str, letter: bytes) -> None:
        if self._sender is None:
            self._sender = _socket()
        try:
            with _Address(self._directory) as address:
                self._sender.sendto(letter, address(name))
        except BlockingIOError:
            # Either its queue is full, so it has been rung and will look; or what others have not yet taken
            # fills what our socket may have under way. A new one has nothing under way.
            self._sender.close()
            self._sender = _socket()
            with suppress(OSError), _Address(self._directory) as address:
                self._sender.sendto(_HINT, address(name))
        except ConnectionRefusedError:
            self._sweep(name)
        except FileNotFoundError:
            self._listed = -1
        except OSError as exc:
            if exc.errno in _NEVER:
                self._ignored.add(name)
                self._listed = -1

    def _sweep(self, name: str) -> None:
        """Remove the bell of a dead process, if it is one and was this user's."""
        path = os.path.join(self._directory, name)
        try:
            there = os.lstat(path)
        except OSError:
            return
        if stat.S_ISSOCK(there.st_mode) and there.st_uid == os.getuid():
            _unlink(path)
        else:
            self._ignored.add(name)
        self._listed = -1


class _Address:
    """Makes addresses of sockets in a directory, also where paths are too long for one."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = -1

    def __enter__(self) -> Callable[[str], str]:
        if len(os.fsencode(self._directory)) + 1 + 24 + len(".bell") > _MAX_PATH:
            self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._address

    def __exit__(self, *exc_info: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def _address(self, name: str) -> str:
        directory = self._directory if self._fd < 0 else f"/proc/self/fd/{self._fd}"
        return f"{directory}/{name}"


def _letter(news: News) -> bytes:
    """Return what a bell carries: the news if it is small, else nothing but that there is some."""
    if not news.log or sum(len(stored.body) + len(stored.headers) for stored in news.messages) > MAX_TOLD:
        return _HINT
    rows = [
        [value.decode("latin-1") if isinstance(value, bytes) else value for value in stored]
        for stored in news.messages
    ]
    letter = json.dumps([_VERSION, news.log, rows]).encode()
    return letter if len(letter) < MAX_LETTER else _HINT


def _read(letter: bytes) -> News | None:
    """Return the news that a bell brought; None if it brought none that can be read."""
    if letter == _HINT:
        return None
    try:
        version, log, rows = json.loads(letter)
        if version != _VERSION:
            return None
        for row in rows:
            for place in (_HEADERS, _BODY):
                row[place] = row[place].encode("latin-1")
        return News(log, [Stored._make(row) for row in rows])
    except (ValueError, TypeError, AttributeError, IndexError):
        return None


def _socket() -> socket.socket:
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.setblocking(False)
    return bell


def _place(digest: str) -> tuple[str, str]:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        root = os.path.join(runtime, "sssnbus")
    else:
        root = f"/tmp/sssnbus-{os.getuid() if HAS_BELLS else 0}"
    return root, os.path.join(root, digest)


def _is_private(there: os.stat_result) -> bool:
    return (
        stat.S_ISDIR(there.st_mode) and there.st_uid == os.getuid() and stat.S_IMODE(there.st_mode) == 0o700
    )


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
