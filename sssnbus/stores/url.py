"""The parts of a store's URL: taking it apart, reading its options, hiding its secrets."""

from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from sssnbus.errors import InvalidURL


def redacted(url: str) -> str:
    """Return a URL without what may be secret: its user, its password, the values of its options."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    # Without a scheme and two slashes nobody knows what is a password and what is not.
    if parts is None or not parts.scheme or "://" not in url:
        return url if url.isidentifier() else "***"
    # A second login, as in a list of whole URLs, reads like a path.
    path = "/***" if "@" in parts.path else parts.path
    _, at, host = parts.netloc.rpartition("@")
    names = (
        [option.partition("=")[0] if "=" in option else "" for option in parts.query.split("&")]
        if parts.query
        else []
    )
    options = "&".join(f"{name}=***" if name else "***" for name in names)
    # Put together by hand, since urlunsplit has changed its mind about empty places.
    return f"{parts.scheme}://{'***@' if at else ''}{host}{path}{'?' if options else ''}{options}"


def split(url: str, known: Mapping[str, Callable[[str], object]]) -> tuple[SplitResult, dict[str, Any]]:
    """Take a URL apart and read its options.

    Args:
        url: The whole of it.
        known: What reads each option's value. It raises ``ValueError`` with what would be right as its text,
            such as ``a number of seconds above 0``: a value may be secret and is never shown.

    Raises:
        InvalidURL: it cannot be read, or an option is not known or not right.
    """
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
            allowed = f"allowed are {listed(known)}" if known else "none is allowed"
            raise InvalidURL(redacted(url), f"it has the unknown option {name!r}; {allowed}")
        try:
            options[name] = known[name](value)
        except ValueError as exc:
            raise InvalidURL(redacted(url), f"{name} must be {exc}") from None
    return parts, options


def word(*words: str) -> Callable[[str], str]:
    """Return what reads an option that is one of some words."""

    def read(value: str) -> str:
        if value not in words:
            raise ValueError(" or ".join(words))
        return value

    return read


def yes(value: str) -> bool:
    """Read an option that is ``yes`` or ``no``."""
    return word("yes", "no")(value) == "yes"


def seconds(value: str) -> float:
    """Read an option that is a time, in seconds."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    # NaN fails this as well.
    if not 0 < number < 1e9:
        raise ValueError("a number of seconds above 0")
    return number


def permissions(value: str) -> int:
    """Read an option that is the permissions of a file, in octal digits."""
    try:
        number = int(value, 8)
    except ValueError:
        number = -1
    if not 0o600 <= number <= 0o666:
        raise ValueError("octal permissions from 0600 to 0666")
    return number


def listed(names: Collection[str]) -> str:
    """Return names as a sentence lists them."""
    return ", ".join(names)
