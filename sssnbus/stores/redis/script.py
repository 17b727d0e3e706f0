"""The scripts that work inside the server. They are kept beside this file, in parts."""

from collections.abc import Collection
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple


class Script(NamedTuple):
    """A script, and the hash by which a server knows it once it has seen it."""

    text: bytes
    sha: bytes


class Scripts(NamedTuple):
    """All of them."""

    open: Script
    read: Script
    write: Script
    """Knows every operation that changes something. The others know some, and are quicker to begin."""
    one: Script
    """Appends one message that has nothing special."""
    append: Script
    claim: Script
    settle: Script

    def writing(self, verbs: Collection[str]) -> Script:
        """Return the smallest script that knows all of some operations."""
        if len(verbs) == 1:
            (verb,) = verbs
            if verb == "append":
                return self.append
            if verb == "claim":
                return self.claim
            if verb == "settle":
                return self.settle
        return self.write


@cache
def scripts() -> Scripts:
    """Return the scripts. The first call reads files."""
    queue = ("base", "request", "put", "life")
    return Scripts(
        open=_script("open"),
        read=_script("base", "select", "read"),
        write=_script(
            *queue,
            "time",
            "select",
            "append",
            "restore",
            "claim",
            "settle",
            "move",
            "catalogue",
            "owner",
            "commit",
        ),
        one=_script("one"),
        append=_script("base", "request", "put", "append", "commit"),
        claim=_script(*queue, "time", "select", "claim", "commit"),
        settle=_script(*queue, "settle", "commit"),
    )


def _script(*parts: str) -> Script:
    folder = Path(__file__).parent
    text = "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in parts).encode()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())
