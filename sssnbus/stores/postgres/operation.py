"""What waits to be written, and how neighbours go together in one transaction."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from sssnbus.clock import Clock, SystemClock
from sssnbus.stores import lane


class Moment(NamedTuple):
    """The time that statements go by; None is the server's."""

    wall: float | None
    elapsed: float | None


def moment_of(clock: Clock) -> Moment:
    """Return the time for a statement: the server's, unless a test has a clock of its own."""
    return Moment(None, None) if isinstance(clock, SystemClock) else Moment(clock.time(), clock.elapsed())


class Operation(lane.Operation):
    """A change, and what came of it."""

    __slots__ = ("group",)

    def __init__(self, what: str, group: "type[Batch]", size: int = 0) -> None:
        super().__init__(what, size)
        self.group = group


class Batch(ABC):
    """Operations that go together: one statement, one transaction."""

    most: ClassVar[int] = 1
    """How many operations at most."""

    def __init__(self, operations: Sequence[Any]) -> None:
        self.operations = operations

    @abstractmethod
    def call(self, owner: int, number: int, moment: Moment) -> tuple[str, list[Any]]:
        """Return the statement and its parameters. It may be asked for again, to be sent again."""

    @abstractmethod
    def finish(self, rows: Sequence[Any]) -> None:
        """Take the answer: give every operation its result or its error."""

    def given_up(self, number: int) -> None:  # noqa: B027  # most leave nothing behind
        """Note what may have to be undone: nobody waits for the answer any more."""

    def apart(self) -> "list[Batch]":
        """Return how to try again when the server refused the whole; nothing if there is no other way."""
        if len(self.operations) < 2:
            return []
        return [type(self)([operation]) for operation in self.operations]


class Call(Operation):
    """A function of ours that goes alone."""

    __slots__ = ("parameters", "read", "statement")

    def __init__(
        self,
        what: str,
        statement: str,
        parameters: Callable[[Moment], list[Any]],
        read: Callable[[Sequence[Any]], Any],
    ) -> None:
        super().__init__(what, Alone)
        self.statement, self.parameters, self.read = statement, parameters, read


class Alone(Batch):
    """One call."""

    def call(self, owner: int, number: int, moment: Moment) -> tuple[str, list[Any]]:
        (call,) = self.operations
        return call.statement, [owner, number, *call.parameters(moment)]

    def finish(self, rows: Sequence[Any]) -> None:
        (call,) = self.operations
        call.result = call.read(rows)
