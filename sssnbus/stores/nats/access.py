"""How a server is reached: addresses, credentials and patience."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nats.errors import AuthorizationError

from sssnbus.errors import StoreUnavailable

RECONNECT_EVERY: Final = 0.1
"""Seconds between two tries to come back."""

_MARKS: Final = (b"BEGIN NATS USER JWT", b"BEGIN USER NKEY SEED")


@dataclass(frozen=True)
class Access:
    """Everything a connection needs. What is secret shows in no repr."""

    url: str
    """Without secrets, for people."""
    servers: tuple[str, ...]
    connect_timeout: float = 5.0
    """Seconds that connecting may take."""
    timeout: float = 10.0
    """Seconds that an operation may take."""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    creds: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_ca: str | None = None
    """A file of certificates to trust in place of the system's."""
    tls_hostname: str | None = None
    """The name that the server's certificate must have, if it is not the one in the URL."""

    def options(self) -> dict[str, Any]:
        """Return what the client has to be told. It reads files.

        Raises:
            StoreUnavailable: the file of credentials or that of certificates cannot be used.
        """
        options: dict[str, Any] = {
            "servers": list(self.servers),
            "allow_reconnect": True,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_EVERY,
            "connect_timeout": max(1, round(self.connect_timeout)),
            # A connection that is open and dead is noticed after two pings without an answer.
            "ping_interval": max(1.0, self.timeout / 4),
            "max_outstanding_pings": 2,
        }
        if self.tls:
            options["tls"] = self._context()
            if self.tls_hostname is not None:
                options["tls_hostname"] = self.tls_hostname
        given = {"user": self.user, "password": self.password, "token": self.token}
        options.update({name: value for name, value in given.items() if value is not None})
        if self.creds is not None:
            self._check_creds(Path(self.creds))
            options["user_credentials"] = self.creds
        return options

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.tls_ca)
        except OSError as error:
            problem = error.strerror or "it holds no certificate"
            raise StoreUnavailable(
                f"Store {self.url} needs its tls_ca file, and it cannot be used ({problem}). Check its path."
            ) from error

    def _check_creds(self, path: Path) -> None:
        """Refuse a file that the client would look through for ever."""
        try:
            text = path.read_bytes()
        except OSError as error:
            problem = f"it cannot be read ({error.strerror})"
        else:
            if all(mark in text for mark in _MARKS):
                return
            problem = "it does not hold a user's JWT and seed"
        raise StoreUnavailable(f"Store {self.url} needs its creds file, and {problem}. Check its path.")


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the credentials that the environment gives, by the names of ``Access``."""
    names = {"user": "NATS_USER", "password": "NATS_PASSWORD", "token": "NATS_TOKEN", "creds": "NATS_CREDS"}
    return {field: environ[name] for field, name in names.items() if environ.get(name)}


def refused(error: Exception) -> bool:
    """Return whether trying again cannot help: one side is not who it should be."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        # It died within the handshake.
        return False
    return isinstance(error, ssl.SSLError | AuthorizationError) or "authorization" in str(error).lower()
