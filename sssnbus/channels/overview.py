"""A store as a whole: what is in it, channel by channel, and what one channel leaves behind."""

from __future__ import annotations

import asyncio
from typing import Final

from sssnbus.channels.reading import reader_space
from sssnbus.channels.retention import settings_space
from sssnbus.channels.statistics import ChannelInfo, StoreUsage, SubscriptionInfo
from sssnbus.delivery.cursor import position_of, space
from sssnbus.errors import MissingAbility
from sssnbus.stores.base import DEAD, Catalogue, Counts, Kind, LogInfo, LogStore, Records

_AT_ONCE: Final = 32
"""Channels that are asked for at a time."""


def catalogue_of(store: LogStore) -> Catalogue:
    """Return the store as one that knows its logs."""
    if not isinstance(store, Catalogue):
        raise MissingAbility("any", store.url, ["Catalogue"])
    return store


async def list_channels(store: LogStore, prefix: str = "") -> list[ChannelInfo]:
    """Return the channels whose names start with ``prefix``, sorted by name."""
    catalogue = catalogue_of(store)
    logs = [log for log in await catalogue.logs(prefix) if "!" not in log.name]
    found: list[ChannelInfo] = []
    # Some at a time: with a store across a network each of them is worth a wait of its own.
    for start in range(0, len(logs), _AT_ONCE):
        found += await asyncio.gather(*(_info(catalogue, log) for log in logs[start : start + _AT_ONCE]))
    return found


async def look_up(catalogue: Catalogue, name: str, kind: Kind) -> ChannelInfo:
    """Return a channel that was known once: all zeros if somebody has deleted it since."""
    gone = ChannelInfo(name, kind, *[0] * 8)
    return await find_channel(catalogue, name) or gone


async def find_channel(catalogue: Catalogue, name: str) -> ChannelInfo | None:
    """Return one channel, None if the store does not know it."""
    log = next((log for log in await catalogue.logs(name) if log.name == name), None)
    return None if log is None else await _info(catalogue, log)


async def list_subscriptions(store: LogStore, channel: str | None = None) -> list[SubscriptionInfo]:
    """Return the durable subscriptions of one channel or of all, sorted by channel and name."""
    if not isinstance(store, Records):
        return []
    channels = [channel]
    if channel is None:
        channels = [log.name for log in await catalogue_of(store).logs() if log.kind is Kind.LOG]
    records = {name: await store.names(space(name)) for name in channels if name is not None}
    lasts = await store.last([name for name, found in records.items() if found])
    result = []
    for name, found in records.items():
        for consumer, record in sorted(found.items()):
            position, owner = position_of(name, consumer, record)
            active = owner is not None and await store.alive(owner.partition("#")[0])
            lag = max(0, lasts[name] - position)
            result.append(SubscriptionInfo(name, consumer, position, lag, active))
    return result


async def measure(store: LogStore) -> StoreUsage:
    """Return what the store holds and takes up."""
    catalogue = catalogue_of(store)
    usage = await catalogue.usage()
    messages = sum(log.count for log in await catalogue.logs())
    return StoreUsage(store.url, store.durability, messages, usage.last_id, usage.size)


async def delete_channel(store: LogStore, name: str) -> bool:
    """Remove a channel with everything that is its own; return whether the store knew it."""
    catalogue = catalogue_of(store)
    known = any(log.name == name for log in await catalogue.logs(name))
    if isinstance(store, Records):
        # Before the messages: a cursor that outlived them would point behind the end of a new channel.
        for kept in (space(name), reader_space(name), settings_space(name)):
            for each in await store.names(kept):
                await store.delete(kept, each)
    if known:
        await catalogue.drop(name)
    return known


async def _info(catalogue: Catalogue, log: LogInfo) -> ChannelInfo:
    counts = await catalogue.counts(log.name) if log.kind is Kind.QUEUE else Counts()
    dead = next((letters.count for letters in await catalogue.logs(log.name + DEAD)), 0)
    return ChannelInfo(log.name, log.kind, log.last, log.count, log.size, *counts, dead)
