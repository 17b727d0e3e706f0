"""The child processes of the demo: started, watched and ended by their parent."""

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final

_ROOT: Final = Path(__file__).parent.parent.parent.parent
# -P and an appended path: files that happen to lie in the working directory must not hide modules.
_BOOT: Final = (
    "import sys; sys.path.append(sys.argv.pop(1));"
    " from sssnbus.cli.demo.part import main; main(*sys.argv[1:])"
)


class ChildFailed(Exception):
    """A child ended by itself before its part was over."""


class Child:
    """One process that plays a part."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self.name = name
        self.expendable = False
        """Whether its end is no failure any more."""
        self._process, self._errors = process, errors

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    def check(self) -> None:
        """Raise if it has failed."""
        code = self._process.returncode
        if code and not self.expendable:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            reason = f": {lines[-1]}" if lines else ""
            raise ChildFailed(f"The process {self.name!r} ended with code {code}{reason}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs; after that its end is no failure."""
        self.expendable = True
        if self.running:
            self._process.send_signal(number)

    async def end(self, grace: float) -> None:
        """Ask it to end, and kill it after ``grace`` seconds."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._errors.close()


class Troupe:
    """All children; leaving it ends them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._children: list[Child] = []

    async def start(self, part: str, name: str, **options: Any) -> Child:
        """Start a child. It ends when this process does, even when that is killed."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the child lives
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", _BOOT, str(_ROOT), part, self._url, name, json.dumps(options)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=errors,
            # Ctrl-C reaches the parent only, which ends the children in order.
            start_new_session=True,
        )
        child = Child(name, process, errors)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise if a child has failed."""
        for child in self._children:
            child.check()

    def kill(self) -> None:
        """Kill all that still run."""
        for child in self._children:
            child.signal(signal.SIGKILL)

    async def end(self, children: Iterable[Child] | None = None, grace: float = 5.0) -> None:
        """End some children, or all: first politely, then not."""
        await asyncio.gather(*(child.end(grace) for child in tuple(children or self._children)))
