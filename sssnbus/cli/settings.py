"""Every setting of the environment, in one place: ``SSSNBUS_`` and the name of the field in capitals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from sssnbus.cli.problem import Problem

PREFIX: Final = "SSSNBUS_"

_NO_EFFECT: Final = "Accepted without effect: "


def _flag(text: str) -> bool:
    word = text.lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("", "0", "false", "no", "off"):
        return False
    raise ValueError("1, true, yes or on; or 0, false, no or off")


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text[:18]) and len(text) <= 18):
            raise ValueError(f"a whole number, {least} or more")
        return int(text)

    return read


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # NaN fails this as well.
    if not 0 <= value < 1e9:
        raise ValueError("a number, 0 or more")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if not value:
        raise ValueError("a number above 0")
    return value


def _sync_mode(text: str) -> str:
    if text.upper() not in ("FULL", "NORMAL", "OFF"):
        raise ValueError("FULL, NORMAL or OFF")
    return text.upper()


def _file_name(text: str) -> str:
    parts = text.split("/")
    if not 1 <= len(parts) <= 2 or not all(parts) or ".." in parts or not text.isprintable():
        raise ValueError("the name of a file, with at most one directory before it, and not '..'")
    return text


def _directory(text: str) -> str:
    if not text.startswith("/") and not text[1:3] == ":\\":
        raise ValueError("the absolute path of a directory")
    return text


def _text(text: str) -> str:
    return text


def _key(default: Any, read: Callable[[str], object], summary: str) -> Any:
    return field(default=default, metadata={"read": read, "summary": summary})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment sets. A key that is missing or empty has its default."""

    default_db_name: str = _key(
        ".sssnbus.db",
        _file_name,
        "The name of the database file, in all scopes; one directory may stand before it.",
    )
    default_db_location: str | None = _key(
        None,
        _directory,
        "The directory of the database, in place of the current one; not with PROJECT_SCOPE.",
    )
    project_scope: bool = _key(
        False, _flag, "Look for a project file or a database in the current directory and in those above it."
    )
    project_config_name: str = _key(".sssnbus.toml", _file_name, "The name of the project file.")
    project_config_path: str = _key("", _text, "A directory before the name of the project file.")
    url: str | None = _key(None, _text, "The URL of a store, such as redis://localhost; see --url.")
    backend: str = _key(
        "sqlite", _text, "Which kind of store BACKEND_* describe: sqlite, postgresql, redis or nats."
    )
    backend_target: str | None = _key(None, _text, "The URL of that store, in place of its parts.")
    backend_host: str | None = _key(None, _text, "Its host; localhost unless given.")
    backend_port: int | None = _key(None, _whole(1), "Its port.")
    backend_user: str | None = _key(None, _text, "Its user.")
    backend_password: str | None = _key(None, _text, "Its password, also for a project file without one.")
    backend_database: str | None = _key(None, _text, "Its database.")
    backend_schema: str | None = _key(
        None, _text, "The schema inside that database, or the prefix of all names there."
    )
    max_message_size: int = _key(10 * 1024 * 1024, _whole(1), "The largest message, in bytes of UTF-8.")
    read_commit_interval: int = _key(
        100, _whole(1), "How many messages 'read --all' and 'watch' claim, print and acknowledge at a time."
    )
    claim_timeout: float = _key(
        10.0, _seconds, "Seconds after which somebody else gets what a command held when it was killed."
    )
    sync_mode: str = _key(
        "FULL",
        _sync_mode,
        "FULL: a written message survives a power cut; NORMAL or OFF: a crash of the program.",
    )
    busy_timeout: int | None = _key(
        None,
        _whole(1),
        "Milliseconds within which a change must begin when others write; 30,000 unless given.",
    )
    max_interval: float | None = _key(
        None, _number, "Seconds between two looks for what no doorbell told; 0.25 unless given."
    )
    auto_vacuum: bool = _key(True, _flag, "Remove consumed messages by and by.")
    auto_vacuum_interval: int = _key(
        100, _whole(0), "How many messages are consumed between two looks whether to vacuum."
    )
    vacuum_threshold: float = _key(
        10.0, _number, "Vacuum when so many percent of a queue are consumed, and more than 10,000 messages."
    )
    debug: bool = _key(False, _flag, "Show the traceback of an unexpected error.")
    logging_enabled: bool = _key(False, _flag, "Show what the library logs, on stderr.")
    cache_mb: int = _key(10, _whole(1), _NO_EFFECT + "SQLite's own cache is enough here.")
    wal_autocheckpoint: int = _key(
        1000, _whole(0), _NO_EFFECT + "checkpoints keep the log small by themselves."
    )
    vacuum_batch_size: int = _key(1000, _whole(1), _NO_EFFECT + "vacuum goes in short steps by itself.")
    vacuum_lock_timeout: int = _key(300, _whole(0), _NO_EFFECT + "no lock of a vacuum outlives its process.")
    generator_batch_size: int = _key(
        100, _whole(1), _NO_EFFECT + "'peek --all' fetches pages of its own size."
    )
    initial_checks: int = _key(100, _whole(0), _NO_EFFECT + "doorbells tell a watcher, so it checks nothing.")
    burst_sleep: float = _key(0.00001, _number, _NO_EFFECT + "a watcher does not poll in bursts.")
    jitter_factor: float = _key(0.15, _number, _NO_EFFECT + "a watcher does not poll in bursts.")
    skip_idle_check: bool = _key(False, _flag, _NO_EFFECT + "a watcher does not poll in bursts.")


def load(environment: Mapping[str, str]) -> Settings:
    """Read the settings out of an environment.

    Raises:
        Problem: a value breaks the rule of its key; the sentence names the key.
    """
    given: dict[str, object] = {}
    for each in fields(Settings):
        key = PREFIX + each.name.upper()
        text = environment.get(key, "").strip()
        if not text:
            continue
        try:
            given[each.name] = each.metadata["read"](text)
        except ValueError as error:
            shown = "***" if "password" in each.name else repr(text)
            raise Problem(
                f"{key}={shown} cannot be used: it must be {error}", code="INVALID_ARGUMENT"
            ) from None
    return Settings(**given)  # type: ignore[arg-type]  # each reader returns what its field holds
