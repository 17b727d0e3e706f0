"""From a URL to a store."""

from collections.abc import Callable, Collection, Mapping
from os import PathLike
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from sssnbus.clock import Clock
from sssnbus.errors import InvalidName, InvalidURL
from sssnbus.stores.base import Store

Factory = Callable[[str, Clock | None], Store]
"""Makes a store from the whole URL and the clock it shall use (None: its own choice), without I/O."""


def store_from_url(url: str, clock: Clock | None = None) -> Store:
    """Return the store that a URL names; it is not opened.

    ``memory://`` · ``sqlite:///relative.db`` · ``sqlite:////absolute.db`` · ``sqlite:///C:/windows.db``,
    and what was added by ``register``. Options of SQLite follow a question mark: ``durability`` is
    ``disk`` or ``process``; ``poll_interval`` and ``write_timeout`` are seconds; ``doorbells`` is ``yes``
    or ``no``; ``mode`` is octal, such as ``0660``.

    Raises:
        InvalidURL: The scheme, the place or an option is not known. Secrets are not shown.
    """
    scheme, colon, _ = url.partition("://")
    factory = _factories.get(scheme)
    if not colon:
        raise InvalidURL(redacted(url), f"it has no scheme; begin with {_listed(_factories)} and ://")
    if scheme in _PLANNED:
        raise InvalidURL(redacted(url), f"{scheme} is not available in this version")
    if factory is None:
        raise InvalidURL(redacted(url), f"its scheme is not one of {_listed(_factories)}")
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
    if scheme in _factories or scheme in _PLANNED:
        raise InvalidName("URL scheme", scheme, "it is taken")
    _factories[scheme] = factory


def redacted(url: str) -> str:
    """Return a URL without what may be secret: its user, its password, the values of its options."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    # Without a scheme and two slashes nobody knows what is a password and what is not.
    if parts is None or "://" not in url:
        return url if url.isidentifier() else "***"
    _, at, host = parts.netloc.rpartition("@")
    names = (
        [option.partition("=")[0] if "=" in option else "" for option in parts.query.split("&")]
        if parts.query
        else []
    )
    options = "&".join(f"{name}=***" if name else "***" for name in names)
    # Put together by hand, since urlunsplit has changed its mind about empty places.
    return f"{parts.scheme}://{'***@' if at else ''}{host}{parts.path}{'?' if options else ''}{options}"


def _memory(url: str, clock: Clock | None) -> Store:
    from sssnbus.stores.memory import MemoryStore

    parts, _ = _split(url, {})
    if parts.netloc or parts.path.strip("/"):
        raise InvalidURL(redacted(url), "memory is no place; write memory:// and nothing more")
    return MemoryStore(clock=clock)


def _sqlite(url: str, clock: Clock | None) -> Store:
    from sssnbus.stores.sqlite import SQLiteStore

    parts, options = _split(url, _SQLITE)
    path = unquote(parts.path[1:])
    if parts.netloc or not path or "\0" in path:
        raise InvalidURL(
            redacted(url), "a file follows three slashes: sqlite:///relative.db or sqlite:////absolute.db"
        )
    return SQLiteStore(path, clock=clock, **options)


def _split(url: str, known: Mapping[str, Callable[[str], object]]) -> tuple[SplitResult, dict[str, Any]]:
    """Take a URL apart and read its options."""
    try:
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        # What is chained would show the URL.
        raise InvalidURL(redacted(url), "its options are not name=value, joined by &") from None
    if parts.fragment:
        raise InvalidURL(redacted(url), "write # in a name as %23 and ? as %3F")
    options: dict[str, Any] = {}
    for name, value in given:
        if name not in known:
            allowed = f"allowed are {_listed(known)}" if known else "none is allowed"
            raise InvalidURL(redacted(url), f"it has the unknown option {name!r}; {allowed}")
        try:
            options[name] = known[name](value)
        except ValueError as exc:
            raise InvalidURL(redacted(url), f"{name} must be {exc}") from None
    return parts, options


def _word(*words: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in words:
            raise ValueError(" or ".join(words))
        return value

    return read


def _yes(value: str) -> bool:
    return _word("yes", "no")(value) == "yes"


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    # NaN fails this as well.
    if not 0 < number < 1e9:
        raise ValueError("a number of seconds above 0")
    return number


def _permissions(value: str) -> int:
    try:
        number = int(value, 8)
    except ValueError:
        number = -1
    if not 0o600 <= number <= 0o666:
        raise ValueError("octal permissions from 0600 to 0666")
    return number


def _listed(names: Collection[str]) -> str:
    return ", ".join(names)


_SQLITE: Final[Mapping[str, Callable[[str], object]]] = MappingProxyType(
    {
        "durability": _word("disk", "process"),
        "poll_interval": _seconds,
        "doorbells": _yes,
        "write_timeout": _seconds,
        "mode": _permissions,
    }
)

_PLANNED: Final = frozenset({"nats", "postgresql", "redis"})

_factories: dict[str, Factory] = {
    "memory": _memory,
    "sqlite": _sqlite,
}
