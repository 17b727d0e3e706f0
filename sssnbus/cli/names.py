"""Names on the command line: queues, the aliases that stand for them, and ids of messages."""

from typing import TYPE_CHECKING, Final

from sssnbus.cli.problem import Problem

if TYPE_CHECKING:
    from sssnbus import Bus
    from sssnbus.stores import Records

SPACE: Final = "alias"
"""Where aliases are kept among the records of a store."""


def check_queue(operand: str) -> str:
    """Return a queue's name, or an alias with its ``@``, that keeps the rules; without looking for it.

    Raises:
        Problem: it breaks them.
    """
    if operand.startswith("@"):
        if not operand[1:]:
            raise Problem("Alias name cannot be empty", code="INVALID_ARGUMENT")
        return operand
    return check_name(operand)


def check_name(name: str, what: str = "queue name") -> str:
    """Return a name that keeps the rules of names.

    Raises:
        Problem: it breaks them.
    """
    from sssnbus import InvalidName, WorkQueueChannel

    try:
        WorkQueueChannel(name)
    except InvalidName as error:
        shown = repr(name) if len(name) <= 80 else repr(name[:77]) + "..."
        raise Problem(f"Invalid {what} {shown}: {error.rule}", code="INVALID_ARGUMENT") from None
    return name


async def resolve(bus: "Bus", operand: str) -> str:
    """Return the queue that an operand means; a plain name means itself, whatever aliases there are.

    Raises:
        Problem: it is an alias that nobody has defined.
    """
    if not operand.startswith("@"):
        return operand
    record = await (await records(bus)).get(SPACE, operand[1:])
    if record is None:
        raise Problem(f"Alias {operand[1:]!r} is not defined", code="INVALID_ARGUMENT")
    return record.value.decode()


async def records(bus: "Bus") -> "Records":
    """Return the part of the store that keeps aliases.

    Raises:
        Problem: this store keeps none.
    """
    from sssnbus.stores import Records

    store = await bus.store()
    if not isinstance(store, Records):
        raise Problem(f"Store {store.url} keeps no aliases", code="INVALID_ARGUMENT")
    return store


def check_id(text: str | None) -> str | None:
    """Return a store-made id, if it is one: 19 digits, below 2**63.

    Raises:
        Problem: it is none (``INVALID_MESSAGE_ID``).
    """
    if text is None:
        return None
    if not (len(text) == 19 and text.isascii() and text.isdigit()):
        raise Problem("invalid message ID: expected exactly 19 digits", code="INVALID_MESSAGE_ID")
    if int(text) >= 2**63:
        raise Problem("invalid message ID: expected a number below 2**63", code="INVALID_MESSAGE_ID")
    return text
