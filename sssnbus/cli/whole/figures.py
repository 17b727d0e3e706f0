"""What ``top`` shows: each channel's figures, and how fast they change."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sssnbus import Bus, ChannelInfo


@dataclass(frozen=True)
class Row:
    """One channel at one moment."""

    name: str
    kind: str
    ready: int
    """Messages that a worker could claim now; of a broadcast channel all that it holds."""
    delayed: int
    in_flight: int
    done: int
    dead: int
    size: int
    """Bytes of contents and headers."""
    oldest: float | None
    """Seconds since the oldest of the ready ones was written; None if there is none."""
    rate_in: float | None
    """Messages written a second since the last look; None at the first."""
    rate_out: float | None
    """Messages that left a queue a second; None at the first look, and for broadcast channels."""
    lag: int | None
    """How far behind the slowest durable subscription is; None without one."""


@dataclass(frozen=True)
class Sample:
    """A whole store at one moment. The channels are looked at one after the other."""

    time: float
    url: str
    size: int
    messages: int
    rows: tuple[Row, ...]


class Sampler:
    """Takes samples of a store and remembers the last one."""

    def __init__(self, bus: "Bus") -> None:
        self._bus = bus
        self._last: dict[str, tuple[int, int]] = {}
        """Of each channel the newest sequence, and how many have left it."""
        self._at: float | None = None

    async def take(self) -> Sample:
        """Look at everything now."""
        bus = self._bus
        at, now = time.monotonic(), time.time()
        span = None if self._at is None else max(at - self._at, 1e-3)
        lags: dict[str, int] = {}
        for subscription in await bus.subscriptions():
            lags[subscription.channel] = max(subscription.lag, lags.get(subscription.channel, 0))
        rows, marks = [], {}
        for info in await bus.channels():
            marks[info.name] = mark = (info.last, info.last - _open(info))
            before = self._last.get(info.name)
            rates = None if span is None else _rates(mark, before or (0, 0), span)
            rows.append(await self._row(info, now, rates, lags.get(info.name)))
        usage = await bus.usage()
        self._last, self._at = marks, at
        return Sample(now, usage.url, usage.size, usage.messages, tuple(rows))

    async def _row(
        self, info: "ChannelInfo", now: float, rates: tuple[float, float] | None, lag: int | None
    ) -> Row:
        is_queue = _is_queue(info)
        return Row(
            info.name,
            info.kind.value,
            info.ready if is_queue else info.messages,
            info.delayed,
            info.leased,
            info.done,
            info.dead,
            info.size,
            await self._oldest(info, now),
            None if rates is None else rates[0],
            None if rates is None or not is_queue else rates[1],
            lag,
        )

    async def _oldest(self, info: "ChannelInfo", now: float) -> float | None:
        from sssnbus.stores import QueueStore

        store = await self._bus.store()
        if not info.messages:
            return None
        if _is_queue(info):
            found = await store.peek(info.name, limit=1) if isinstance(store, QueueStore) else []
        else:
            found = (await store.read(info.name, after=0, limit=1)).messages
        # By the clock of the writer, which may be ahead of ours.
        return max(0.0, now - found[0].timestamp) if found else None


def _is_queue(info: "ChannelInfo") -> bool:
    from sssnbus.stores import Kind

    return info.kind is Kind.QUEUE


def _open(info: "ChannelInfo") -> int:
    return info.ready + info.delayed + info.leased if _is_queue(info) else info.messages


def _rates(now: tuple[int, int], before: tuple[int, int], span: float) -> tuple[float, float]:
    # Both go back if a channel was deleted and made anew.
    come, gone = (max(0, new - old) / span for new, old in zip(now, before, strict=True))
    return come, gone
