"""Which leases are renewed when, and which not any more."""

from sssnbus.stored import Stored
from sssnbus.stores.base import Lease
from sssnbus.stores.holds import Holds


def lease(token: str, deadline: float) -> Lease:
    """Return a lease with a token, as a store hands it out."""
    stored = Stored("1", 1, 0.0, "me", None, "t", b"", b"", 0)
    return Lease(stored, token, 1, deadline)


def due(holds: Holds[int], now: float) -> dict[str, int]:
    """Return the places of what is due, by token."""
    return {token: hold.place for token, hold in holds.due(now)}


def test_when_a_lease_is_due() -> None:
    """A lease is renewed when a third of it is over, and again a third later."""
    holds: Holds[int] = Holds()
    holds.add([(7, lease("a", 30.0))], 30.0)
    holds.add([(8, lease("b", 6.0))], 6.0)
    assert holds.shortest() == 2.0
    assert due(holds, 1.9) == {}
    assert due(holds, 2.0) == {"b": 8}
    holds.renewed(["b"], 2.0)
    assert due(holds, 3.9) == {}
    assert due(holds, 10.0) == {"a": 7, "b": 8}


def test_what_is_not_renewed() -> None:
    """A lease whose user has set its end is held, but not renewed; one that was settled is forgotten."""
    holds: Holds[int] = Holds()
    holds.add([(1, lease("fixed", 3.0)), (2, lease("settled", 3.0)), (3, lease("kept", 3.0))], 3.0)
    holds.fix(["fixed", "unknown"])
    dropped = holds.drop(["settled", "unknown"])
    assert due(holds, 99.0) == {"kept": 3}
    holds.renewed(["fixed"], 99.0)
    assert due(holds, 99.0) == {"kept": 3}
    assert [token for token, _ in holds.all()] == ["fixed", "kept"]
    holds.drop(["kept"])
    assert due(holds, 99.0) == {}
    assert holds.shortest() is None
    holds.put_back(dropped)
    assert due(holds, 99.0) == {"settled": 2}
