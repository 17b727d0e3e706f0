"""Comparing contenders in one run: they take turns, so that a noisy machine is noisy for all of them."""

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

SMOKE: Final = "--smoke" in sys.argv
"""Whether the benchmarks are only to show that they run: their figures mean nothing then."""

ROUNDS: Final = 1 if SMOKE else 7


def compare(
    contenders: Mapping[str, Callable[[], object]],
    amount: int,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, tuple[float, float]]:
    """Run the contenders in turn and return, by name, (amount per second, ratio to the first).

    Both are medians over the rounds; a ratio is taken within its round. A contender that returns a float
    has taken its own time. Work that never waits is best measured with ``time.process_time``.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for name in contenders:
        contenders[name]()  # Warm up: imports, caches, file systems.
    for _ in range(rounds):
        for name, run in contenders.items():
            gc.collect()
            started = clock()
            took = run()
            elapsed = took if isinstance(took, float) else clock() - started
            rates[name].append(amount / elapsed)
    first = next(iter(contenders))
    return {
        name: (
            statistics.median(its),
            statistics.median(rate / base for rate, base in zip(its, rates[first], strict=True)),
        )
        for name, its in rates.items()
    }


@dataclass
class Rows:
    """A table of results, for people or, with ``--json``, for programs."""

    title: str
    rows: list[dict[str, object]] = field(default_factory=list)

    def add(self, case: str, results: Mapping[str, tuple[float, float]]) -> None:
        """Add one case with its contenders."""
        for name, (rate, ratio) in results.items():
            self.rows.append({"case": case, "contender": name, "rate": rate, "ratio": ratio})

    def print(self) -> None:
        """Print the table to stdout."""
        if "--json" in sys.argv:
            print(json.dumps({"title": self.title, "rows": self.rows}))
            return
        print(self.title)
        for row in self.rows:
            print(f"  {row['case']:<34} {row['contender']:<24} {row['rate']:>12,.0f} {row['ratio']:>7.2f}")
