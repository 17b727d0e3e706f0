"""What things are called on the server: streams, subjects, and the words between their dots.

    ============================================  ===================================================
    ``<prefix>.m.<log>.<id>.<topic>``             a message; ``!`` stands for no topic
    ``<prefix>.j.<log>.<incarnation>``            the journal of a queue
    ``<prefix>.r.<space>.<name>``                 a record
    ``<prefix>.f.<log>.<incarnation>``            how far a log was trimmed
    ``<prefix>.k.<log>.<incarnation>.<key>``      a dedupe key
    ``<prefix>.o.<owner>``                        an open store
    ``<prefix>.i.last``                           the last id that a store made before it was closed
    ============================================  ===================================================

Names of streams can hold neither dots nor 512 characters, so a log goes by a hash of its name; the full
name stands in the metadata of its stream. An incarnation tells a log from one of the same name that was
dropped before.
"""

import re
from hashlib import sha256
from typing import Final

NO_TOPIC: Final = "!"
"""Stands where a topic would; no topic can hold it."""

_SAFE = re.compile(r"[A-Za-z0-9_-]+\Z")
_ESCAPED = re.compile(r"=([0-9a-f]+)=")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def digest(text: str) -> str:
    """Return a short name for a long one: 80 bits, so that no two logs of a server share it."""
    return sha256(text.encode()).hexdigest()[:20]


def token(text: str) -> str:
    """Return a text as one word of a subject, different for different texts."""
    if _SAFE.match(text):
        return text
    return "=" + _UNSAFE.sub(lambda found: f"={ord(found[0]):x}=", text)


def untoken(word: str) -> str:
    """Return the text that a word of a subject stands for."""
    if not word.startswith("="):
        return word
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), word[1:])


def id_token(id: str) -> str:
    """Return a message id as one word: the only character it must lose is the dot."""
    return id.replace(".", "/")


class Names:
    """The names under one prefix, which keeps several buses on one server apart."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.records = f"{prefix}_records"
        """The stream of records, floors, dedupe keys and owners."""
        self.messages = f"{prefix}.m.>"
        self.ids = f"{prefix}.i.last"
        self.everything = f"{prefix}.>"
        self.all_records = f"{prefix}.r.>"
        self.floors = f"{prefix}.f.>"

    def stream(self, log: str) -> str:
        """Return the stream of a log's messages."""
        return f"{self.prefix}_m_{log}"

    def journal(self, log: str, incarnation: str) -> str:
        """Return the stream of a queue's journal."""
        return f"{self.prefix}_j_{log}_{incarnation}"

    def entry(self, log: str, incarnation: str) -> str:
        """Return the subject of a queue's journal."""
        return f"{self.prefix}.j.{log}.{incarnation}"

    def log(self, log: str) -> str:
        """Return the subjects of a log's messages."""
        return f"{self.prefix}.m.{log}.>"

    def message(self, log: str, id: str, topic: str | None) -> str:
        """Return the subject of a message."""
        return f"{self.prefix}.m.{log}.{id_token(id)}.{topic or NO_TOPIC}"

    def any_topic(self, log: str, id: str) -> str:
        """Return the subjects that a message with this id may have."""
        return f"{self.prefix}.m.{log}.{id_token(id)}.>"

    def on_topic(self, log: str, pattern: str) -> str:
        """Return the subjects of a log's messages whose topic is like this."""
        return f"{self.prefix}.m.{log}.*.{pattern}"

    def identified(self, subject: str) -> tuple[str, str | None]:
        """Return the id and the topic that a message's subject tells."""
        _, _, id, topic = subject[len(self.prefix) + 1 :].split(".", 3)
        return id.replace("/", "."), None if topic == NO_TOPIC else topic

    def record(self, space: str, name: str) -> str:
        """Return the subject of a record."""
        return f"{self.prefix}.r.{token(space)}.{token(name)}"

    def space(self, space: str) -> str:
        """Return the subjects of a space's records."""
        return f"{self.prefix}.r.{token(space)}.*"

    def space_of(self, subject: str) -> str:
        """Return the space that a record's subject tells."""
        return untoken(subject[len(self.prefix) + 1 :].split(".", 2)[1])

    def floor(self, log: str, incarnation: str) -> str:
        """Return the subject of a log's floor."""
        return f"{self.prefix}.f.{log}.{incarnation}"

    def key(self, log: str, incarnation: str, key: str) -> str:
        """Return the subject of a dedupe key."""
        return f"{self.prefix}.k.{log}.{incarnation}.{sha256(key.encode()).hexdigest()[:40]}"

    def owner(self, owner: str) -> str:
        """Return the subject that tells whether a store is open."""
        return f"{self.prefix}.o.{token(owner)}"
