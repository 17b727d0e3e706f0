"""Testing your code: move the clock yourself, and let no test wait.

The memory store is not a mock. It keeps every promise that the other stores keep (the same checks run over
all of them), so it may stand in for them in your tests. Hand it a `ManualClock`, hand the same clock to the
bus, and an hour passes when you say so. The tests below are plain functions; pytest would find them, too.

Run it:  python tutorials/06_testing_your_code.py
"""

# A type checker asks of which class `content` is before it lets you use `.data`. Tutorial 04 shows how to
# tell; the short programs do without:
# mypy: disable-error-code="attr-defined"

import asyncio
import logging

from sssnbus import Bus, ChannelMessage, Retry
from sssnbus.stores import MemoryStore
from sssnbus.testing import ManualClock, contract_checks, run_until_idle


# 1. The code under test: who signs up gets a letter at once, and is asked an hour later how it goes. It
#    takes a bus from outside, so it cannot tell a test from the real thing.
class Welcome:
    def __init__(self, bus: Bus) -> None:
        self.mail = bus.work_queue("mail", max_deliveries=2, retry=Retry(initial=10, jitter=False))
        self.sent: list[str] = []

    async def start(self) -> None:
        await self.mail.subscribe("mailer", self.send)

    async def sign_up(self, user: str) -> None:
        await self.mail.write("welcome", f"Welcome, {user}!")
        await self.mail.write("welcome", f"All well, {user}?", delay=3600)

    async def send(self, message: ChannelMessage) -> None:
        if "nobody" in message.content.data:
            raise LookupError("no such address")
        self.sent.append(message.content.data)


# 2. `run_until_idle` lets everything run that can run without time going by: no sleeping, no guessing.
#    Then an hour passes in no time, and what was due has happened.
async def test_an_hour_passes() -> None:
    clock = ManualClock()
    async with Bus(MemoryStore(clock=clock), clock=clock) as bus:
        welcome = Welcome(bus)
        await welcome.start()
        await welcome.sign_up("Ada")
        await run_until_idle()
        assert welcome.sent == ["Welcome, Ada!"]
        clock.advance(3600)
        await run_until_idle()
        assert welcome.sent == ["Welcome, Ada!", "All well, Ada?"]


# 3. Trouble is as easy: retries, time-outs and leases go by the same clock.
async def test_a_wrong_address() -> None:
    clock = ManualClock()
    async with Bus(MemoryStore(clock=clock), clock=clock) as bus:
        welcome = Welcome(bus)
        await welcome.start()
        await welcome.sign_up("nobody")
        await run_until_idle()
        clock.advance(10)  # it has failed once, and waited for that
        await run_until_idle()
        assert len(await welcome.mail.dead_letters.list()) == 1  # the second attempt was the last


# 4. If you write a store of your own, its contract is there as checks, one promise each. In pytest they are
#    parameters: @pytest.mark.parametrize("check", contract_checks(MyStore), ids=str)
class Forgetful(MemoryStore):
    async def delete(self, space: str, name: str) -> bool:
        return True  # it says so, but the record is still there


async def broken_promises(store: type[MemoryStore]) -> list[str]:
    broken = []
    for check in contract_checks(store):
        try:
            await check(store)
        except Exception:
            broken.append(check.name)
    return broken


async def test_stores() -> None:
    assert await broken_promises(MemoryStore) == []
    assert await broken_promises(Forgetful) != []


def main() -> None:
    logging.getLogger("sssnbus").setLevel(logging.CRITICAL)  # the failures are meant
    for test in (test_an_hour_passes, test_a_wrong_address, test_stores):
        asyncio.run(test())
        print(test.__name__, "passed")


if __name__ == "__main__":
    main()
