"""``memory://``"""

from sssnbus.clock import Clock
from sssnbus.errors import InvalidURL
from sssnbus.stores.memory.store import MemoryStore
from sssnbus.stores.url import redacted, split


def from_url(url: str, clock: Clock | None) -> MemoryStore:
    """Return a store of its own; the URL says nothing but that.

    Raises:
        InvalidURL: it says more.
    """
    parts, _ = split(url, {})
    if parts.netloc or parts.path.strip("/"):
        raise InvalidURL(redacted(url), "memory is no place; write memory:// and nothing more")
    return MemoryStore(clock=clock)
