"""Reading by topics: what does not match is passed over before its body is touched."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from sssnbus.stored import Stored
from sssnbus.stores.sqlite import select as selecting
from sssnbus.stores.sqlite import sql
from sssnbus.stores.sqlite.append import Log
from sssnbus.topics import Pattern

LOOK: Final = 10_000
"""Messages that one read looks at, at most."""

_ANY: Final = ("*", "")


def page(
    conn: sqlite3.Connection, log: Log, after: int, end: int, limit: int, topics: Sequence[Pattern]
) -> tuple[list[Stored], int]:
    """Return the oldest messages between two sequences that may match, and up to which one it was looked."""
    low, high = log.base + after, log.base + end
    first = conn.execute(sql.NEAREST, (low, high)).fetchone()
    if first is None:
        return [], end
    high = min(high, first[0] + LOOK - 1)
    globs = sorted({_globs(pattern.lead.words) for pattern in topics})
    room = next((count for count in sql.PAGE_ON_TOPICS if count >= len(globs)), None)
    if room is None:
        # So many that telling them apart here costs less.
        globs, room = [_ANY], 1
    texts = [text for pair in globs + globs[:1] * (room - len(globs)) for text in pair]
    found = selecting.stored_rows(conn, sql.PAGE_ON_TOPICS[room], (low, high, *texts, limit))
    return found, high - log.base


def _globs(words: Sequence[str]) -> tuple[str, str]:
    """Return what a topic has to be like, and unlike, at the least.

    A star also matches dots. Where the number of words is fixed, none of them can, if there are no more.
    """
    like = ".".join("*" if word == ">" else word for word in words)
    return like, "" if words[-1] == ">" else "*" + ".*" * len(words)
