"""The claims that ``read`` of a work queue made, until their workers settle them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sssnbus.channels.options import check_ids
from sssnbus.delivery.claims import Claim
from sssnbus.delivery.desk import Desk
from sssnbus.errors import ClaimLost
from sssnbus.stores.base import Settlement


class Held:
    """Claims by worker and message id."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._claims: dict[tuple[str, str], Claim] = {}

    def add(self, worker: str, claims: Iterable[Claim]) -> None:
        """Keep claims."""
        self._claims.update(((worker, claim.message.id), claim) for claim in claims)

    def of(self, worker: str, ids: Iterable[str]) -> list[Claim]:
        """Return a worker's claims on messages; raise ``ClaimLost`` if one of them is not here."""
        wanted = list(dict.fromkeys(check_ids(ids)))
        missing = [id for id in wanted if (worker, id) not in self._claims]
        if missing:
            raise ClaimLost(self._desk.channel, missing, worker)
        return [self._claims[worker, id] for id in wanted]

    async def settle(
        self, worker: str, ids: Iterable[str], settlement: Callable[[Claim], Settlement]
    ) -> None:
        """Settle claims in one step; change nothing if one of them is not here."""
        claims = self.of(worker, ids)
        settlements = [settlement(claim) for claim in claims]
        for claim in claims:
            del self._claims[worker, claim.message.id]
            claim.settled = True
        try:
            await self._desk.settle(claims, settlements)
        finally:
            # What could not be settled now is held on.
            self.add(worker, [claim for claim in claims if not claim.settled])
