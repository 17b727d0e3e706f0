"""The grammar of ``--after`` and ``--before``: ids, Unix times and ISO dates, all as ids to compare with.

Ids are nanoseconds since the Unix epoch whose low 12 bits are a counter, so every time is an id as well.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from sssnbus.cli.problem import Problem

_LIMIT: Final = 2**63
_NATIVE: Final = 2**44
"""Whole numbers from here on are ids; smaller ones are seconds or milliseconds."""

_SECOND: Final = 1_000_000_000
_MILLISECOND: Final = 1_000_000
_UNITS: Final = {"ns": 1, "ms": _MILLISECOND, "s": _SECOND}

_NUMBER: Final = re.compile(r"(-?)([0-9]+)(?:\.([0-9]*))?|(-?)()\.([0-9]+)")
_WITH_UNIT: Final = re.compile(r"(.*?)\s*(ns|ms|s)", re.DOTALL)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def bound(value: str | None) -> str | None:
    """Return the id of 19 digits that a time stands for; None for None.

    Raises:
        Problem: it is no time (``INVALID_TIMESTAMP``).
    """
    return None if value is None else f"{parse(value):019d}"


def parse(value: str) -> int:
    """Return the id that a time stands for, 0 to 2**63 - 1.

    A whole number from 2**44 on is an id. A smaller one, or a decimal, is seconds if it has up to 11 digits
    before the point, else milliseconds. With ``s``, ``ms`` or ``ns`` behind it, it is what that says. A date
    without a time is midnight, and a time without a zone is UTC.

    Raises:
        Problem: it is none of these (``INVALID_TIMESTAMP``).
    """
    text = value.strip()
    if not text:
        raise _invalid("empty string")
    if "e" in text.lower():
        raise _invalid("scientific notation not supported")
    if with_unit := _WITH_UNIT.fullmatch(text):
        number, unit = with_unit.groups()
        return _cleared(_scaled(number, _UNITS[unit], value))
    if match := _NUMBER.fullmatch(text):
        if not (len(text) == 8 and text.isdigit()):
            return _bare(match, text, value)
    elif not ("-" in text or "T" in text or "Z" in text):
        raise _invalid(value)
    return _cleared(_date(text, value))


def _bare(match: re.Match[str], text: str, value: str) -> int:
    """Return the id for a number without a unit; how many digits it has tells what it counts."""
    whole = match[2] or ""
    digits = len(whole.lstrip("0"))
    if match[3] is None and match[6] is None:
        if match[1]:
            raise _invalid("cannot be negative")
        if digits > 19 or int(whole) >= _LIMIT:
            raise _invalid("exceeds maximum value")
        if int(whole) >= _NATIVE:
            return int(whole)
    factor = _SECOND if digits <= 11 else _MILLISECOND if digits <= 16 else 1
    return _cleared(_scaled(text, factor, value))


def _scaled(number: str, factor: int, value: str) -> int:
    match = _NUMBER.fullmatch(number)
    if match is None:
        raise _invalid(value)
    sign, whole, fraction = (match[1], match[2], match[3]) if match[2] else (match[4], "0", match[6])
    if sign:
        raise _invalid("cannot be negative")
    fraction = (fraction or "")[:18]
    if len(whole.lstrip("0")) > 19:
        raise _invalid("too far in future")
    return int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)


def _date(text: str, value: str) -> int:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise _invalid(value) from None
    # Taken away by hand, since near the year 1 or 9999 there may be no such moment in UTC.
    since = date.replace(tzinfo=UTC) - _EPOCH - (date.utcoffset() or timedelta(0))
    found = since // timedelta(microseconds=1) * 1000
    if found < 0:
        raise _invalid("cannot be negative")
    return found


def _cleared(nanoseconds: int) -> int:
    if nanoseconds >= _LIMIT:
        raise _invalid("too far in future")
    return nanoseconds >> 12 << 12


def _invalid(why: str) -> Problem:
    return Problem(f"Invalid timestamp: {why}", code="INVALID_TIMESTAMP")
