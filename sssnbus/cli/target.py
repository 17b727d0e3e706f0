"""Where the store is: by the words of the command line, by the project, or by the environment.

The strongest first: ``--url``; ``-f`` and ``-d``; with project scope the project file, then a database found
in the current directory or above it; ``SSSNBUS_URL`` or ``SSSNBUS_BACKEND``; and at last the default name in
``SSSNBUS_DEFAULT_DB_LOCATION`` or in the current directory.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sssnbus.cli.problem import Problem
from sssnbus.cli.settings import Settings

if TYPE_CHECKING:
    from sssnbus.stores import Store

_SHELL: Final = frozenset("|&;$`\"'<>*?")
"""In a path these are most likely a mistake of quoting; the file would be made all the same."""

_HEADER: Final = b"SQLite format 3\0"
_MARK: Final = b"SSSN"
"""What the header of our databases holds at byte 68, where SQLite keeps the application id."""

_LEVELS: Final = 100


@dataclass(frozen=True)
class Place:
    """What the words before the command say of the place."""

    directory: str | None = None
    file: str | None = None
    url: str | None = None

    @property
    def given(self) -> bool:
        """Whether they say anything."""
        return (self.directory, self.file, self.url) != (None, None, None)


@dataclass(frozen=True)
class Target:
    """A store that is not opened yet: an SQLite file, or what a URL names."""

    settings: Settings
    path: str | None = None
    url: str | None = None
    make_parent: bool = False
    """Whether the directory of the file is made when the store is."""

    def store(self) -> "Store":
        """Return the store, not opened.

        Raises:
            Problem: the URL names a store that ends with this process.
            UsageError: the URL cannot be understood.
        """
        if self.url is not None:
            return _from_url(self.url)
        assert self.path is not None
        if self.make_parent:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
        from sssnbus.stores import SQLiteStore

        settings = self.settings
        busy, interval = settings.busy_timeout, settings.max_interval
        return SQLiteStore(
            self.path,
            durability="disk" if settings.sync_mode == "FULL" else "process",
            write_timeout=30.0 if busy is None else busy / 1000,
            poll_interval=max(interval, 0.001) if interval is not None else 0.25,
        )

    def __str__(self) -> str:
        """Show it to people, without secrets."""
        return self.path if self.path is not None else self.store().url


def find(place: Place, settings: Settings) -> Target:
    """Return where the store is.

    Raises:
        Problem: the words or settings cannot be used, or a project was asked for and there is none.
    """
    if place.url is not None:
        if place.directory is not None or place.file is not None:
            raise Problem("--url cannot be used with --dir or --file", code="INVALID_ARGUMENT")
        return Target(settings, url=place.url)
    if place.given:
        return Target(settings, path=_explicit(place, settings))
    if settings.project_scope:
        found = _in_project(settings)
        if found is not None:
            return found
    url = _from_environment(settings)
    if url is not None:
        return Target(settings, url=url)
    if settings.project_scope:
        raise Problem(
            f"SSSNBUS_PROJECT_SCOPE is set, but neither {_here()!r} nor a directory above it has a "
            f"{settings.default_db_name!r} or a {settings.project_config_name!r}. Run 'sssnbus init' where "
            "the project begins, or name a file with -f."
        )
    folder = settings.default_db_location or _here()
    if not os.path.isdir(folder):
        raise Problem(f"Directory not found: {folder} (SSSNBUS_DEFAULT_DB_LOCATION). Make it first.")
    return _default_in(folder, settings)


def to_initialize(settings: Settings) -> Target:
    """Return what ``init`` makes: the target of the project if there is one, else a file right here."""
    found = _in_project(settings) if settings.project_scope else None
    return found or _default_in(_here(), settings)


def _here() -> str:
    """Return the current directory.

    Raises:
        Problem: somebody has removed it.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise Problem(
            "The current directory was removed. Go to another one, or name a file by its absolute path."
        ) from None


