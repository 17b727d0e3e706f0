"""What was seen of logs, to tell a server that has lost some of it from one that was merely away."""

from typing import Final

import asyncpg

from sssnbus.errors import StoreReplaced
from sssnbus.stores.postgres.lane import Identity
from sssnbus.stores.postgres.link import Connection
from sssnbus.stores.postgres.place import Place

# A standby is merely behind. Another log of a name, or another namespace, is somebody's doing.
_DIFFERS: Final = (
    "SELECT EXISTS (SELECT FROM unnest($2::integer[], $3::bigint[], $4::text[]) AS s (number, sequence, id)"
    " JOIN {schema}.log l ON l.number = s.number LEFT JOIN {schema}.message m"
    " ON m.position = {schema}.position_of(s.number, s.sequence)"
    " WHERE m.id <> s.id OR (l.last < s.sequence AND NOT pg_is_in_recovery()))"
    " AND EXISTS (SELECT FROM {schema}.meta WHERE name = 'store' AND value = $1)"
)


class Marks:
    """The newest message that was seen of each log that somebody reads here."""

    def __init__(self, place: Place, identity: Identity) -> None:
        self._place, self._identity = place, identity
        self._newest: dict[str, tuple[int, int, str]] = {}
        self.error: StoreReplaced | None = None
        """Why nothing more is asked, for good."""

    def know(self, log: str, number: int) -> None:
        """Take note of which log of that name is read here."""
        if self._newest.get(log, (0,))[0] != number:
            self._newest[log] = number, 0, ""

    def see(self, log: str, sequence: int, id: str) -> None:
        """Take note of a message."""
        number, newest, _ = self._newest.get(log, (0, sequence, ""))
        if sequence > newest:
            self._newest[log] = number, sequence, id

    async def check(self, connection: Connection) -> None:
        """Look at the server behind a new connection.

        A failover may have lost messages that were seen here, and others may have written in their places.

        Raises:
            StoreReplaced: it has.
        """
        marks = [mark for mark in self._newest.values() if mark[1]]
        if marks and self.error is None:
            statement = self._place.text(_DIFFERS)
            try:
                differs = await connection.fetchval(
                    statement, self._identity.store, *map(list, zip(*marks, strict=True))
                )
            except asyncpg.PostgresError:
                # Whatever is wrong there, who asks is told.
                return
            if differs:
                self.error = StoreReplaced(self._place.url, "set back or replaced by another")
        if self.error is not None:
            raise self.error
