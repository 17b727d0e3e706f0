"""What a store can be told."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from sssnbus.errors import InvalidOption

_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a store, checked."""

    prefix: str = "sssnbus"
    """What subjects and streams begin with: buses with different prefixes do not meet."""
    durability: Literal["disk", "process"] | None = None
    """What is demanded of the server; None: whatever it gives."""
    server_sync: Literal["always"] | None = None
    """``"always"``: the word of the operator that the server's ``sync_interval`` is so."""
    replicas: int = 1
    """In how many servers of a cluster a new stream is kept."""
    owner_timeout: float = 6.0
    """Seconds after which a store that is not heard of counts as dead, and its leases as ended."""

    def __post_init__(self) -> None:
        if not _PREFIX.match(self.prefix):
            raise InvalidOption("prefix", self.prefix, "it must be 1 to 32 letters, digits, _ and -")
        if self.durability not in ("disk", "process", None):
            raise InvalidOption("durability", self.durability, 'it must be "disk" or "process"')
        if self.server_sync not in ("always", None):
            raise InvalidOption("server_sync", self.server_sync, 'it can only be "always"')
        if self.replicas not in (1, 3, 5):
            raise InvalidOption("replicas", self.replicas, "it must be 1, 3 or 5")
        # The server counts the life of a message in whole seconds.
        if not self.owner_timeout >= 1:
            raise InvalidOption("owner_timeout", self.owner_timeout, "it must be at least 1 s")
