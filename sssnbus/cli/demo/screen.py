"""What people see of the demo: a live table in a terminal, a line a second elsewhere."""

import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from sssnbus.cli.demo.figures import HEADINGS, LATE, LIVE, Figures, Plan
from sssnbus.cli.demo.tally import Tally

if TYPE_CHECKING:
    from rich.table import Table


def introduction(plan: Plan) -> list[str]:
    """Return what will happen, a line for each process."""
    pace = f"about {plan.rate:,.0f} a second" if plan.rate else "as fast as it can"
    workers = f"{plan.workers} worker{'s' * (plan.workers != 1)}"
    lines = [
        f"One file, no broker: {plan.path} (SQLite {sqlite3.sqlite_version}, every commit synced to disk)",
        f"  publisher         writes an event and a job for each of {plan.files:,} files, {pace}",
        "  subscriber, live  is there from the beginning and takes every event",
        "  subscriber, late  joins at half time, reads the history, and goes on live",
        f"  {workers:<17} claim the jobs; each hashes the file (sha256) and reports the result",
    ]
    if plan.kill:
        lines.append("  --kill            stops worker-1 in the middle of its work and kills it with SIGKILL")
    return lines


def closing(tally: Tally, wrong: Sequence[str], seconds: float, back_after: float | None) -> str:
    """Return the verdict."""
    if wrong:
        return "It does not add up: " + " ".join(wrong)
    text = (
        f"It adds up, after {seconds:.1f} s: each of the {tally.published:,} events was seen once by both "
        f"subscribers, in one order, and every file was hashed."
    )
    live = tally.subscribers[0]
    if live.p50_ms is not None:
        text += (
            f"\nFrom write to live subscriber, another process: {live.p50_ms:.1f} ms for half of the events, "
            f"{live.p99_ms:.1f} ms for 99 of 100."
        )
    if tally.killed:
        after = "" if back_after is None else f" {back_after:.2f} s after the kill"
        twice = (
            f"{tally.repeated} of them hashed twice, as at-least-once allows"
            if tally.repeated
            else "none twice"
        )
        text += (
            f"\nWhat the killed worker had claimed went to others{after}: {tally.redelivered} jobs"
            f" redelivered, {twice}; nothing was lost."
        )
    return text


def summary(tally: Tally) -> list[tuple[str, str]]:
    """Return the final figures by name."""
    seen = {seen.name: seen for seen in tally.subscribers}
    return [
        ("published", f"{tally.published:,}"),
        ("seen live", f"{seen[LIVE].seen:,}"),
        ("seen late", f"{seen[LATE].seen:,} ({seen[LATE].history:,} from history)"),
        ("hashed", f"{tally.hashed:,}"),
        ("redelivered", f"{tally.redelivered:,} ({tally.repeated:,} hashed twice)"),
        ("order", "the same" if tally.one_order else "NOT the same"),
        ("lost", f"{tally.lost:,}"),
    ]


class Screen(ABC):
    """Where the demo shows itself."""

    @abstractmethod
    def begin(self, plan: Plan) -> None:
        """Say what will happen."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Tell of something that has just happened."""

    @abstractmethod
    def update(self, figures: Figures) -> None:
        """Show how things are now."""

    @abstractmethod
    def end(self, tally: Tally, verdict: str, good: bool) -> None:
        """Show how it came out."""

    @abstractmethod
    def close(self) -> None:
        """Leave the terminal as it was. Idempotent."""


class Plain(Screen):
    """Lines of text, one a second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next = 0.0

    def begin(self, plan: Plan) -> None:
        for line in introduction(plan):
            self._line(line)

    def say(self, text: str) -> None:
        self._line(f"        {text}")

    def update(self, figures: Figures) -> None:
        if not figures.published or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 1.0
        publisher, live, late, workers = figures.rows()
        parts = [
            f"{figures.seconds:6.1f}s  published {publisher.files} ({publisher.rate}/s)",
            f"live {live.files}, {live.behind} behind, p50 {live.p50 or '-'} p99 {live.p99 or '-'} ms",
            f"late {late.files}, {late.behind} behind" if late.behind else "late not there yet",
            f"hashed {workers.files} ({workers.rate}/s), {workers.state}",
        ]
        self._line(" | ".join(parts))

    def end(self, tally: Tally, verdict: str, good: bool) -> None:
        self._line("")
        for name, value in summary(tally):
            self._line(f"  {name:<12} {value}")
        self._line("")
        self._line(verdict)

    def close(self) -> None:
        """Nothing is to be undone."""

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class Live(Screen):
    """A table that is drawn again and again. Needs a terminal; rich honours NO_COLOR by itself."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)

    def begin(self, plan: Plan) -> None:
        from rich.markup import escape

        first, *others = introduction(plan)
        self._console.print(f"[bold]sssnbus demo[/]  {escape(first)}", soft_wrap=True)
        for line in others:
            self._console.print(f"[dim]{escape(line)}[/]", soft_wrap=True)
        self._live.start()

    def say(self, text: str) -> None:
        self._console.print(f"[yellow]»[/] {text}")

    def update(self, figures: Figures) -> None:
        self._live.update(self._table(figures), refresh=True)

    def end(self, tally: Tally, verdict: str, good: bool) -> None:
        from rich.table import Table

        self._live.stop()
        table = Table(title="how it came out", title_justify="left")
        for name, _ in summary(tally):
            table.add_column(name, justify="right")
        table.add_row(*(value for _, value in summary(tally)))
        self._console.print(table)
        self._console.print(f"[bold {'green' if good else 'red'}]{'✔' if good else '✘'}[/] {verdict}")

    def close(self) -> None:
        self._live.stop()

    def _table(self, figures: Figures) -> "Table":
        from rich.table import Table

        table = Table(title=f"{figures.seconds:.1f} s", title_justify="left")
        for place, heading in enumerate(HEADINGS):
            table.add_column(
                heading, justify="left" if place < 2 else "right", min_width=6 if place > 1 else 12
            )
        for row in figures.rows():
            table.add_row(*row)
        return table