def _default_in(folder: str, settings: Settings) -> Target:
    name = settings.default_db_name
    return Target(settings, path=os.path.join(folder, name), make_parent="/" in name)


def _explicit(place: Place, settings: Settings) -> str:
    folder, name = place.directory, place.file
    for option, text in (("--dir", folder), ("--file", name)):
        _check_text(option, text or "")
    if name is not None and ".." in name.replace("\\", "/").split("/"):
        raise Problem(f"Database name {name!r} must not contain parent directory references ('..')")
    if folder is not None:
        if not os.path.exists(folder):
            raise Problem(f"Directory not found: {folder}")
        if not os.path.isdir(folder):
            raise Problem(f"Path is a file, not a directory: {folder}")
    if folder is None and name is not None and os.path.isabs(name):
        return name
    base = os.path.normpath(os.path.join(_here(), folder or ""))
    if name is None:
        return os.path.join(base, settings.default_db_name)
    if os.path.isabs(name):
        parent = os.path.dirname(name)
        if os.path.realpath(parent) != os.path.realpath(base):
            raise Problem(
                f"Inconsistent paths: the absolute file {name!r} conflicts with directory {folder!r}. "
                "Leave one of them out."
            )
        return name
    path = os.path.join(base, name)
    real, root = os.path.realpath(path), os.path.realpath(base)
    if os.path.commonpath([real, root]) != root:
        raise Problem(
            f"Database file {name!r} must be within the working directory, but it is a link to {real!r}. "
            "Name that file by its absolute path."
        )
    return path


def _check_text(option: str, text: str) -> None:
    bad = [sign for sign in text if sign in _SHELL or ord(sign) < 32 or ord(sign) == 127]
    if bad:
        raise Problem(f"{option} {text!r} must not contain the character {bad[0]!r}", code="INVALID_ARGUMENT")


def _in_project(settings: Settings) -> Target | None:
    """Return what the project says: its file at any level counts more than a database at any level."""
    levels = _upwards(os.path.realpath(_here()))
    for folder in levels:
        config = os.path.join(folder, settings.project_config_path, settings.project_config_name)
        if _is_file(config):
            from sssnbus.cli.project import read

            where = read(config, settings)
            if "://" in where:
                return Target(settings, url=where)
            return Target(settings, path=where, make_parent=True)
    for folder in levels:
        path = os.path.join(folder, settings.default_db_name)
        if is_ours(path):
            return Target(settings, path=path)
    return None


def _upwards(folder: str) -> list[str]:
    """Return a directory and those above it, up to the edge of its file system."""
    found: list[str] = []
    device: int | None = None
    for _ in range(_LEVELS):
        here = os.stat(folder).st_dev
        if device is not None and here != device:
            break
        device = here
        found.append(folder)
        parent = os.path.dirname(folder)
        if parent == folder:
            break
        folder = parent
    return found


def _is_file(path: str) -> bool:
    # False as well where a directory may not be looked into, or where a link leads round in a circle.
    return os.path.isfile(path)


def is_ours(path: str) -> bool:
    """Return whether a file is a database of ours, by its header; it is not opened as one."""
    try:
        with open(path, "rb") as file:
            head = file.read(100)
    except OSError:
        return False
    return head[:16] == _HEADER and head[68:72] == _MARK


def _from_environment(settings: Settings) -> str | None:
    if settings.url is not None:
        return settings.url
    from sssnbus.cli.project import backend_url, scheme_of

    scheme = scheme_of("SSSNBUS_BACKEND", settings.backend)
    return None if scheme == "sqlite" else backend_url(scheme, {}, settings)


def _from_url(url: str) -> "Store":
    from sssnbus.stores import store_from_url

    if url.partition(":")[0] == "memory":
        raise Problem(
            "A memory:// store ends with this command; name one that stays, such as sqlite:///file.db"
        )
    return store_from_url(url)
