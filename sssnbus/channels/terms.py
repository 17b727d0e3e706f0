"""The checks on how a subscriber wants its messages."""

from collections.abc import Awaitable, Callable, Iterable

from sssnbus.delivery.feed import Handler, Notice, Terms
from sssnbus.delivery.handling import check_handler
from sssnbus.delivery.policy import OVERFLOW
from sssnbus.errors import InvalidOption
from sssnbus.settings import OnFull, Retry, check_count, check_seconds
from sssnbus.topics import Pattern, Syntax


def make_terms(
    handler: Handler | None,
    *,
    topic: str | Iterable[str] | None,
    syntax: Syntax,
    buffer: int,
    on_full: OnFull,
    concurrency: int,
    timeout: float | None,
    on_notice: Callable[[Notice], Awaitable[object]] | None,
    retry: Retry,
    max_deliveries: int | None,
) -> Terms:
    """Return checked terms; see ``BroadcastChannel.subscribe`` for what each of them means.

    Raises:
        UsageError: one of them breaks its rule, or means nothing beside the others.
    """
    for callback in (handler, on_notice):
        if callback is not None:
            check_handler(callback)
    if on_full not in OVERFLOW:
        raise InvalidOption("on_full", on_full, f"it must be one of {', '.join(OVERFLOW)}")
    if handler is None:
        if on_full == "block":
            raise InvalidOption("on_full", on_full, "writers wait for callbacks only, and this has none")
        if concurrency != 1:
            raise InvalidOption("concurrency", concurrency, "iterate from several tasks instead")
        if timeout is not None:
            raise InvalidOption("timeout", timeout, "it is for handlers; to iterate see listen(timeout=)")
    return Terms(
        patterns=patterns_of(topic, syntax),
        buffer=check_count("buffer", buffer),
        on_full=on_full,
        concurrency=check_count("concurrency", concurrency),
        timeout=None if timeout is None else check_seconds("timeout", timeout),
        on_notice=on_notice,
        retry=retry,
        max_deliveries=None if max_deliveries is None else check_count("max_deliveries", max_deliveries),
    )


def patterns_of(topic: str | Iterable[str] | None, syntax: Syntax) -> tuple[Pattern, ...]:
    """Return the patterns that a caller has named: one, several or none.

    Raises:
        UsageError: one of them breaks the rules of topics.
    """
    texts = (topic,) if isinstance(topic, str) else tuple(topic or ())
    return tuple(Pattern.parse(text, syntax) for text in texts)
