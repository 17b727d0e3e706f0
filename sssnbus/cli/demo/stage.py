"""Everything around the demo: its file, signals, output and exit code."""

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final, TextIO

from sssnbus.cli.demo.figures import Plan
from sssnbus.cli.demo.part import library_files
from sssnbus.cli.demo.screen import Live, Plain, Screen, closing
from sssnbus.cli.demo.show import Show, Stalled
from sssnbus.cli.demo.tally import Tally, complaints, milliseconds
from sssnbus.cli.demo.troupe import ChildFailed

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LEAST_TO_KILL: Final = 50


class _Interrupted(Exception):
    def __init__(self, number: int) -> None:
        self.number = number


def perform(options: argparse.Namespace) -> int:
    """Run the demo as the command line asks, and return its exit code."""
    if options.kill and options.files < _LEAST_TO_KILL:
        return _fail(f"--kill needs --files {_LEAST_TO_KILL} or more, or the demo is over before the kill")
    try:
        with _signals_raise(), _place(options.file) as path:
            files = sum(1 for _ in library_files(options.files))
            plan = Plan(path, files, options.workers, options.rate, options.kill)
            return _perform(plan, options.json)
    except _Interrupted as interrupted:
        # As a shell counts a process that a signal has ended.
        print(f"sssnbus: interrupted by {signal.Signals(interrupted.number).name}", file=sys.stderr)
        return 128 + interrupted.number
    except (ChildFailed, Stalled, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        return _fail(str(error))


def outcome(show: Show, plan: Plan, tally: Tally, wrong: list[str]) -> dict[str, Any]:
    """Return the result as it is printed with ``--json``."""
    results = show.figures.results
    return {
        "ok": not wrong,
        "complaints": wrong,
        **asdict(tally),
        "lost": tally.lost,
        "one_order": tally.one_order,
        "workers": dict(sorted(results.by_worker.items())),
        "job_p50_ms": milliseconds(results.waits, 50),
        "job_p99_ms": milliseconds(results.waits, 99),
        "redelivered_after_s": None if show.back_after is None else round(show.back_after, 3),
        "seconds": round(show.figures.seconds, 2),
        "file": str(plan.path),
        "sqlite": sqlite3.sqlite_version,
    }


def _perform(plan: Plan, as_json: bool) -> int:
    screen = _screen(sys.stderr if as_json else sys.stdout, live=not as_json)
    show = Show(plan, screen)
    try:
        screen.begin(plan)
        tally = asyncio.run(_until_signal(show))
        _handle(_leave)  # The loop has taken its handlers away.
        wrong = complaints(tally)
        if plan.kill and not tally.killed:
            wrong.append("The demo was over before a worker could be killed; try more files.")
        screen.end(tally, closing(tally, wrong, show.figures.seconds, show.back_after), not wrong)
    finally:
        screen.close()
    if as_json:
        print(json.dumps(outcome(show, plan, tally, wrong)))
    return 1 if wrong else 0


async def _until_signal(show: Show) -> Tally:
    """Run the show; a signal ends it in order, a second one at once."""
    loop = asyncio.get_running_loop()
    running = loop.create_task(show.run(), name="sssnbus-demo")
    received: list[int] = []

    def receive(number: int) -> None:
        if received:
            show.hurry()
        else:
            running.cancel()
        received.append(number)

    for number in _signals():
        loop.add_signal_handler(number, receive, number)
    try:
        return await running
    except asyncio.CancelledError:
        if received:
            raise _Interrupted(received[0]) from None
        raise


@contextmanager
def _place(file: str | None) -> Iterator[Path]:
    """Give the path of the database; a temporary one is gone afterwards."""
    if file is not None:
        path = Path(os.path.abspath(file))
        if path.exists() or path.is_symlink():
            raise FileExistsError(f"{path} exists already; name a file that does not, and it will be kept")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent} is no directory")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="sssnbus-demo-") as folder:
        try:
            yield Path(folder, "events.db")
        finally:
            # Nothing may interrupt the removing.
            _handle(signal.SIG_IGN)


def _screen(stream: TextIO, live: bool) -> Screen:
    if live and stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        return Live(stream)
    return Plain(stream)


def _signals() -> list[signal.Signals]:
    """Return the signals that end the demo; not SIGHUP if ``nohup`` has turned it off."""
    return [n for n in _SIGNALS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]


@contextmanager
def _signals_raise() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _signals()}
    _handle(_leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in _signals():
        signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    raise _Interrupted(number)


def _fail(text: str) -> int:
    print(f"sssnbus: error: {text}", file=sys.stderr)
    return 1
