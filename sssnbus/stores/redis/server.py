"""What the server is, and what it really gives: read when a store is opened, and with each new connection."""

from typing import Any, Final

from redis.exceptions import ResponseError

from sssnbus.errors import IncompatibleStore, StoreReadOnly, WeakDurability
from sssnbus.stores.redis.failure import refused
from sssnbus.stores.redis.place import Place
from sssnbus.stores.redis.script import scripts
from sssnbus.stores.redis.wire import Wire

VERSION: Final = 1
"""Of what the scripts keep in the server."""

_OLDEST: Final = (6, 2)
_UNKNOWN: Final = "unknown (the server does not tell: CONFIG is not allowed)"
_RANKS: Final = {"none": 0, "process": 1, "disk": 2}


async def inspect(wire: Wire, place: Place) -> str:
    """Return what a write survives by the settings of the server.

    Raises:
        IncompatibleStore: the server is too old, keeps no data, or may evict messages.
        WeakDurability: it gives less than was asked for.
        StoreReadOnly: it is a replica.
    """
    info = _fields(await wire.ask("INFO", limit=place.connect_timeout))
    version = info.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < _OLDEST:
        raise IncompatibleStore(place.url, f"it needs Redis 6.2 or newer, and the server is {version}")
    # Redis and Valkey each have their own name for it.
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):
        reason = "it is a Sentinel, which keeps no data. Name the server that it watches"
        raise IncompatibleStore(place.url, reason)
    if info.get("role") == "slave":
        raise StoreReadOnly(place.url)
    policy = info.get("maxmemory_policy", "")
    # The other policies evict keys that expire, and ours do not.
    if policy.startswith("allkeys-"):
        reason = f"the server may evict messages (maxmemory-policy is {policy}). Set it to noeviction"
        raise IncompatibleStore(place.url, reason)
    settings = {"appendonly": "yes" if info.get("aof_enabled") == "1" else "no"}
    for name in ("appendfsync", "no-appendfsync-on-rewrite"):
        settings[name] = await _setting(wire, place, name)
    given = durability(settings)
    wanted = place.durability or "none"
    if _RANKS[given] < _RANKS[wanted]:
        needed = {"process": "appendfsync always or no", "disk": "appendfsync always"}[wanted]
        has = ", ".join(f"{name} {value}" for name, value in settings.items())
        raise WeakDurability(place.url, wanted, given, f"it needs appendonly yes, {needed}, and has {has}")
    return given


async def is_replica(wire: Wire, place: Place) -> bool:
    """Return whether the server copies another one."""
    info = _fields(await wire.ask("INFO", "replication", limit=place.connect_timeout))
    return info.get("role") == "slave"


def durability(settings: dict[str, str]) -> str:
    """Return what a write survives: it is in the append-only file before it is answered, or it is not.

    Snapshots count for nothing: what came after the last one is lost with the process. Nor does
    ``everysec`` promise anything: while the disk is busy the server answers first and writes up to two
    seconds later, and a crash in between loses what was acknowledged.
    """
    if settings["appendonly"] != "yes" or settings["appendfsync"] not in ("always", "no"):
        return "none"
    # During a rewrite that setting turns "always" into "no".
    whole = settings["appendfsync"] == "always" and settings["no-appendfsync-on-rewrite"] == "no"
    return "disk" if whole else "process"


async def create(wire: Wire, place: Place, birth: str) -> str:
    """Make the store if it is not there and a birth is given; return its own, which names it for ever.

    The user's rights are looked at too.

    Raises:
        IncompatibleStore: what is there is of another version, or none of ours.
        StoreError: the user may not run all that the scripts consist of.
    """
    try:
        found = await wire.run(
            scripts().open,
            place.clock_key,
            birth.encode(),
            str(VERSION).encode(),
            limit=place.connect_timeout,
        )
    except ResponseError as exc:
        if "WRONGTYPE" not in str(exc):
            raise
        reason = f"its key {place.clock_key} is something else. Choose another prefix"
        raise IncompatibleStore(place.url, reason) from exc
    if found[0] is None and not birth:
        return ""
    if found[0] is None or found[1] != str(VERSION).encode():
        version = (found[1] or b"unknown").decode()
        reason = f"what its prefix {place.prefix!r} names is of version {version}, and this is {VERSION}"
        raise IncompatibleStore(place.url, reason)
    if found[2]:
        names = ", ".join(name.decode() for name in found[2])
        raise refused(place.url, f"its user may not run {names} on {place.clock_key}*")
    there: bytes = found[0]
    return there.decode()


async def _setting(wire: Wire, place: Place, name: str) -> str:
    try:
        answer = await wire.ask("CONFIG", "GET", name, limit=place.connect_timeout)
    except ResponseError:
        return _UNKNOWN
    return answer[1].decode() if len(answer) > 1 else _UNKNOWN


def _fields(info: Any) -> dict[str, str]:
    lines = bytes(info).decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
