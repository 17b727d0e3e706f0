"""How long it takes until something is tried again."""

from sssnbus.stores.backoff import Backoff


async def test_pauses() -> None:
    """Each pause is twice as long as the one before, up to the longest; after a success it begins anew."""
    backoff = Backoff(0.0001, 0.0003)
    pauses = []
    for _ in range(4):
        pauses.append(backoff.pause)
        await backoff.wait()
    assert pauses == [0.0001, 0.0002, 0.0003, 0.0003]
    backoff.reset()
    assert backoff.pause == 0.0001
