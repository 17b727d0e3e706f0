"""``sqlite:///relative.db`` and ``sqlite:////absolute.db``, with their options."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from sssnbus.clock import Clock
from sssnbus.errors import InvalidURL
from sssnbus.stores.sqlite.store import SQLiteStore
from sssnbus.stores.url import permissions, redacted, seconds, split, word, yes

OPTIONS: Final[Mapping[str, Callable[[str], object]]] = MappingProxyType(
    {
        "durability": word("disk", "process"),
        "poll_interval": seconds,
        "doorbells": yes,
        "write_timeout": seconds,
        "mode": permissions,
    }
)


def from_url(url: str, clock: Clock | None) -> SQLiteStore:
    """Return the store on the file that the URL names.

    Raises:
        InvalidURL: it names no file, or an option breaks its rule.
    """
    parts, options = split(url, OPTIONS)
    path = unquote(parts.path[1:])
    if parts.netloc or not path or "\0" in path:
        raise InvalidURL(
            redacted(url), "a file follows three slashes: sqlite:///relative.db or sqlite:////absolute.db"
        )
    return SQLiteStore(path, clock=clock, **options)
