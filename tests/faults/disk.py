"""What a disk may hold after a power cut: images made from the log of a shimmed process."""

import json
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

WRITE, SYNC, CUT, UNLINK = 1, 2, 4, 8
"""The kinds of calls, as the shim has them."""

ACKS = "acks"
"""The file in which a child says what it was told, so that it has a place among the other writes."""

_HEAD = struct.Struct("=IIQQ")
_TORN = 0.2
"""How many of the writes that were not synced stop half-way."""


class Call(NamedTuple):
    """Something that was done to a file."""

    kind: int
    name: str
    offset: int
    data: bytes


def calls_in(log: Path) -> list[Call]:
    """Return what the shim has noted, in order."""
    data, calls, at = log.read_bytes(), [], 0
    while at < len(data):
        kind, length, offset, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        name = data[at : at + length].decode()
        at += length
        size = size if kind == WRITE else 0
        calls.append(Call(kind, name, offset, data[at : at + size]))
        at += size
    return calls


def said(calls: Sequence[Call]) -> list[Any]:
    """Return what the child has said in these calls."""
    return [json.loads(call.data) for call in calls if call.kind == WRITE and call.name == ACKS]


def image(calls: Sequence[Call], luck: random.Random) -> dict[str, bytes]:
    """Return files as a power cut right after these calls may leave them.

    What was synced is there. Of the rest there is nothing, or a random half, some of it torn. Names are
    kept as file systems with a journal do: a sync of any file makes the removals before it last.
    """
    synced = {call.name: index for index, call in enumerate(calls) if call.kind == SYNC}
    named = max(synced.values(), default=-1)
    chance = luck.choice((0.0, 0.5))
    files: dict[str, bytearray] = {}
    held: set[str] = set()
    for index, call in enumerate(calls):
        if call.kind == SYNC or call.name in held or call.name == ACKS:
            continue
        kept = index < (named if call.kind == UNLINK else synced.get(call.name, -1))
        if not kept and luck.random() >= chance:
            if call.kind == UNLINK:
                # The old file stays; what was written under its name since belongs to one that is lost.
                held.add(call.name)
            continue
        if call.kind == UNLINK:
            files.pop(call.name, None)
            continue
        file = files.setdefault(call.name, bytearray())
        if call.kind == CUT:
            del file[call.offset :]
            file.extend(bytes(call.offset - len(file)))
            continue
        data = call.data
        if not kept and luck.random() < _TORN:
            data = data[: luck.randrange(len(data))]
        file.extend(bytes(max(0, call.offset - len(file))))
        file[call.offset : call.offset + len(data)] = data
    return {name: bytes(file) for name, file in files.items()}


def lay(files: dict[str, bytes], folder: Path) -> None:
    """Write an image into a new directory."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
