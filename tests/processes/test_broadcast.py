"""Events between processes that share nothing but a file."""

from pathlib import Path
from typing import Any

import pytest

from tests.processes.crew import Actor, Crew


def sequences(actor: Actor) -> list[int]:
    """Return the sequences that a subscriber saw, in the order in which it saw them."""
    return [sequence for sequence, _, _ in actor.listed("seen")]


def of_publisher(seen: list[Any], name: str) -> list[int]:
    """Return the numbers of one publisher's events, in the order in which they were seen."""
    return [data["batch"] for _, _, data in seen if data != "end" and data["by"] == name]


@pytest.fixture
def busy(crew: Crew) -> tuple[list[Actor], list[Actor]]:
    """Six publishers and four subscribers that have run to their end."""
    subscribers = [crew.start("subscribe", name=f"s{n}") for n in range(4)]
    publishers = [crew.start("publish", name=f"p{n}", count=100) for n in range(6)]
    for actor in subscribers + publishers:
        actor.expect("ready")
    for publisher in publishers:
        publisher.tell()
    for publisher in publishers:
        publisher.join()
    crew.start("end").join()
    for subscriber in subscribers:
        subscriber.join()
    return publishers, subscribers


def test_everybody_hears_everything_once_in_one_order(busy: tuple[list[Actor], list[Actor]]) -> None:
    """Six publishers and four subscribers: nothing is lost or doubled, one order (BV-26, BV-28, FX-52)."""
    publishers, subscribers = busy
    acked = sorted(sequence for publisher in publishers for _, sequence, _ in publisher.listed("acked"))
    assert acked == list(range(1, 601))
    for subscriber in subscribers:
        assert sequences(subscriber) == [*acked, 601]
        assert subscriber.listed("seen") == subscribers[0].listed("seen")
    for number in range(6):
        assert of_publisher(subscribers[0].listed("seen"), f"p{number}") == list(range(100))
    # Nobody had to wait until somebody else was through.
    places = [[sequence for _, sequence, _ in publisher.listed("acked")] for publisher in publishers]
    assert max(min(place) for place in places) < min(max(place) for place in places)


def test_killed_subscriber_disturbs_nobody(crew: Crew) -> None:
    """SIGKILL of a subscriber is noticed neither by publishers nor by other subscribers (BV-29)."""
    other = crew.start_ready("subscribe", name="other")
    victim = crew.start_ready("subscribe", name="victim", aloud=True)
    publisher = crew.start_ready("publish", name="p", count=300)
    publisher.tell()
    victim.expect("heard")
    victim.kill()
    publisher.join()
    crew.start("end").join()
    other.join()
    assert sequences(other) == list(range(1, 302))


def test_killed_publisher_keeps_what_was_acknowledged(crew: Crew) -> None:
    """SIGKILL of a publisher loses nothing it was told is stored, and others go on (BV-09, BV-29)."""
    subscriber = crew.start_ready("subscribe", name="s")
    victim = crew.start_ready("publish", name="victim", count=10_000, tasks=4)
    other = crew.start_ready("publish", name="other", count=200)
    victim.tell()
    other.tell()
    for _ in range(20):
        victim.expect("acked")
    victim.kill()
    other.join()
    crew.start("end").join()
    subscriber.join()
    seen = {id: sequence for sequence, id, _ in subscriber.listed("seen")}
    acked = victim.listed("acked") + other.listed("acked")
    assert len(acked) >= 220
    assert [ack for ack in acked if seen.get(ack[2]) != ack[1]] == []
    assert sequences(subscriber) == list(range(1, len(seen) + 1))


def test_late_joiner_under_fire(crew: Crew) -> None:
    """One who joins while others write gets the history, then what is live: no gap, no double (SN-28)."""
    publishers = [crew.start_ready("publish", name=f"p{n}") for n in range(2)]
    for publisher in publishers:
        publisher.tell()
        publisher.expect("acked")
    late = [crew.start("subscribe", name=f"late{n}", start="earliest") for n in range(3)]
    joined = [actor.expect("ready")["last"] for actor in late]
    for publisher in publishers:
        publisher.expect("acked")
        publisher.tell("stop")
        publisher.join()
    crew.start("end").join()
    total = sum(len(publisher.listed("acked")) for publisher in publishers)
    assert min(joined) > 0
    assert max(joined) < total
    for actor in late:
        actor.join()
        assert sequences(actor) == list(range(1, total + 2))


def test_subscriber_before_the_file(crew: Crew, path: Path) -> None:
    """A subscriber may be there before the file and before any publisher (BV-30, BV-27)."""
    assert not path.exists()
    early = crew.start_ready("subscribe", name="early", aloud=True)
    publisher = crew.start_ready("publish", name="p", count=1)
    publisher.tell()
    assert early.expect("heard")["heard"][2] == {"by": "p", "batch": 0, "item": 0}
    publisher.join()
    crew.start("end").join()
    early.join()


def test_subscriber_that_comes_first_and_reads_from_the_start(crew: Crew) -> None:
    """With nothing to catch up on, "earliest" is simply live (BV-30)."""
    early = crew.start_ready("subscribe", name="early", start="earliest")
    crew.start("end").join()
    early.join()
    assert sequences(early) == [1]
