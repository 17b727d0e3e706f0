"""Where a store is, and how connections to it are made."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from redis.asyncio.connection import Connection, SSLConnection
from redis.connection import Connection as BlockingConnection
from redis.connection import SSLConnection as BlockingSSLConnection

PORT: Final = 6379


@dataclass(frozen=True, slots=True)
class Place:
    """A Redis server, a database there, and a name for everything that is kept in it."""

    host: str = "localhost"
    port: int = PORT
    db: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None
    """A file with the certificates to trust; the system's unless given."""
    prefix: str = "sssnbus"
    """What all keys begin with, in braces: stores with different ones do not know each other."""
    durability: Literal["disk", "process"] | None = None
    """What the server must give at least; None: whatever it gives."""
    connect_timeout: float = 5.0
    """Seconds within which a connection has to be made."""
    timeout: float = 10.0
    """Seconds within which an operation has to be done."""
    poll_interval: float = 2.0
    """Seconds between two looks for what no hint told."""

    @property
    def url(self) -> str:
        """The URL without anything secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        prefix = "" if self.prefix == "sssnbus" else f"?prefix={self.prefix}"
        return f"redis{'s' * self.tls}://{host}:{self.port}/{self.db}{prefix}"

    @property
    def clock_key(self) -> str:
        """The key that all others begin with. The braces keep them on one node of a cluster."""
        return "{" + self.prefix + "}"

    def connection(self) -> Connection:
        """Return a connection for the event loop; it is not connected. This may read files."""
        if not self.tls:
            return Connection(**self._options(), socket_timeout=None)
        connection = SSLConnection(**self._options(), socket_timeout=None)
        connection.ssl_context.get()
        return connection

    def blocking_connection(self) -> BlockingConnection:
        """Return a connection for a thread; it is not connected."""
        kind = BlockingSSLConnection if self.tls else BlockingConnection
        return kind(**self._options(), socket_timeout=self.connect_timeout)

    def _options(self) -> dict[str, Any]:
        tls: dict[str, Any] = {}
        if self.tls:
            # Older clients do not compare the host with the certificate unless they are told to.
            tls = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": self.ca}
        return {
            "host": self.host,
            "port": self.port,
            "db": self.db,
            "username": self.user,
            "password": self.password,
            "socket_connect_timeout": self.connect_timeout,
            "socket_keepalive": True,
            "protocol": 2,
            **tls,
        }
