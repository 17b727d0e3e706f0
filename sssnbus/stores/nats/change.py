"""The steps of a journal: what may happen to the messages of a queue."""

from typing import Any, Final

CLAIM: Final = "c"
EXTEND: Final = "x"
ACK: Final = "a"
DONE: Final = "d"
RELEASE: Final = "r"
GONE: Final = "g"
TRIM: Final = "t"

Change = list[Any]
"""One step of a journal: what kind, which message, what it must have found, and what becomes of it.

``[c, sequence, revision, token, worker, owner or None, end or None]`` · ``[x, sequence, token, end]`` ·
``[a, sequence, token]`` · ``[d, sequence, token]`` · ``[r, sequence, token, rest or None, counted, error]`` ·
``[g, sequence, revision or None]`` · ``[t, upto]``
"""
