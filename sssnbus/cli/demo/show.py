"""The demo itself: who is started when, what is counted, and when it is over."""

import asyncio
import signal
import time
from typing import Final

from sssnbus import Bus, ChannelMessage
from sssnbus.cli.demo.figures import LATE, LIVE, PUBLISHER, WORKERS, Figures, Plan, Rate
from sssnbus.cli.demo.part import BATCH, CONCURRENCY, EVENTS, JOBS, RESULTS, STATS, data_of
from sssnbus.cli.demo.screen import Screen
from sssnbus.cli.demo.tally import Seen, Tally
from sssnbus.cli.demo.troupe import Child, Troupe

TICK: Final = 0.2
"""Seconds between two looks at how things are."""

STALLED: Final = 60.0
"""Seconds without any progress after which the demo gives up."""


class Stalled(Exception):
    """Nothing has moved for too long."""


class Show:
    """One run of the demo."""

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self.figures = Figures()
        self.back_after: float | None = None
        """Seconds from the kill to the first result of a redelivered job."""
        self._plan, self._screen = plan, screen
        self._troupe = Troupe(plan.url)
        self._workers: list[Child] = []
        self._killed_at: float | None = None
        self._began = time.monotonic()
        self._moved = self._began
        self._rates = {name: Rate() for name in (PUBLISHER, LIVE, LATE, WORKERS)}

    def hurry(self) -> None:
        """Stop being polite to the children."""
        self._troupe.kill()

    async def run(self) -> Tally:
        """Play it through; whatever happens, no child is left behind."""
        try:
            async with Bus(self._plan.url) as bus:
                await bus.broadcast(STATS).subscribe("parent", self._on_report, start="earliest")
                await bus.broadcast(RESULTS).subscribe("parent", self._on_result, start="earliest")
                return await self._play(bus)
        finally:
            await self._troupe.end()

    async def _play(self, bus: Bus) -> Tally:
        plan = self._plan
        self._screen.say(f"The live subscriber and {plan.workers} workers start, each a process of its own.")
        await self._troupe.start("watch", LIVE, start="new")
        freeze_at = max(2, plan.files // (4 * plan.workers)) if plan.kill else None
        for number in range(plan.workers):
            await self._start_worker(freeze_at if number == 0 else None)
        names = [LIVE, *(worker.name for worker in self._workers)]
        while any(self.figures.state(name) == "waiting" for name in names):
            await self._tick(bus)
        self._screen.say("They are ready, and the publisher starts.")
        # More than the workers can hold at once, so that none of them goes without.
        burst = max(CONCURRENCY * BATCH * plan.workers + 4, 0 if plan.rate else 100)
        await self._troupe.start("publish", PUBLISHER, files=plan.files, rate=plan.rate, burst=burst)
        late = False
        while not self._over(late):
            await self._tick(bus)
            if not late and self.figures.events * 2 >= plan.files:
                late = True
                self._screen.say(
                    f"The late subscriber joins, with {self.figures.events:,} events to catch up on."
                )
                await self._troupe.start("watch", LATE, start="earliest")
            await self._kill_if_frozen()
        await self._troupe.end(self._workers)
        return await self._tally(bus)

    def _over(self, late: bool) -> bool:
        figures = self.figures
        if not late or {figures.state(name) for name in (PUBLISHER, LIVE, LATE)} != {"done"}:
            return False
        queue = figures.queue
        return queue is not None and queue.ready + queue.delayed + queue.leased == 0

    async def _start_worker(self, freeze_at: int | None = None) -> None:
        name = f"worker-{len(self._workers) + 1}"
        self._workers.append(await self._troupe.start("work", name, freeze_at=freeze_at))

    async def _kill_if_frozen(self) -> None:
        """Kill the worker that stands still with jobs in its hands, and let another take its place."""
        victim = self._workers[0]
        if not self._plan.kill or self._killed_at is not None or self.figures.state(victim.name) != "frozen":
            return
        victim.signal(signal.SIGKILL)
        self._killed_at = time.monotonic()
        self._screen.say(
            f"{victim.name} (pid {victim.pid}) is killed with SIGKILL in the middle of its work."
        )
        await self._start_worker()
        self._screen.say(f"{self._workers[-1].name} takes its place.")

    async def _tick(self, bus: Bus) -> None:
        """Let a moment pass, look at everything, and show it."""
        await asyncio.sleep(TICK)
        self._troupe.check()
        figures = self.figures
        figures.seconds = time.monotonic() - self._began
        figures.events = max(0, (await bus.broadcast(EVENTS).statistics()).last - self._ended())
        figures.queue = await bus.work_queue(JOBS).statistics()
        figures.workers = sum(worker.running for worker in self._workers) or figures.workers
        counts = {
            PUBLISHER: figures.published,
            LIVE: figures.seen(LIVE),
            LATE: figures.seen(LATE),
            WORKERS: figures.results.hashed,
        }
        figures.rates = {name: self._rates[name].of(count) for name, count in counts.items()}
        self._screen.update(figures)
        if time.monotonic() - self._moved > STALLED:
            raise Stalled(f"Nothing has moved for {STALLED:.0f} seconds.")

    def _ended(self) -> int:
        """Return 1 if the event that says the end is among the events."""
        return int(self.figures.state(PUBLISHER) == "done")

    async def _on_report(self, message: ChannelMessage) -> None:
        report = data_of(message)
        if report != self.figures.reports.get(message.sender_id):
            self._moved = time.monotonic()
        self.figures.reports[message.sender_id] = report
        self.figures.published = max(self.figures.published, report.get("published", 0))

    async def _on_result(self, message: ChannelMessage) -> None:
        self._moved = time.monotonic()
        result = data_of(message)
        self.figures.results.add(message.sender_id, result["n"], result["attempt"], result["waited"])
        if result["attempt"] > 1 and self.back_after is None and self._killed_at is not None:
            self.back_after = self._moved - self._killed_at

    async def _tally(self, bus: Bus) -> Tally:
        figures = self.figures
        last = (await bus.broadcast(RESULTS).statistics()).last
        while sum(figures.results.by_worker.values()) < last:
            await self._tick(bus)
        await self._tick(bus)
        queue = figures.queue
        assert queue is not None
        results = figures.results
        return Tally(
            published=figures.published,
            events=figures.events,
            subscribers=tuple(self._seen(name) for name in (LIVE, LATE)),
            hashed=results.hashed,
            repeated=results.repeated,
            redelivered=results.redelivered,
            left=queue.ready + queue.delayed + queue.leased,
            dead=queue.dead,
            killed=int(self._killed_at is not None),
        )

    def _seen(self, name: str) -> Seen:
        report = self.figures.reports[name]
        wanted = ("seen", "doubled", "disordered", "history", "fingerprint", "p50_ms", "p99_ms")
        return Seen(name, **{figure: report[figure] for figure in wanted})
