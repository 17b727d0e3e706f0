"""Where the server is and how to talk to it: everything that a connection needs, without I/O."""

from dataclasses import dataclass, field
from typing import Final, Literal

DEFAULT_NAMESPACE: Final = "sssnbus"


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace of a database, and how to reach it."""

    dsn: str = field(repr=False)
    """May hold a password."""
    url: str
    """Fit for error messages."""
    namespace: str
    connect_timeout: float
    timeout: float
    pooler: bool
    """Whether a pooler hands our transactions to changing sessions, so that nothing of a session lasts."""
    direct: str | None = field(repr=False)
    """A way past the pooler, for what needs a session."""
    listen: bool
    durability: Literal["disk", "process"] | None

    @property
    def schema(self) -> str:
        """The namespace as SQL writes it; its rule leaves nothing to escape."""
        return f'"{self.namespace}"'

    @property
    def mark(self) -> str:
        """What our locks go by, beside those that others take in the same database."""
        return f"sssnbus.{self.namespace}"

    @property
    def session(self) -> str | None:
        """Where connections last as long as we want; None if there are none."""
        return self.direct or (None if self.pooler else self.dsn)

    def text(self, statement: str) -> str:
        """Return a statement for this namespace."""
        return (
            statement.replace("{schema}", self.schema)
            .replace("{mark}", f"'{self.mark}'")
            .replace("{version}", f"'{self.schema}.version'")
            .replace("{owners}", f"'{self.schema}.owner_number_seq'")
            .replace("{namespace}", f"'{self.schema}'")
        )
