"""Several hosts on one machine: network namespaces on a bridge, where the system lets us make them."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

NETWORK: Final = "192.0.2"
"""Addresses that are for documentation, and so belong to nobody; they exist in the namespaces only."""


@dataclass(frozen=True)
class Host:
    """A place to run commands in, with an address that the other hosts reach."""

    address: str
    namespace: str | None = None
    """None: this machine itself, under one of its loopback addresses."""

    def command(self, words: Sequence[str]) -> list[str]:
        """Return what runs a command on this host."""
        return list(words) if self.namespace is None else ["ip", "netns", "exec", self.namespace, *words]


def permitted() -> bool:
    """Return whether namespaces can be made here."""
    name = f"sssnbus-{os.getpid()}-try"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    _ip("netns", "del", name)
    return True


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Give hosts that reach each other and nothing else; without the permission, loopback addresses."""
    if not permitted():
        yield [Host(f"127.0.0.{number}") for number in range(1, count + 1)]
        return
    names = [f"sssnbus-{os.getpid()}-{number}" for number in range(1, count + 1)]
    hub = names[0]
    with contextlib.ExitStack() as stack:
        for name in names:
            _ip("netns", "add", name)
            # With a namespace go its interfaces.
            stack.callback(_ip, "netns", "del", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "address", "add", f"{NETWORK}.1/24", "dev", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for number, name in enumerate(names[1:], start=2):
            port = f"port{number}"
            _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "uplink", "netns", name)
            _ip("-n", hub, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{NETWORK}.{number}/24", "dev", "uplink")
            _ip("-n", name, "link", "set", "uplink", "up")
        yield [Host(f"{NETWORK}.{number}", name) for number, name in enumerate(names, start=1)]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
