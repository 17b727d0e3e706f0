"""One message of a queue and its state."""

from dataclasses import dataclass

from sssnbus.stores.nats.message import Facts


@dataclass(slots=True)
class Row:
    """One message and its state."""

    sequence: int
    facts: Facts | None = None
    """None until the message itself was met: its journal may be ahead."""
    revision: int = 0
    """The journal entry that changed it last."""
    attempt: int = 0
    error: str | None = None
    token: str | None = None
    owner: str | None = None
    """The store that renews the lease; None: only time ends it."""
    ends: float | None = None
    """When the lease ends, by elapsed time."""
    rest: float | None = None
    """When it is ready again, by elapsed time."""
    started: bool = False
    """Whether it was handed out before, so that its own due time is over."""
    done: bool = False

    @property
    def key(self) -> str | None:
        """Its ordering key."""
        return None if self.facts is None else self.facts.key

    @property
    def attempts(self) -> int:
        """How often it was handed out, elsewhere too; the journal may have counted before it was met."""
        return self.attempt + (self.facts.attempt if self.facts is not None else 0)

    @property
    def last_error(self) -> str | None:
        """What the last failed attempt reported, here or elsewhere."""
        return self.error if self.error is not None or self.facts is None else self.facts.error

    @property
    def due(self) -> float | None:
        """When it may be handed out first, by wall time."""
        return None if self.started or self.facts is None else self.facts.due
