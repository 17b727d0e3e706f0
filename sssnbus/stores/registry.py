"""From a URL to a store."""

from collections.abc import Callable, Mapping
from importlib import import_module
from os import PathLike
from types import MappingProxyType, ModuleType
from typing import Final, NamedTuple, cast

from sssnbus.clock import Clock
from sssnbus.errors import InvalidName, InvalidURL, MissingExtra
from sssnbus.stores.base import Store
from sssnbus.stores.url import listed, redacted

Factory = Callable[[str, Clock | None], Store]
"""Makes a store from the whole URL and the clock it shall use (None: its own choice), without I/O."""


def store_from_url(url: str, clock: Clock | None = None) -> Store:
    """Return the store that a URL names; it is not opened.

    ``memory://`` · ``sqlite:///relative.db`` · ``sqlite:////absolute.db`` · ``sqlite:///C:/windows.db`` ·
    ``nats://host:4222`` · ``postgresql://user@host:5432/database`` · ``redis://host:6379/0``, and what was
    added by ``register``. Options follow a question mark; the README lists them.

    Raises:
        InvalidURL: The scheme, the place or an option is not known. Secrets are not shown.
        MissingExtra: What the store needs is not installed.
    """
    scheme, colon, _ = url.partition("://")
    if not colon:
        raise InvalidURL(
            redacted(url),
            f"it has no scheme; begin with {listed(_schemes())} and ://; a file is sqlite:///file.db",
        )
    factory = _factory(scheme)
    if factory is None:
        raise InvalidURL(redacted(url), f"its scheme is not one of {listed(_schemes())}")
    return factory(url, clock)


def make_store(place: str | PathLike[str] | Store, clock: Clock | None = None) -> Store:
    """Return a store for what a user may hand in: a URL, the path of an SQLite file, or a store itself.

    Raises:
        InvalidURL: It is a URL that ``store_from_url`` does not know.
    """
    if isinstance(place, Store):
        return place
    if isinstance(place, str):
        return store_from_url(place, clock)
    from sssnbus.stores.sqlite import SQLiteStore

    return SQLiteStore(place, clock=clock)


def register(scheme: str, factory: Factory) -> None:
    """Let ``store_from_url`` make stores for one more scheme.

    Args:
        scheme: What stands before ``://``: lower-case letters, digits, plus and minus signs.
        factory: Called with the whole URL, and a clock or None. It should raise ``InvalidURL`` for
            what it does not know.

    Raises:
        InvalidName: The scheme breaks the rule or is taken.
    """
    plain = scheme.replace("+", "").replace("-", "")
    if not (plain.isalnum() and plain.isascii() and scheme == scheme.lower()):
        raise InvalidName("URL scheme", scheme, "it must be lower-case letters, digits, plus and minus signs")
    if scheme in _schemes():
        raise InvalidName("URL scheme", scheme, "it is taken")
    _registered[scheme] = factory


class _Room(NamedTuple):
    """Where a scheme's store lives: a module with a function ``from_url``, imported when first asked for."""

    module: str
    extra: str | None = None
    """What has to be installed for it, if anything."""


_ROOMS: Final[Mapping[str, _Room]] = MappingProxyType(
    {
        "memory": _Room("sssnbus.stores.memory.url"),
        "sqlite": _Room("sssnbus.stores.sqlite.url"),
        "nats": _Room("sssnbus.stores.nats.url", "nats"),
        "tls": _Room("sssnbus.stores.nats.url", "nats"),
        "postgresql": _Room("sssnbus.stores.postgres.url", "postgres"),
        "postgres": _Room("sssnbus.stores.postgres.url", "postgres"),
        "redis": _Room("sssnbus.stores.redis.url", "redis"),
        "rediss": _Room("sssnbus.stores.redis.url", "redis"),
    }
)

_registered: dict[str, Factory] = {}


def import_room(module: str, feature: str, extra: str | None) -> ModuleType:
    """Import a module of a store; raise ``MissingExtra`` if its driver is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "sssnbus").startswith("sssnbus"):
            raise
        raise MissingExtra(feature, extra) from error


def _factory(scheme: str) -> Factory | None:
    room = _ROOMS.get(scheme)
    if room is None:
        return _registered.get(scheme)
    return cast(Factory, import_room(room.module, f"{scheme}://", room.extra).from_url)


def _schemes() -> list[str]:
    return [*_ROOMS, *_registered]
