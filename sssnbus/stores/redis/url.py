"""``redis://[user[:password]@]host[:port][/database]`` and ``rediss://``, with their options."""

import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from sssnbus.clock import Clock
from sssnbus.errors import InvalidURL
from sssnbus.stores.redis.place import PORT, Place
from sssnbus.stores.redis.store import RedisStore
from sssnbus.stores.url import redacted, seconds, split, word

PASSWORD: Final = "REDISCLI_AUTH"
"""The environment variable that has the password if the URL has none; redis-cli's own."""

_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")


def prefix(value: str) -> str:
    """Read the option ``prefix``."""
    if not _PREFIX.match(value):
        raise ValueError("1 to 64 letters, digits, periods, underscores, colons and hyphens")
    return value


def path(value: str) -> str:
    """Read the option ``ca``."""
    if not value or "\0" in value:
        raise ValueError("the path of a file")
    return value


OPTIONS: Final[Mapping[str, Callable[[str], object]]] = MappingProxyType(
    {
        "prefix": prefix,
        "durability": word("disk", "process"),
        "connect_timeout": seconds,
        "timeout": seconds,
        "poll_interval": seconds,
        "ca": path,
    }
)


def from_url(url: str, clock: Clock | None) -> RedisStore:
    """Return the store that the URL names.

    A password that is not in the URL is taken from the environment variable ``REDISCLI_AUTH``.

    Raises:
        InvalidURL: it names no server, or an option breaks its rule.
    """
    parts, options = split(url, OPTIONS)
    try:
        port = parts.port
    except ValueError:
        port = 0
    database = parts.path.strip("/")
    if not parts.hostname or port == 0 or not ((database.isdecimal() and database.isascii()) or not database):
        raise InvalidURL(
            redacted(url),
            "write redis://host:port/database, with one host; port and database are numbers, and in a login "
            "@ is %40 and / is %2F",
        )
    if "ca" in options and parts.scheme != "rediss":
        raise InvalidURL(redacted(url), "ca is for rediss://, which is redis:// over TLS")
    return RedisStore(
        Place(
            host=parts.hostname,
            port=port or PORT,
            db=int(database or 0),
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else os.environ.get(PASSWORD) or None,
            tls=parts.scheme == "rediss",
            **options,
        ),
        clock=clock,
    )
