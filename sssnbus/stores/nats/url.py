"""``nats://host:port`` and ``tls://host:port``, several hosts joined by commas, with their options."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

from sssnbus.clock import Clock
from sssnbus.errors import InvalidOption, InvalidURL
from sssnbus.stores.nats.access import Access, from_environment
from sssnbus.stores.nats.settings import Settings
from sssnbus.stores.nats.store import NATSStore
from sssnbus.stores.url import redacted, seconds, split, word

PORT: Final = 4222


def _text(value: str) -> str:
    if not value:
        raise ValueError("not empty")
    return value


def _number(value: str) -> int:
    if not value.isdecimal():
        raise ValueError("a whole number")
    return int(value)


OPTIONS: Final[Mapping[str, Callable[[str], object]]] = MappingProxyType(
    {
        "prefix": _text,
        "durability": word("disk", "process"),
        "server_sync": word("always"),
        "replicas": _number,
        "owner_timeout": seconds,
        "connect_timeout": seconds,
        "timeout": seconds,
        "tls_ca": _text,
        "tls_hostname": _text,
        "creds": _text,
    }
)
_ACCESS: Final = ("connect_timeout", "timeout", "tls_ca", "tls_hostname", "creds")


def from_url(url: str, clock: Clock | None) -> NATSStore:
    """Return the store on the servers that the URL names.

    ``nats://user:password@host``, ``nats://token@host``; without either, the environment variables
    NATS_USER, NATS_PASSWORD, NATS_TOKEN and NATS_CREDS are looked at. ``tls://`` is the same over TLS.

    Raises:
        InvalidURL: it names no server, or an option breaks its rule.
    """
    parts, options = split(url, OPTIONS)
    user, at, hosts = parts.netloc.rpartition("@")
    if not hosts or parts.path.strip("/"):
        raise InvalidURL(
            redacted(url), "a server follows two slashes and nothing follows it: nats://host:4222"
        )
    if "@" in user:
        raise InvalidURL(
            redacted(url), "the login stands once, before the first of the hosts; an @ in a password is %40"
        )
    given: dict[str, Any] = {name: options.pop(name) for name in _ACCESS if name in options}
    if at:
        name, colon, password = user.partition(":")
        given |= {"user": unquote(name), "password": unquote(password)} if colon else {"token": unquote(name)}
    elif "creds" not in given:
        given |= from_environment()
    servers = tuple(_server(host, url) for host in hosts.split(","))
    if parts.scheme != "tls" and ("tls_ca" in given or "tls_hostname" in given):
        raise InvalidURL(redacted(url), "tls_ca and tls_hostname are for tls://, which is nats:// over TLS")
    access = Access(redacted(url), servers, tls=parts.scheme == "tls", **given)
    try:
        settings = Settings(**options)
    except InvalidOption as error:
        raise InvalidURL(redacted(url), str(error)) from None
    return NATSStore(access, settings, clock=clock)


def _server(host: str, url: str) -> str:
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name, port = host, str(PORT)
    if not name or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidURL(redacted(url), "a server is host:port, several are joined by commas")
    return f"nats://{name}:{port}"
