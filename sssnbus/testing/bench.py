"""What the contract checks stand on: a store under test, a clock, and words to check with."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Protocol, Self, TypedDict, TypeVar, Unpack, cast

from pydantic_core import from_json, to_json

from sssnbus.clock import Clock
from sssnbus.stored import Dedupe, Draft, checksum
from sssnbus.stores.base import (
    ByID,
    Catalogue,
    Kind,
    Lease,
    Placed,
    Portable,
    QueueStore,
    Records,
    Store,
    Wakeups,
)
from sssnbus.testing.clock import ManualClock

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which a check that hangs fails."""


class StoreFactory(Protocol):
    """Makes stores for one check: all that it makes stand on one place, which was empty at first.

    A class or function that takes an optional clock is one.
    """

    def __call__(self, *, clock: Clock | None = None) -> Store: ...


class AnyStore(QueueStore, ByID, Catalogue, Records, Portable, Wakeups):
    """Every ability; a check uses only those it names."""


class Bench:
    """One check's place, clock and open stores."""

    def __init__(self, factory: StoreFactory) -> None:
        self.factory = factory
        self.clock = ManualClock()
        self._stack = AsyncExitStack()
        self.store: AnyStore

    async def __aenter__(self) -> Self:
        self.store = await self.another()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def new(self, clock: Clock | None = None) -> AnyStore:
        """Return a store that is not open."""
        return cast(AnyStore, self.factory(clock=clock or self.clock))

    async def another(self, clock: Clock | None = None) -> AnyStore:
        """Return one more open store on the same place."""
        store = self.new(clock)
        self._stack.push_async_callback(store.aclose)
        await store.open()
        return store

    async def reopen(self) -> None:
        """Close the store and open another on the same place."""
        await self.store.aclose()
        self.store = await self.another()

    async def log(self, *names: str) -> None:
        """Declare plain logs."""
        for name in names:
            await self.store.declare(name, Kind.LOG)

    async def queue(self, *names: str) -> None:
        """Declare queues."""
        for name in names:
            await self.store.declare(name, Kind.QUEUE)

    async def write(self, log: str, *values: object, **fields: Unpack["Fields"]) -> list[Placed]:
        """Append one message for each value in one batch."""
        return await self.store.append([draft(log, value, **fields) for value in values])

    async def take(
        self, queue: str, limit: int = 1, *, renew: bool = True, lease: float = 60.0
    ) -> list[Lease]:
        """Claim messages."""
        claimed = await self.store.claim(queue, worker="worker", lease=lease, limit=limit, renew=renew)
        return claimed.leases

    async def one(self, queue: str, *, renew: bool = True, lease: float = 60.0) -> Lease:
        """Claim a message that must be there."""
        leases = await self.take(queue, renew=renew, lease=lease)
        same(len(leases), 1, "a ready message can be claimed")
        return leases[0]

    async def claimed(self, queue: str, limit: int = 100) -> list[object]:
        """Claim messages and return their values."""
        return [value(lease.stored) for lease in await self.take(queue, limit)]

    async def values(self, log: str, *, after: int = 0, limit: int = 1000) -> list[object]:
        """Return the values that a log holds."""
        return [value(stored) for stored in (await self.store.read(log, after=after, limit=limit)).messages]


class Check:
    """One promise as a callable: ``await check(factory)`` passes or raises ``AssertionError``."""

    def __init__(
        self,
        run: Callable[[Bench], Awaitable[None]],
        abilities: Sequence[type],
        shared: bool,
        clock: bool,
    ) -> None:
        self.name = run.__name__.removeprefix("check_")
        self.__doc__ = run.__doc__
        self.abilities = tuple(abilities)
        self.shared = shared
        self.clock = clock
        self._run = run

    async def __call__(self, factory: StoreFactory) -> None:
        async with asyncio.timeout(PATIENCE):
            async with Bench(factory) as bench:
                await self._run(bench)

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


checks: list[Check] = []
"""Every check, in the order in which they were written."""


def check(
    *abilities: type, shared: bool = False, clock: bool = False
) -> Callable[[Callable[[Bench], Awaitable[None]]], Check]:
    """Add a check for stores with these abilities.

    Args:
        abilities: What a store must inherit beside ``LogStore`` and ``Catalogue``.
        shared: It needs two stores that see one place, at once or one after the other.
        clock: It needs a store that takes the time from the clock it was given.
    """

    def add(run: Callable[[Bench], Awaitable[None]]) -> Check:
        added = Check(run, abilities, shared, clock)
        checks.append(added)
        return added

    return add


class Fields(TypedDict, total=False):
    """The optional parts of a draft."""

    body: bytes
    type: str
    id: str
    topic: str | None
    headers: bytes
    priority: int
    key: str | None
    due: float | None
    dedupe: Dedupe


def draft(log: str, value: object = None, **fields: Unpack[Fields]) -> Draft:
    """Return a message to append: a JSON value, or a body as it is."""
    topic, type, headers = fields.get("topic"), fields.get("type", "json"), fields.get("headers", b"")
    body = fields.get("body", to_json(value))
    return Draft(
        channel=log,
        id=fields.get("id"),
        timestamp=1_600_000_000.5,
        sender_id="writer",
        topic=topic,
        type=type,
        headers=headers,
        body=body,
        crc=checksum("writer", topic, type, headers, body),
        priority=fields.get("priority", 0),
        key=fields.get("key"),
        due=fields.get("due"),
        dedupe=fields.get("dedupe"),
    )


class _Body(Protocol):
    @property
    def body(self) -> bytes: ...


def value(message: _Body) -> object:
    """Return what ``draft`` was given."""
    return cast(object, from_json(message.body))


def same(actual: T, expected: T, promise: str) -> None:
    """Check that two values are equal."""
    assert actual == expected, f"{promise}: expected {expected!r}, got {actual!r}"


@contextmanager
def refused(error: type[Exception], promise: str) -> Iterator[None]:
    """Check that the block raises."""
    try:
        yield
    except error:
        return
    raise AssertionError(f"{promise}: expected {error.__name__}")
