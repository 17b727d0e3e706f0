"""The project file, and stores that are described by their parts rather than by a URL."""

import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from sssnbus.cli.problem import Problem
from sssnbus.cli.settings import Settings

_SCHEMES: Final[Mapping[str, str]] = {
    "sqlite": "sqlite",
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "redis": "redis",
    "valkey": "redis",
    "nats": "nats",
}
_SPACES: Final[Mapping[str, str]] = {"postgresql": "namespace", "redis": "prefix", "nats": "prefix"}
"""What the part of a server that holds one store is called in its URL."""

_KEYS: Final = {"version", "backend", "target", "backend_options"}
_OPTIONS: Final = {"host", "port", "user", "password", "database", "schema"}


def read(path: str, settings: Settings) -> str:
    """Return what a project file names: the path of an SQLite file, or a URL.

    Raises:
        Problem: the file cannot be read, or says something that is not understood.
    """
    import tomllib

    try:
        with open(path, "rb") as file:
            given = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Problem(f"Project file {path} cannot be read: {error}") from None
    if unknown := sorted(given.keys() - _KEYS):
        raise _wrong(path, f"{unknown[0]!r} is not one of {', '.join(sorted(_KEYS))}")
    if given.get("version") != 1 or isinstance(given["version"], bool):
        raise _wrong(path, "it must say version = 1")
    options = given.get("backend_options", {})
    if not isinstance(options, dict) or options.keys() - _OPTIONS:
        raise _wrong(path, f"backend_options may hold {', '.join(sorted(_OPTIONS))}")
    for name in ("backend", "target"):
        if not (isinstance(given.get(name), str) and given[name]) and not (name == "target" and options):
            raise _wrong(path, f'{name} must be a text, such as {name} = "{_EXAMPLES[name]}"')
    scheme = scheme_of(f"Project file {path}: backend", given["backend"])
    target = given.get("target")
    if scheme == "sqlite":
        if not isinstance(target, str) or "://" in target or "\0" in target:
            raise _wrong(path, "target must be the path of a file for backend sqlite")
        return os.path.normpath(os.path.join(os.path.dirname(os.path.realpath(path)), target))
    # The file says where the store is; the environment may only add the secret.
    return backend_url(scheme, {"target": target, **options}, settings)


_EXAMPLES: Final = {"backend": "sqlite", "target": "data/jobs.db"}


def scheme_of(what: str, backend: str) -> str:
    """Return the URL scheme of a backend.

    Raises:
        Problem: there is no such backend; the sentence begins with ``what``.
    """
    scheme = _SCHEMES.get(backend.lower())
    if scheme is None:
        # A URL that stands in the wrong place may hold a password.
        shown = repr(backend) if backend.isidentifier() else "'***'"
        raise Problem(
            f"{what}={shown} cannot be used: it must be sqlite, postgresql, redis or nats",
            code="INVALID_ARGUMENT",
        )
    return scheme


def backend_url(scheme: str, parts: Mapping[str, Any], settings: Settings) -> str:
    """Return the URL of a store from its parts, or from those of the environment if there are none."""
    if not parts:
        names = ("target", *_OPTIONS)
        parts = {name: getattr(settings, f"backend_{name}") for name in names}
    if target := parts.get("target"):
        return _with_password(str(target), settings.backend_password)
    password = parts.get("password") or settings.backend_password
    user = quote(str(parts.get("user") or ""), safe="")
    secret = f":{quote(str(password), safe='')}" if password else ""
    login = f"{user}{secret}@" if user or secret else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    database = quote(str(parts.get("database") or ""), safe="")
    schema = f"?{_SPACES[scheme]}={quote(str(parts['schema']), safe='')}" if parts.get("schema") else ""
    host = str(parts.get("host") or "localhost")
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{scheme}://{login}{host}{port}{'/' if database or schema else ''}{database}{schema}"


def _with_password(url: str, password: str | None) -> str:
    scheme, there, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if not there or not password or not at or ":" in login:
        return url
    return f"{scheme}://{login}:{quote(password, safe='')}@{place}"


def _wrong(path: str, rule: str) -> Problem:
    return Problem(f"Project file {path} cannot be used: {rule}")
