"""A private PostgreSQL server for tests, from the wheel that brings its programs."""

import contextlib
import getpass
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.servers.process import Server, accepts, free_port

# The server refuses to run as root, so there it runs as nobody. The process id stays the same.
_AS_NOBODY = (
    "import os, pwd, sys; who = pwd.getpwnam('nobody'); os.setgroups([]); os.setgid(who.pw_gid);"
    "os.setuid(who.pw_uid); os.execv(sys.argv[1], sys.argv[1:])"
)


def programs(*, tls: bool = False) -> Path | None:
    """Return the folder of the server's programs, if asked for such as know TLS; None if there is none."""
    found = importlib.util.find_spec("pgserver")
    known = shutil.which("postgres")
    folders = [Path(found.origin).parent / "pginstall" / "bin"] if found and found.origin else []
    folders += [Path(known).resolve().parent] if known else []
    # The wheel's server was built without TLS.
    for folder in folders[1:] if tls else folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    return None


def unprivileged(command: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", _AS_NOBODY, *command] if os.geteuid() == 0 else list(command)


def _children(parent: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            # The name in the second field may hold anything, spaces and parentheses too.
            _, _, fields = stat.read_text().rpartition(")")
            if int(fields.split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def _runs(process: int) -> bool:
    """Return whether a process has not ended yet; one that nobody has waited for has."""
    try:
        _, _, fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")
    except OSError:
        return False
    return fields.split()[0] not in "ZX"


class PostgresServer(Server):
    """A server with a database of its own; its settings are given as ``name=value``."""

    password = "s3cret"

    def __init__(self, folder: Path, *settings: str, bin: Path | None = None) -> None:
        bin = bin or programs()
        assert bin is not None, "there are programs"
        self.folder, self.data = folder, folder / "data"
        if not self.data.exists():
            self._make(bin)
        port = free_port()
        options = [
            f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}",
            "max_connections=60", "shared_buffers=64MB", *settings,
        ]  # fmt: skip
        command = [str(bin / "postgres"), "-D", str(self.data)]
        for option in options:
            command += ["-c", option]
        super().__init__(unprivileged(command), port, folder / "server.log", lambda: accepts(port))

    @property
    def url(self) -> str:
        """The address of its database, with the password."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it lets clients in."""
        end = time.monotonic() + 30
        super().start()
        log = self.log.read_text
        while "ready to accept connections" not in log()[self._read :] and time.monotonic() < end:
            time.sleep(0.01)

    def kill(self) -> None:
        """End it with SIGKILL, and its children too: none of them can finish anything."""
        self._read = len(self.log.read_text()) if self.log.exists() else 0
        children = []
        if self._process is not None:
            # It must not make another one while the others are looked for.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGSTOP)
            children = _children(self._process.pid)
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        super().kill()
        # One that is still at its end holds the shared memory, and keeps the next server from starting.
        late = time.monotonic() + 10
        while any(_runs(child) for child in children) and time.monotonic() < late:
            time.sleep(0.001)

    def stop(self) -> None:
        """End it at once but in order: sessions are cut, and nothing is to be recovered."""
        self._read = len(self.log.read_text()) if self.log.exists() else 0
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGINT)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    _read = 0

    def _make(self, bin: Path) -> None:
        if os.geteuid() == 0:
            who = pwd.getpwnam("nobody")
            os.chown(self.folder, who.pw_uid, who.pw_gid)
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        command = [
            str(bin / "initdb"), "-D", str(self.data), "-U", "postgres", "--auth=scram-sha-256", "-E", "UTF8",
            "--locale=C", f"--pwfile={secret}", "--no-sync",
        ]  # fmt: skip
        made = subprocess.run(
            unprivileged(command), capture_output=True, text=True, cwd=self.folder, check=False
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed as {getpass.getuser()}:\n{made.stdout}{made.stderr}")
