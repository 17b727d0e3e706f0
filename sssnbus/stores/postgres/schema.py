"""The tables and functions at the server: made, checked, and refused when they are not ours."""

import asyncio
from importlib.resources import files
from secrets import token_hex
from typing import Any, Final

from sssnbus.errors import IncompatibleStore, WeakDurability
from sssnbus.stores.postgres.link import Connection
from sssnbus.stores.postgres.place import Place

VERSION: Final = 1
OLDEST_SERVER: Final = 130000

_PARTS: Final = ("schema.sql", "write.sql", "queue.sql", "log.sql", "owner.sql")

# Not by to_regclass: within a transaction it may answer from before the lock was ours.
_TABLES: Final = (
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1"
)
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_META: Final = "SELECT name, value FROM {schema}.meta"
_ADD_META: Final = (
    "INSERT INTO {schema}.meta VALUES ('format', 'sssnbus'), ('version', $1), ('store', $2), ('bell', $3)"
)
_SETTINGS: Final = (
    "SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,"
    " current_setting('synchronous_commit') AS synchronous_commit,"
    " current_setting('server_version_num')::integer AS version, current_setting('server_version') AS name"
)


async def prepare(connection: Connection, place: Place) -> str:
    """Check the server, make or check the namespace, and return what a commit survives.

    Raises:
        IncompatibleStore: The server is too old or does not give the durability asked for, or what is in the
            namespace is not ours or newer. It was left untouched.
    """
    settings = await connection.fetchrow(_SETTINGS)
    if settings["version"] < OLDEST_SERVER:
        raise IncompatibleStore(
            f"Store {place.url}", f"its server is PostgreSQL {settings['name']}, and 13 is needed"
        )
    given = _durability(settings, place)
    if "meta" not in await _tables(connection, place):
        await _install(connection, place)
    await _check(connection, place)
    return given


def _durability(settings: Any, place: Place) -> str:
    off = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if settings[name] == "off"]
    # Without a synchronous commit an answer comes before the log has left the server's own memory.
    given = "none" if "synchronous_commit" in off else "process" if off else "disk"
    asked = place.durability
    if asked is not None and given != "disk" and asked != given:
        raise WeakDurability(place.url, asked, given, " and ".join(f"{name} is off" for name in off))
    return given


async def _install(connection: Connection, place: Place) -> None:
    # Whatever goes wrong ends the connection, and the transaction with it. A rollback by the driver would
    # wait for a server that may hang, even when nobody wants the store any more.
    await connection.execute("BEGIN")
    # Of several who come first, one makes it, and the others find it made.
    await connection.execute(_LOCK, place.mark)
    tables = await _tables(connection, place)
    if not tables:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {place.schema}")
        for script in await asyncio.to_thread(_scripts):
            await connection.execute(place.text(script))
        await connection.execute(
            place.text(_ADD_META), str(VERSION), token_hex(8), f"sssnbus.{token_hex(16)}"
        )
    elif "meta" not in tables:
        raise IncompatibleStore(
            f"Store {place.url}", f"schema {place.namespace!r} holds tables of something else"
        )
    await connection.execute("COMMIT")


async def _tables(connection: Connection, place: Place) -> set[str]:
    return {row[0] for row in await connection.fetch(_TABLES, place.namespace)}


def _scripts() -> list[str]:
    room = files("sssnbus.stores.postgres")
    return [room.joinpath(part).read_text("utf-8") for part in _PARTS]


async def _check(connection: Connection, place: Place) -> None:
    try:
        meta = dict(await connection.fetch(place.text(_META)))
    except Exception as exc:
        if getattr(exc, "sqlstate", None) != "42703":
            raise
        meta = {}
    if meta.get("format") != "sssnbus":
        raise IncompatibleStore(
            f"Store {place.url}", f"schema {place.namespace!r} has a table 'meta' of something else"
        )
    if meta.get("version") != str(VERSION):
        raise IncompatibleStore(
            f"Store {place.url}",
            f"its schema has version {meta.get('version')}, this program knows {VERSION}; update the program",
        )
