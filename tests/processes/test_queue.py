"""Jobs between processes, some of which die at the worst moment."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from sssnbus import Bus, QueueStatistics, WorkQueueChannel
from tests.processes.actor import QUEUE
from tests.processes.crew import Actor, Crew

T = TypeVar("T")


def on_queue(crew: Crew, use: Callable[[WorkQueueChannel], Coroutine[Any, Any, T]]) -> T:
    """Run something on the queue in this process."""

    async def run() -> T:
        async with Bus(crew.url) as bus:
            return await use(bus.work_queue(QUEUE))

    return asyncio.run(run())


def put(crew: Crew, *jobs: object) -> list[str]:
    """Write jobs; return their ids."""

    async def write(queue: WorkQueueChannel) -> list[str]:
        return [str(receipt) for receipt in await queue.write_many("test", jobs)]

    return on_queue(crew, write)


def statistics(crew: Crew) -> QueueStatistics:
    """Return how the queue stands."""
    return on_queue(crew, lambda queue: queue.statistics())


def handled(*actors: Actor) -> list[str]:
    """Return the ids of the jobs that workers were through with."""
    return [id for actor in actors for id, _, _ in actor.said("handled")]


def stop(*actors: Actor) -> None:
    """End workers in order."""
    for actor in actors:
        actor.signal(signal.SIGTERM)
    for actor in actors:
        actor.join()


def test_killed_worker_mid_handler(crew: Crew) -> None:
    """The job of a worker that was killed goes to another with one attempt more; others go on."""
    victim = crew.start_ready("work", name="victim")
    put(crew, {"act": "hang-victim"})
    (id, _, attempt) = victim.expect("begun")["begun"]
    assert attempt == 1
    other = crew.start_ready("work", name="other")
    plain = put(crew, *range(20))
    for _ in plain:
        other.expect("handled")
    victim.kill()
    line = other.expect("begun", [id, {"act": "hang-victim"}, 2], patience=5.0)
    other.expect("handled", line["begun"], patience=5.0)
    stop(other)
    assert handled(other) == [*plain, id]
    assert statistics(crew).ready == 0


def test_killed_between_effect_and_ack(crew: Crew) -> None:
    """A worker that dies after its work but before the ack has it repeated, under the same id."""
    victim = crew.start_ready("work", name="victim", batch=2)
    first, second = put(crew, "done but not acked", {"act": "hang-victim"})
    # The first one's effect is there, and its ack waits for the second of the batch.
    victim.expect("begun", [second, {"act": "hang-victim"}, 1])
    assert handled(victim) == [first]
    victim.kill()
    other = crew.start_ready("work", name="other")
    assert other.expect("handled", patience=5.0)["handled"] == [first, "done but not acked", 2]
    other.expect("handled", [second, {"act": "hang-victim"}, 2], patience=5.0)
    stop(other)


def test_poison_becomes_a_dead_letter(crew: Crew) -> None:
    """A job that kills its worker each time is given up after max_deliveries, and the rest is done."""
    first, second = (crew.start_ready("work", name=f"w{n}", max_deliveries=2) for n in range(2))
    poison, *plain = put(crew, {"act": "exit"}, *range(5))
    first.join(9)
    second.join(9)
    last = crew.start_ready("work", name="last", max_deliveries=2)
    deadline = time.monotonic() + 5.0
    while (now := statistics(crew)).dead == 0 or now.ready or now.leased:
        assert time.monotonic() < deadline, f"the poison is still there: {now}"
    stop(last)
    assert {*handled(first, second, last)} == {*plain}

    async def look(queue: WorkQueueChannel) -> Any:
        (letter,) = await queue.dead_letters.list()
        return letter.id, letter.metadata["dead"]

    id, note = on_queue(crew, look)
    assert id == poison
    assert (note["reason"], note["attempts"]) == ("died", 2)


def test_killed_worker_holds_up_its_key_only(crew: Crew) -> None:
    """Jobs of one ordering key stay in order even when the worker of the first is killed."""
    victim = crew.start_ready("work", name="victim")

    async def write(queue: WorkQueueChannel) -> None:
        await queue.write("test", {"act": "hang-victim", "n": 0}, key="a")
        for n in range(1, 4):
            await queue.write("test", {"n": n}, key="a")
        await queue.write("test", {"n": 4}, key="b")

    on_queue(crew, write)
    victim.expect("begun")
    other = crew.start_ready("work", name="other", concurrency=3)
    assert other.expect("handled")["handled"][1] == {"n": 4}
    victim.kill()
    for _ in range(4):
        other.expect("handled", patience=5.0)
    stop(other)
    assert [data["n"] for _, data, _ in other.said("handled")] == [4, 0, 1, 2, 3]


def test_delay_across_processes(crew: Crew) -> None:
    """A delayed job is handed out when its time comes, though its writer has gone and nobody rings then."""
    worker = crew.start_ready("work", name="w")
    before = time.time()
    on_queue(crew, lambda queue: queue.write("test", "later", delay=0.3))
    worker.expect("handled")
    assert time.time() - before >= 0.3
    stop(worker)


def test_stopped_worker_keeps_its_job(crew: Crew) -> None:
    """A worker that stands still but lives is not robbed while its lease lasts."""
    still = crew.start_ready("work", name="victim")
    (id,) = put(crew, {"act": "wait"})
    still.expect("begun")
    still.signal(signal.SIGSTOP)
    other = crew.start_ready("work", name="other")
    # Only time can show that nobody takes it: the other has looked for dead owners by then.
    time.sleep(1.0)
    for plain in put(crew, *range(3)):
        assert other.expect("handled")["handled"][0] == plain
    stop(other)
    assert statistics(crew).leased == 1
    still.signal(signal.SIGCONT)
    still.tell()
    still.expect("handled", [id, {"act": "wait"}, 1])
    stop(still)
    assert id not in handled(other)


def test_stopped_past_its_lease(crew: Crew) -> None:
    """A worker that stands still longer than its lease loses the job, and its late ack changes nothing."""
    still = crew.start_ready("hold", name="still", claim_timeout=0.5)
    (id,) = put(crew, "job")
    still.expect("claimed", [id, 1])
    still.signal(signal.SIGSTOP)
    other = crew.start_ready("work", name="other")
    other.expect("handled", [id, "job", 2])
    still.signal(signal.SIGCONT)
    still.tell()
    still.expect("lost", [id])
    still.join()
    stop(other)
    assert statistics(crew).ready == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_finishes_what_runs(number: signal.Signals, crew: Crew) -> None:
    """A signal lets a running handler finish, takes nothing more, gives back the rest uncounted (FX-53)."""
    worker = crew.start_ready("work", name="w", batch=3)
    running, *rest = put(crew, {"act": "outlast"}, "second", "third")
    worker.expect("begun")
    worker.signal(number)
    worker.expect("signal", number.name)
    worker.join()
    assert handled(worker) == [running]
    heir = crew.start_ready("work", name="heir")
    heir.expect("handled", [rest[0], "second", 1])
    heir.expect("handled", [rest[1], "third", 1])
    stop(heir)


def test_sigterm_gives_back_after_grace(crew: Crew) -> None:
    """What is not finished within the grace goes to another at once, with no attempt counted."""
    worker = crew.start_ready("work", name="victim", grace=0.2)
    (id,) = put(crew, {"act": "hang-victim"})
    worker.expect("begun")
    worker.signal(signal.SIGTERM)
    worker.join()
    heir = crew.start_ready("work", name="heir")
    heir.expect("handled", [id, {"act": "hang-victim"}, 1])
    stop(heir)


def test_second_sigterm_ends_at_once(crew: Crew) -> None:
    """A second SIGTERM has its usual effect; what was held is redelivered as after a kill."""
    worker = crew.start_ready("work", name="victim", grace=60.0)
    (id,) = put(crew, {"act": "hang-victim"})
    worker.expect("begun")
    worker.signal(signal.SIGTERM)
    worker.expect("signal")
    worker.signal(signal.SIGTERM)
    worker.join(-signal.SIGTERM, patience=5.0)
    heir = crew.start_ready("work", name="heir")
    heir.expect("handled", [id, {"act": "hang-victim"}, 2], patience=5.0)
    stop(heir)
