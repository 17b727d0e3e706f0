"""``postgresql://user:password@host:port/database``, with its options."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import SplitResult, urlencode

from sssnbus.clock import Clock
from sssnbus.errors import InvalidURL
from sssnbus.stores.postgres.place import DEFAULT_NAMESPACE, Place
from sssnbus.stores.postgres.store import PostgresStore
from sssnbus.stores.url import redacted, seconds, split, word, yes

_NAMESPACE: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}\Z")


def _namespace(value: str) -> str:
    # The server keeps names that begin so for itself, and the public schema belongs to everybody.
    if not _NAMESPACE.match(value) or value.startswith("pg_") or value in ("public", "information_schema"):
        raise ValueError("1 to 40 of a-z, 0-9 and _, not beginning with a digit or pg_, and not public")
    return value


_PASSED_ON: Final = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile", "password", "host", "port", "user",
     "target_session_attrs"}
)  # fmt: skip
"""What the driver reads itself; the names are those of the server's own clients."""

OPTIONS: Final[Mapping[str, Callable[[str], object]]] = MappingProxyType(
    {
        "namespace": _namespace,
        "durability": word("disk", "process"),
        "connect_timeout": seconds,
        "timeout": seconds,
        "poll_interval": seconds,
        "listen": yes,
        "pooler": yes,
        "direct": str,
        **dict.fromkeys(sorted(_PASSED_ON), str),
        "sslmode": word("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        "target_session_attrs": word(
            "any", "primary", "standby", "read-write", "read-only", "prefer-standby"
        ),
    }
)


def from_url(url: str, clock: Clock | None) -> PostgresStore:
    """Return the store in the database that the URL names.

    Options: ``namespace``, the schema that holds everything (sssnbus); ``durability=disk``, refused where
    the server does not give it; ``connect_timeout`` (5) and ``timeout`` (10) in seconds, the second for one
    operation; ``poll_interval`` in seconds; ``listen=no`` to hear of news by looking only; ``pooler=yes``
    for a pooler that hands out sessions for one transaction, and ``direct``, a URL past it for
    notifications; and those of the server's own clients for TLS, the password file and the choice of a
    host. A password that is not given comes from PGPASSWORD or the password file.

    Raises:
        InvalidURL: it is not understood, or an option breaks its rule.
    """
    parts, options = split(url, OPTIONS)
    direct = options.pop("direct", None)
    if direct is not None and not direct.startswith(("postgresql://", "postgres://")):
        raise InvalidURL(
            redacted(url), "direct must be a postgresql:// URL, with & and % written as %26 and %25"
        )
    passed = {name: options.pop(name) for name in tuple(options) if name in _PASSED_ON}
    if not (parts.netloc or "host" in passed) or not parts.path.strip("/"):
        raise InvalidURL(redacted(url), "a host and a database follow: postgresql://user@host:5432/database")
    try:
        # Several hosts may be given; then this is no number.
        _ = "," in parts.netloc or parts.port
    except ValueError:
        raise InvalidURL(redacted(url), "its port is not a number up to 65535") from None
    namespace = options.pop("namespace", DEFAULT_NAMESPACE)
    place = Place(
        dsn=_address(parts, passed),
        url=f"{redacted(url).partition('?')[0]}?namespace={namespace}",
        namespace=namespace,
        connect_timeout=options.pop("connect_timeout", 5.0),
        timeout=options.pop("timeout", 10.0),
        pooler=options.pop("pooler", False),
        direct=direct,
        listen=options.pop("listen", True),
        durability=options.pop("durability", None),
    )
    return PostgresStore(place, clock=clock, **options)


def _address(parts: SplitResult, passed: Mapping[str, str]) -> str:
    query = f"?{urlencode(passed)}" if passed else ""
    return f"postgresql://{parts.netloc}{parts.path}{query}"
