"""The grammar of --after and --before."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sssnbus.cli.problem import Problem
from sssnbus.cli.times import bound, parse
from tests.cli.tools import inside

SECOND = 1_000_000_000
JANUARY = 1_705_276_800 * SECOND
"""2024-01-15T00:00:00Z in nanoseconds."""


def cleared(nanoseconds: int) -> int:
    """Return a time with the bits of the counter at zero."""
    return nanoseconds - nanoseconds % 4096


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2024-01-15", JANUARY),
        ("20240115", JANUARY),
        ("2024-01-15T00:00:00Z", JANUARY),
        ("2024-01-15T00:00:00", JANUARY),
        ("2024-01-15 00:00", JANUARY),
        ("2024-01-15T01:30:00+01:30", JANUARY),
        ("2024-01-14T19:00:00-05:00", JANUARY),
        ("2024-01-15T00:00:00.25Z", JANUARY + SECOND // 4),
        ("1970-01-01", 0),
        ("1705276800", JANUARY),
        ("1705276800s", JANUARY),
        ("1705276800.5s", JANUARY + SECOND // 2),
        ("1705276800000", JANUARY),
        ("1705276800000ms", JANUARY),
        ("1705276800.532", JANUARY + 532 * SECOND // 1000),
        ("1705276800000.5", JANUARY + 500_000),
        ("1705276800000000000ns", JANUARY),
        ("10s", 10 * SECOND),
        (".5s", SECOND // 2),
        ("1.5", SECOND * 3 // 2),
        ("1.532", 1_532_000_000),
        ("9000000000", 9_000_000_000 * SECOND),
        ("100000000000", 100_000_000_000 * 1_000_000),
        ("1700000000000", 1_700_000_000_000 * 1_000_000),
        ("2251799813685ms", 2_251_799_813_685 * 1_000_000),
        ("10000000000000ns", 10_000_000_000_000),
        ("1", SECOND),
        (" 123 ", 123 * SECOND),
        ("0", 0),
    ],
)
def test_times(text: str, nanoseconds: int) -> None:
    """ISO dates and Unix times with and without a unit stand for the same moments (SB-099, SB-100)."""
    assert parse(text) == cleared(nanoseconds)


@pytest.mark.parametrize(
    "text", ["17592186044416", "10000000000000000", "1837025672140161025", str(2**63 - 1)]
)
def test_ids(text: str) -> None:
    """A whole number from 2**44 on is an id, to the last bit (SB-099)."""
    assert parse(text) == int(text)
    assert bound(text) == text.zfill(19)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty string"),
        ("  ", "empty string"),
        ("1e10", "scientific notation not supported"),
        ("1E10s", "scientific notation not supported"),
        ("yesterday", "scientific notation not supported"),
        ("-5", "cannot be negative"),
        ("-1.5", "cannot be negative"),
        ("-.5", "cannot be negative"),
        ("-5s", "cannot be negative"),
        ("-5.5ms", "cannot be negative"),
        ("1969-12-31", "cannot be negative"),
        (str(2**63), "exceeds maximum value"),
        ("9" * 500, "exceeds maximum value"),
        ("10000000000000ms", "too far in future"),
        ("10000000000000", "too far in future"),
        ("99999999999", "too far in future"),
        ("9999999999999999999.5", "too far in future"),
        ("9" * 5000 + "s", "too far in future"),
        ("2263-01-01", "too far in future"),
        ("9999-12-31T23:59:59-12:00", "too far in future"),
        ("2024-13-45", "2024-13-45"),
        ("20241345", "20241345"),
        ("2024-01-15T25:00", "2024-01-15T25:00"),
        ("abc", "abc"),
        ("abcs", "abcs"),
        ("ms", "ms"),
        ("0x123", "0x123"),
        ("123abc", "123abc"),
        ("1700000000hyb", "1700000000hyb"),
        ("1.2.3", "1.2.3"),
        ("+5", "+5"),
        (".", "."),
        ("1_000", "1_000"),
        ("\u0661\u0662", "١٢"),
        ("invalid", "invalid"),
    ],
)
def test_what_is_no_time(text: str, why: str) -> None:
    """Everything else is an error that says why, under a code of its own (SB-101)."""
    with pytest.raises(Problem) as caught:
        parse(text)
    assert str(caught.value) == f"Invalid timestamp: {why}"
    assert caught.value.code == "INVALID_TIMESTAMP"


@pytest.mark.parametrize("verb", ["read", "peek"])
@pytest.mark.parametrize(
    "option", [["--after", "-1"], ["--after=-1"], ["--before", "-1s"], ["--before", "-.5"]]
)
def test_negative_value(verb: str, option: list[str], tmp_path: Path) -> None:
    """A value may begin with a minus sign; it is refused as a time, not as an option (SB-101)."""
    code, out, err = inside(verb, "q", *option, cwd=tmp_path)
    assert (code, out, err) == (1, "", "sssnbus: error: Invalid timestamp: cannot be negative\n")
    assert list(tmp_path.iterdir()) == [], "it was refused before anything happened"


@pytest.mark.parametrize("words", [["--after"], ["--after", "--json"], ["--json", "--after"]])
def test_missing_value(words: list[str], tmp_path: Path) -> None:
    """An option that lacks its value is named."""
    code, out, err = inside("read", "q", *words, cwd=tmp_path)
    assert (code, out) == (1, "")
    assert "argument --after: expected one argument" in err


def test_empty_value(tmp_path: Path) -> None:
    """A value that was given and is empty is no time (SB-101)."""
    assert inside("peek", "q", "--after=", cwd=tmp_path).err.endswith("Invalid timestamp: empty string\n")


@given(st.text(max_size=30) | st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{0,12})?(s|ms|ns|h)?", fullmatch=True))
def test_whatever_it_is(text: str) -> None:
    """Any text at all is a time within bounds or an error of ours, and never anything else (SB-101)."""
    code = "INVALID_TIMESTAMP"
    try:
        found = parse(text)
    except Problem as problem:
        found, code = 0, problem.code
    assert 0 <= found < 2**63
    assert code == "INVALID_TIMESTAMP"


@given(st.datetimes(datetime(1970, 1, 2), datetime(2262, 1, 1)), st.integers(-23 * 60, 23 * 60))
def test_dates_of_all_zones(moment: datetime, minutes: int) -> None:
    """A date in any zone is the same moment as its Unix time (SB-099, SB-100)."""
    there = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    microseconds = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    assert parse(there.isoformat()) == cleared(microseconds * 1000)
    assert parse(f"{microseconds * 1000}ns") == cleared(microseconds * 1000)
    seconds, rest = divmod(microseconds, 10**6)
    assert parse(f"{seconds}.{rest:06d}s") == cleared(microseconds * 1000)
