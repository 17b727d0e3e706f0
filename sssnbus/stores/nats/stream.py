"""The streams of a store: how they are set up, and what is done when one is there with other settings."""

from collections.abc import Mapping
from typing import Any, Final

from sssnbus.errors import IncompatibleStore
from sssnbus.stores.nats.failure import Exists, Missing
from sssnbus.stores.nats.link import Link

FORMAT: Final = "1"
"""Which layout of subjects, headers and journals this is."""

_MINUTE: Final = 60 * 10**9

# What would lose or hide messages, and cannot be changed once a stream is there.
_FIXED: Final = ("storage", "retention")
# What can be put right.
_MENDED: Final = (
    "subjects", "discard", "max_age", "max_msgs_per_subject", "allow_direct", "allow_atomic",
    "allow_msg_ttl", "deny_delete", "deny_purge", "sealed",
)  # fmt: skip


def messages(stream: str, subjects: str, metadata: Mapping[str, str], replicas: int) -> dict[str, Any]:
    """Return the settings of a stream of messages."""
    return _config(stream, [subjects], metadata, replicas) | {"allow_atomic": True}


def journal(stream: str, subject: str, metadata: Mapping[str, str], replicas: int) -> dict[str, Any]:
    """Return the settings of a queue's journal."""
    return _config(stream, [subject], metadata, replicas) | {"allow_atomic": True}


def records(stream: str, prefix: str, replicas: int) -> dict[str, Any]:
    """Return the settings of the stream that keeps the newest message of each subject."""
    subjects = [f"{prefix}.{word}.>" for word in "rfkoi"]
    return _config(stream, subjects, {"format": FORMAT}, replicas) | {
        "max_msgs_per_subject": 1,
        "allow_msg_ttl": True,
    }


def _config(stream: str, subjects: list[str], metadata: Mapping[str, str], replicas: int) -> dict[str, Any]:
    return {
        "name": stream,
        "subjects": subjects,
        "metadata": dict(metadata),
        "storage": "file",
        "retention": "limits",
        # The default would let old messages go without a word when there is no room.
        "discard": "new",
        "max_age": 0,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "num_replicas": replicas,
        "duplicate_window": 2 * _MINUTE,
        # A replica that lags must not answer in place of the leader.
        "allow_direct": replicas == 1,
        "allow_atomic": False,
        "allow_msg_ttl": False,
        "deny_delete": False,
        "deny_purge": False,
        "sealed": False,
    }


async def ensure(link: Link, config: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Make a stream, or put one right that is there; return what the server knows of it.

    Raises:
        IncompatibleStore: it is there with settings that would break promises and cannot be changed.
    """
    name = config["name"]
    while True:
        try:
            there = await link.api(f"STREAM.INFO.{name}", deadline=deadline)
        except Missing:
            try:
                return await link.api(f"STREAM.CREATE.{name}", config, deadline=deadline)
            except Exists:
                # Somebody else has made it just now.
                continue
        return await _mend(link, config, there, deadline)


async def _mend(link: Link, config: dict[str, Any], there: dict[str, Any], deadline: float) -> dict[str, Any]:
    name, found = config["name"], there["config"]
    recorded = (found.get("metadata") or {}).get("format")
    if recorded != FORMAT:
        raise IncompatibleStore(
            f"Stream {name} of {link.url}",
            f"its metadata say format {recorded!r} and this version needs {FORMAT!r}",
        )
    for setting in _FIXED:
        if found.get(setting) != config[setting]:
            raise IncompatibleStore(
                f"Stream {name} of {link.url}",
                f"its {setting} is {found.get(setting)!r} and must be {config[setting]!r}",
            )
    # Replicas are the operator's to choose afterwards; direct answers follow from them.
    wanted = config | {"allow_direct": found.get("num_replicas", 1) == 1}
    wrong = {name: wanted[name] for name in _MENDED if _differs(found.get(name), wanted[name])}
    if not wrong:
        return there
    return await link.api(f"STREAM.UPDATE.{name}", found | wrong, deadline=deadline)


def _differs(found: object, wanted: object) -> bool:
    # What is false or zero the server may leave out.
    return bool(found or wanted) and found != wanted
