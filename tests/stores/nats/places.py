"""A server of our own, and stores on it that do not meet."""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

from nats import connect
from nats.js import JetStreamContext

from sssnbus.clock import Clock
from sssnbus.stores.nats import Access, NATSStore, Settings
from sssnbus.testing import StoreFactory
from tests.servers.process import Server, free_port

GIVEN = "SSSNBUS_TEST_NATS_URL"
"""The environment variable that names a server to use in place of our own."""

PROGRAM = "SSSNBUS_TEST_NATS_SERVER"
"""The environment variable that names a nats-server to run, by its path."""


def binary() -> str | None:
    """Return where the server's program is: the one named, that of these tests, or one on the path."""
    if named := os.environ.get(PROGRAM):
        return named
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


def server_in(folder: Path, *lines: str, jetstream: str = "", port: int | None = None) -> Server:
    """Return a server that is not started yet, with its data in a folder."""
    port = port or free_port()
    program = binary()
    assert program is not None, "there is a server"
    config = folder / "nats.conf"
    jetstream = f'jetstream {{ store_dir: "{folder}/js", {jetstream} }}' if jetstream != "off" else ""
    config.write_text("\n".join((f"listen: 127.0.0.1:{port}", "max_payload: 16MB", jetstream, *lines)))

    def ready() -> bool:
        log = (folder / "nats.log").read_text() if (folder / "nats.log").exists() else ""
        return "Server is ready" in log[starts[-1] :]

    server = _Nats((program, "-c", str(config)), port, folder / "nats.log", ready)
    starts = server.starts
    return server


class _Nats(Server):
    """Says that it is ready in its log, once for each start."""

    def __init__(self, command: tuple[str, ...], port: int, log: Path, ready: Callable[[], bool]) -> None:
        super().__init__(command, port, log, ready)
        self.starts = [0]

    def start(self) -> None:
        """Look only at what this start says."""
        self.starts.append(len(self.log.read_text()) if self.log.exists() else 0)
        super().start()


def url_of(server: Server, **options: object) -> str:
    """Return the URL of a server, with a prefix of its own."""
    query = "&".join(f"{name}={value}" for name, value in {"prefix": prefix(), **options}.items())
    return f"nats://127.0.0.1:{server.port}?{query}"


def prefix() -> str:
    """Return a prefix that nobody else uses."""
    return f"t{token_hex(6)}"


def nats_at(server: str, name: str | None = None, **settings: object) -> StoreFactory:
    """Return what makes stores in one place of a server, given as host:port."""
    place = name or prefix()

    def factory(*, clock: Clock | None = None) -> NATSStore:
        access = Access(f"nats://{server}", (f"nats://{server}",))
        return NATSStore(access, Settings(prefix=place, **settings), clock=clock)  # type: ignore[arg-type]

    return factory


def given() -> str | None:
    """Return host:port of the server that the environment names."""
    return os.environ.get(GIVEN, "").removeprefix("nats://") or None


@asynccontextmanager
async def jetstream(url: str) -> AsyncIterator[JetStreamContext]:
    """Give the server as the engine's own client sees it."""
    client = await connect(url.partition("?")[0])
    try:
        yield client.jetstream()
    finally:
        await client.close()
