"""Decisions that need no waiting."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sssnbus import Retry
from sssnbus.delivery.policy import exhausted, retry_delay

retries = st.builds(
    Retry,
    initial=st.floats(0, 1e6),
    factor=st.floats(1, 100),
    maximum=st.floats(0, 1e6),
    jitter=st.booleans(),
)
chances = st.floats(0, 1, exclude_max=True)


@given(retries, st.integers(1, 10_000), chances)
def test_bounds(retry: Retry, attempt: int, chance: float) -> None:
    """A pause is never negative, never longer than the maximum, however many attempts there were."""
    assert 0 <= retry_delay(retry, attempt, lambda: chance) <= retry.maximum


@given(retries, st.integers(1, 500))
def test_growth(retry: Retry, attempt: int) -> None:
    """Without jitter each pause is as long as the one before or longer, and the first one is the initial."""
    steady = replace(retry, jitter=False)
    assert retry_delay(steady, attempt) <= retry_delay(steady, attempt + 1)
    assert retry_delay(steady, 1) == min(retry.initial, retry.maximum)


@given(retries, st.integers(1, 500), chances)
def test_jitter(retry: Retry, attempt: int, chance: float) -> None:
    """Jitter takes a random part of the whole pause; without it chance plays no role."""
    whole = retry_delay(replace(retry, jitter=False), attempt, lambda: chance)
    part = retry_delay(replace(retry, jitter=True), attempt, lambda: chance)
    assert part == whole * chance


@given(st.integers(1, 100), st.integers(1, 100))
def test_exhausted(attempt: int, limit: int) -> None:
    """An attempt is the last one when the limit is reached; without a limit there is no last one."""
    assert exhausted(attempt, limit) == (attempt >= limit)
    assert not exhausted(attempt, None)
