"""A private PgBouncer for tests, if its program is on the machine."""

import shutil
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.servers.postgres import unprivileged
from tests.servers.process import Server, accepts, free_port

_SETTINGS: Final = """
[databases]
* = host={host} port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 500
"""


def program() -> str | None:
    """Return the path of PgBouncer; None if there is none."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


class PgBouncer(Server):
    """A pooler that hands out ``size`` sessions of a server, each for one transaction at a time."""

    def __init__(self, folder: Path, address: str, size: int = 3) -> None:
        found, parts, port = program(), urlsplit(address), free_port()
        assert found is not None, "there is a program"
        (folder / "users").write_text(f'"{parts.username}" "{parts.password or ""}"\n')
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            _SETTINGS.format(host=parts.hostname, server=parts.port, port=port, folder=folder, size=size)
        )
        super().__init__(unprivileged([found, str(settings)]), port, folder / "log", lambda: accepts(port))
        self.url = parts._replace(netloc=f"{parts.username}:{parts.password or ''}@127.0.0.1:{port}").geturl()
        """The address of the same database by way of the pooler."""
