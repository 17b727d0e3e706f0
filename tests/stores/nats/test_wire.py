"""The one class that uses the inside of nats-py, and what it changes there."""

import asyncio
import inspect

import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.protocol.parser import Parser

from sssnbus.errors import BusError, PayloadTooLarge
from sssnbus.stores.base import Kind
from sssnbus.stores.nats import NATSStore
from sssnbus.stores.nats.wire import Incoming, SafeClient, Wire, end
from sssnbus.testing import run_until_idle
from sssnbus.testing.bench import draft
from tests.servers.proxy import Proxy
from tests.stores.nats.tools import opened, retried, store_at

BLOCK = "x" * 4_000_000
"""More than all buffers on the way to a server take, a few times over."""


def test_the_inside_of_nats_py_is_what_we_use() -> None:
    """A new nats-py that changes what we rely on fails here first, and by name."""
    plain = Client()
    assert plain._pending == []
    assert plain._pending_data_size == 0
    assert plain._subs == {}
    assert plain._transport is None
    assert "self._io_writer.writelines(payload)" in inspect.getsource(TcpTransport.writelines)
    taking = list(inspect.signature(Client._process_msg).parameters)
    assert taking == ["self", "sid", "subject", "reply", "data", "headers"]
    assert "await self.nc._process_msg(sid, subject, reply, payload, hdr)" in inspect.getsource(Parser.parse)
    assert list(inspect.signature(Client._process_op_err).parameters) == ["self", "e"]
    assert "_process_op_err(err)" in inspect.getsource(Client._read_loop)


def test_headers() -> None:
    """A message is told from a word of the server, and its headers are read as they were sent."""
    plain = Incoming("s", "r", b"x", b"NATS/1.0\r\nA: b: c\r\nNames:  \xc3\xa9 \r\n\r\n")
    assert (plain.status, dict(plain.headers)) == (None, {"A": "b: c", "Names": "é"})
    word = Incoming("s", "", b"", b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n")
    assert (word.status, dict(word.headers)) == ("100", {"Nats-Last-Consumer": "7"})
    assert Incoming("s", "", b"", b"NATS/1.0 503\r\n\r\n").status == "503"
    bare = Incoming("s", "", b"x")
    assert (bare.status, dict(bare.headers)) == (None, {})


@pytest.mark.parametrize(
    ("subject", "headers"),
    [("a b", {}), ("a\tb", {}), ("a\r\nPING", {}), ("a", {"H": "x\r\nPING"}), ("a", {"H": "x\ny"})],
)
async def test_nothing_breaks_out_of_its_line(subject: str, headers: dict[str, str]) -> None:
    """What would be another command to the server is refused, and nothing of it is sent."""
    wire = Wire(False, lambda _: None, lambda: None)
    with pytest.raises(ValueError, match="no spaces"):
        wire.post(subject, b"", "", headers)
    assert wire._outgoing == []


async def test_too_large_for_the_server_ends_no_connection(store: NATSStore) -> None:
    """A message that the server would end the connection for is refused before it is sent."""
    went_down = store._link._up.is_set
    with pytest.raises(PayloadTooLarge):
        await store.put("space", "name", b"x" * 20_000_000, version=None)
    assert went_down()
    assert await store.put("space", "name", b"x", version=None)


async def test_a_message_that_is_not_understood_hurts_no_other(
    store: NATSStore, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody understands is told in the log; what was read with it arrives."""
    store._link._received(Incoming("s", "$JS.ACK.too.short", b""))
    assert "was not understood" in caplog.text
    assert await store.put("space", "name", b"x", version=None)


async def test_coming_back_from_a_black_hole_that_swallowed_half(proxy: Proxy) -> None:
    """A connection that is stuck with what it could not send is given up for a new one (row 63)."""
    store = await opened(store_at(proxy.port, timeout=1.5))
    proxy.hold()
    writing = [asyncio.ensure_future(store.append([draft("a", BLOCK)])) for _ in range(6)]
    results = await asyncio.gather(*writing, return_exceptions=True)
    assert [type(result) for result in results if not isinstance(result, BusError)] == []
    # What is stuck stays stuck, and new connections work.
    proxy._open = asyncio.Event()
    proxy._open.set()
    placed = await retried(lambda: store.append([draft("a", "small")]))
    assert placed[0].sequence >= 1
    await store.aclose()


async def test_closing_with_what_could_not_be_sent(proxy: Proxy) -> None:
    """A store that is stuck with what it could not send is closed within its grace all the same."""
    store = await opened(store_at(proxy.port, timeout=30))
    proxy.hold()
    writing = [asyncio.ensure_future(store.append([draft("a", BLOCK)])) for _ in range(6)]
    await run_until_idle()
    async with asyncio.timeout(10):
        await store.aclose(grace=0.5)
        results = await asyncio.gather(*writing, return_exceptions=True)
    assert [type(result) for result in results if not isinstance(result, BusError)] == []


async def test_closing_beside_a_task_that_is_cancelled(address: str) -> None:
    """What cancels one of the client's own tasks, which waits for the same end, cancels nobody who closes."""
    client = SafeClient(tls=False)
    await client.connect(f"nats://{address}")
    assert client._transport is not None
    other = asyncio.ensure_future(client._transport.wait_closed())  # type: ignore[no-untyped-call]
    await run_until_idle()
    other.cancel()
    await client.close()
    assert client.is_closed
    assert other.cancelled()


async def test_the_end_of_what_swallows_a_cancellation() -> None:
    """A try to connect is ended even if what it waits for swallows a cancellation."""
    swallowed = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await run_until_idle()
    async with asyncio.timeout(10):
        await end(task)
    assert (task.cancelled(), swallowed.is_set()) == (True, True)


async def test_opening_anew_when_the_client_has_given_up(store: NATSStore) -> None:
    """After a word of the server that ends a connection for good the store comes back by itself."""
    await store.declare("a", Kind.LOG)
    old = store._link._wire
    await old._process_err("'unknown protocol operation'")
    placed = await retried(lambda: store.append([draft("a", 1)]))
    assert (placed[0].sequence, store._link._wire is old) == (1, False)
