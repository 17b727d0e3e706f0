"""The hosts of the tests are what they say: apart, and in reach of each other."""

import socket
import subprocess
import sys

from tests.servers.hosts import hosts

LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    peer, address = server.accept()
    print(address[0], flush=True)
"""
KNOCK = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()"


def test_they_reach_each_other() -> None:
    """A process of one host connects to one of another, from its own address; this machine does not."""
    with hosts(3) as (server, one, two):
        words = server.command([sys.executable, "-c", LISTEN, server.address])
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as listening:
            assert listening.stdout is not None
            port = listening.stdout.readline().strip()
            if server.namespace is not None:
                with socket.socket() as outside:
                    outside.settimeout(0.2)
                    assert outside.connect_ex(("127.0.0.1", int(port))) != 0
            subprocess.run(two.command([sys.executable, "-c", KNOCK, server.address, port]), check=True)
            seen = listening.stdout.readline().strip()
        if two.namespace is not None:
            assert seen == two.address != one.address
