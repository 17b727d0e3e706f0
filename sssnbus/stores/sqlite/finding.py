"""What an examination finds."""

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing is lost by it."""
    DANGER = "danger"
    """Messages are damaged or lost, or will be."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    subject: str
    """What was looked at, in a word or two; each subject comes once."""
    level: Level
    text: str
    """What was found."""
    advice: str = ""
    """What to do about it; empty if nothing."""


def well(subject: str, text: str) -> Finding:
    """Return that a thing is as it should be."""
    return Finding(subject, Level.OK, text)


def note(subject: str, text: str, advice: str = "") -> Finding:
    """Return what is worth knowing."""
    return Finding(subject, Level.NOTE, text, advice)


def danger(subject: str, text: str, advice: str) -> Finding:
    """Return what must be seen to."""
    return Finding(subject, Level.DANGER, text, advice)
