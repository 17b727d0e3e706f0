"""The table of a queue: changes count if they found what they say, whoever applies them and when."""

from pydantic_core import from_json, to_json

from sssnbus.stores.base import Counts
from sssnbus.stores.nats.change import ACK, CLAIM, EXTEND, GONE, RELEASE, TRIM, Change
from sssnbus.stores.nats.message import Facts
from sssnbus.stores.nats.table import Table, spans


def table(*facts: Facts) -> Table:
    """Return a table with some messages, and nobody dead but ``dead``."""
    made = Table({"dead"}.__contains__)
    for each in facts:
        made.add(each)
    return made


def fact(sequence: int, *, key: str | None = None, priority: int = 0) -> Facts:
    """Return what a queue knows of a message."""
    return Facts(f"id-{sequence}", sequence, priority, key, None, 0.0, 10)


def claim(
    sequence: int, revision: int, token: str, owner: str | None = "me", end: float | None = None
) -> Change:
    """Return a claim."""
    return [CLAIM, sequence, revision, token, "worker", owner, end]


def test_two_claims_of_one_message() -> None:
    """Of two claims that found the same, the first in the journal counts, for every reader."""
    made = table(fact(1))
    assert [made.apply(claim(1, 0, "a"), 1), made.apply(claim(1, 0, "b"), 2)] == [1, 0]
    assert (made.rows[1].token, made.rows[1].attempt) == ("a", 1)


def test_stale_tokens_change_nothing() -> None:
    """What comes with an old token is void, in whatever order it arrives (SB-130)."""
    made = table(fact(1))
    made.apply(claim(1, 0, "old", None, 5.0), 1)
    assert made.apply(claim(1, 1, "new"), 2) == 1
    for stale in ([ACK, 1, "old"], [EXTEND, 1, "old", 9.0], [RELEASE, 1, "old", None, False, None]):
        assert made.apply(stale, 3) == 0
    assert (made.rows[1].token, made.rows[1].attempt) == ("new", 2)
    assert made.apply([ACK, 1, "new"], 4) == 1
    assert made.apply([ACK, 1, "new"], 5) == 0


def test_an_extension_beats_a_claim_that_did_not_see_it() -> None:
    """A lease that was extended in time is not taken by who saw only its old end."""
    made = table(fact(1))
    made.apply(claim(1, 0, "a", None, 5.0), 1)
    made.apply([EXTEND, 1, "a", 50.0], 2)
    assert made.apply(claim(1, 1, "thief"), 3) == 0
    assert made.good(1, "a", 10.0)


def test_journal_ahead_of_messages() -> None:
    """An entry about a message that was not met yet counts as soon as it is."""
    made = table()
    assert made.apply(claim(1, 0, "a"), 1) == 1
    assert made.apply([GONE, 2, None], 2) == 1
    assert made.counts(0.0, 0.0) == Counts()
    made.add(fact(1))
    made.add(fact(2))
    assert made.counts(0.0, 0.0) == Counts(leased=1)
    made.apply([TRIM, 3], 3)
    made.add(fact(3))
    assert made.counts(0.0, 0.0) == Counts()


def test_dead_owners() -> None:
    """A lease ends with its owner, if the owner renewed it."""
    made = table(fact(1), fact(2))
    made.apply(claim(1, 0, "a", "dead"), 1)
    made.apply(claim(2, 0, "b", None, 9.0), 2)
    made.offer_all("dead")
    assert [row.sequence for row in made.pick(9, None, 0.0, 0.0)] == [1]


def test_snapshot() -> None:
    """A table that is made from a snapshot and the messages is the same one."""
    made = table(*(fact(n, key="k" if n > 4 else None) for n in range(1, 8)))
    made.apply(claim(1, 0, "a"), 1)
    made.apply(claim(2, 0, "b"), 2)
    made.apply([RELEASE, 2, "b", 30.0, True, "boom"], 3)
    made.apply([GONE, 3, None], 4)
    made.apply(claim(5, 0, "c"), 5)
    made.apply(["d", 5, "c"], 6)
    again = table()
    rows, done, gone, floor = from_json(to_json(made.snapshot()))
    again.restore(rows, done, gone, floor, 6)
    for n in range(1, 8):
        again.add(fact(n, key="k" if n > 4 else None))
    assert again.rows == made.rows
    for at in (0.0, 40.0):
        assert again.counts(0.0, at) == made.counts(0.0, at)
    ready = [row.sequence for row in made.pick(9, None, 0.0, 40.0)]
    assert ready == [2, 4, 6]
    assert [row.sequence for row in again.pick(9, None, 0.0, 40.0)] == ready


def test_spans() -> None:
    """Numbers are told as stretches."""
    assert spans([5, 1, 2, 3, 9]) == [[1, 3], [5, 5], [9, 9]]
