"""How long one command takes as a whole process: what a shell script pays for each message.

``sssnbus write`` and ``sssnbus read`` beside SimpleBroker's (another queue in one SQLite file), turn by turn,
each in a folder of its own. The bare interpreter, and one that imports no more than any such command must,
show what is left to save.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness import ROUNDS, SMOKE, Rows, compare

# Commands are run as users run them: with their modules compiled.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

TURNS = 1 if SMOKE else 5
"""How many processes make one measurement."""


def command(words: Sequence[str], folder: Path) -> Callable[[], None]:
    """Return what runs one command over and over in a folder."""
    folder.mkdir(exist_ok=True)

    def run() -> None:
        for _ in range(TURNS):
            subprocess.run(
                [sys.executable, *words], cwd=folder, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL
            )

    return run


def main() -> None:
    """Print the table."""
    rows = Rows("whole processes a second, and the ratio to SimpleBroker's")
    with tempfile.TemporaryDirectory() as folder:
        for verb, words in (("write", ("write", "q", "x")), ("peek", ("peek", "q"))):
            home = Path(folder, verb)
            home.mkdir()
            runs = {
                "simplebroker": command(["-m", "simplebroker", *words], home / "simplebroker"),
                "sssnbus": command(["-m", "sssnbus", *words], home / "sssnbus"),
                "(import asyncio, sqlite3)": command(["-c", "import asyncio, sqlite3"], home / "imports"),
                "(bare interpreter)": command(["-c", ""], home / "bare"),
            }
            if verb == "peek":
                for name in ("simplebroker", "sssnbus"):
                    command(["-m", name, "write", "q", "x"], home / name)()
            rows.add(f"{verb}, process", compare(runs, TURNS, rounds=ROUNDS))
    rows.print()


if __name__ == "__main__":
    main()
