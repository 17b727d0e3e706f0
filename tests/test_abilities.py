"""The README's table of stores says what their classes say."""

import re
from pathlib import Path

import pytest

from sssnbus.stores import (
    MemoryStore,
    NATSStore,
    PostgresStore,
    RedisStore,
    SQLiteStore,
    Store,
    abilities,
    store_from_url,
)
from sssnbus.stores.base import ABILITIES
from sssnbus.stores.registry import _ROOMS

README = Path(__file__).parent.parent / "README.md"

# A column for each: its title and a URL.
STORES: dict[type[Store], tuple[str, str]] = {
    MemoryStore: ("memory", "memory://"),
    SQLiteStore: ("SQLite", "sqlite:///file.db"),
    PostgresStore: ("PostgreSQL", "postgresql://host/database"),
    RedisStore: ("Redis", "redis://host"),
    NATSStore: ("NATS JetStream", "nats://host"),
}

# A row for each ability, in words for users.
WORDS = {
    "LogStore": "broadcast, history, subscriptions",
    "QueueStore": "work queues: claims, retries, dead letters",
    "Records": "durable subscriptions",
    "Catalogue": "statistics, listings, `top`",
    "ByID": "start or read from a message's id",
    "Portable": "`dump` and `load` of everything",
    "Wakeups": "wakes other processes",
    "Priority": "priority",
    "Delay": "delay and schedule",
    "OrderingKey": "ordering keys",
    "SelectiveClaim": "claims by id or time",
    "Fencing": "a stale worker changes nothing",
    "OrderedIDs": "ids rise with the order (otherwise for each writer)",
    "AtomicBatch": "one write to several queues",
    "AtomicMove": "a crash never leaves a moved message in both places",
}


def table() -> str:
    """Return the table as it has to stand in the README."""
    extras = {url: _ROOMS[url.partition(":")[0]].extra for _, url in STORES.values()}
    rows = [
        ["", *(title for title, _ in STORES.values())],
        ["---"] * (len(STORES) + 1),
        ["URL", *(f"`{url}`" for _, url in STORES.values())],
        ["install", *(f"`sssnbus[{extra}]`" if extra else "`sssnbus`" for extra in extras.values())],
        ["what was acknowledged survives", *(store.promise for store in STORES)],
    ]
    for ability in ABILITIES:
        name = ability.__name__
        rows.append([WORDS[name], *("yes" if name in abilities(store) else "no" for store in STORES)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_table() -> None:
    """The table of the README is made from the classes: put in what this expects when they change."""
    found = re.search(r"<!-- stores -->\n(.*?)<!-- /stores -->", README.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == table()


def test_every_ability_has_words() -> None:
    """No ability is left out, and none is listed that is not there."""
    assert set(WORDS) == {ability.__name__ for ability in ABILITIES}
    assert all(type(store).promise != Store.promise for store in map(store_from_url, URLS))


URLS = [url for _, url in STORES.values()]


@pytest.mark.parametrize("url", URLS)
def test_the_urls_are_good(url: str) -> None:
    """Each URL of the table names the store of its column."""
    assert STORES[type(store_from_url(url))][1] == url
