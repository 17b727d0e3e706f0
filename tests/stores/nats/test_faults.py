"""What happens to the NATS store when its server, or the way there, fails.

Each test has a server of its own, or a proxy before the shared one.
"""

import asyncio
import gc
import logging
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_json

from sssnbus import (
    Bus,
    BusError,
    MessageConflict,
    OutcomeUnknown,
    PayloadTooLarge,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from sssnbus.stored import Dedupe
from sssnbus.stores import store_from_url
from sssnbus.stores.base import Ack, Counts, Kind, Placed
from sssnbus.stores.nats import NATSStore, fetch, plan
from sssnbus.stores.nats.dedupe import Reserved
from sssnbus.stores.nats.failure import Lost, Nobody, Repeated
from sssnbus.stores.nats.link import Answer, Packet
from sssnbus.testing import run_until_idle
from sssnbus.testing.bench import draft, value
from tests.channels.tools import Recorder, until
from tests.servers.process import Server, free_port
from tests.servers.proxy import Proxy
from tests.stores.nats.places import jetstream, server_in, url_of
from tests.stores.nats.tools import opened, retried, store_at

SECRET = "hunter2"


async def values(store: NATSStore, log: str) -> list[object]:
    """Return what a log holds."""
    return [value(stored) for stored in (await store.read(log, after=0, limit=10_000)).messages]


@pytest.mark.parametrize("restart", ["stop", "kill"])
async def test_server_restart_under_load(server: Server, restart: str) -> None:
    """Over restarts nothing acked is lost or doubled, and subscriptions resume without a gap (row 62)."""
    url = url_of(server, timeout=15)
    async with Bus(url) as bus, Bus(url) as other:
        recorder, acked = Recorder(), 0
        stop = asyncio.Event()

        async def write() -> None:
            nonlocal acked
            while not stop.is_set():
                await other.broadcast("events").write("w", acked)
                acked += 1

        async with bus.broadcast("events").subscribe("a", recorder, start="earliest"):
            writing = asyncio.create_task(write())
            for _ in range(2):
                before = acked
                await until(lambda before=before: acked > before + 20)  # type: ignore[misc]
                await asyncio.to_thread(server.stop if restart == "stop" else server.kill)
                await asyncio.to_thread(server.start)
            before = acked
            await until(lambda: acked > before + 20)
            stop.set()
            await writing
            await until(lambda: len(recorder.seen) >= acked)
        assert recorder.seen == list(range(acked))


async def test_news_after_a_restart(server: Server) -> None:
    """Who watches hears of news after a restart of the server without asking: the consumers are made anew."""
    store = await opened(store_at(server.port))
    other = NATSStore(store._access, store._settings)
    await opened(other)
    heard: list[object] = []
    follows = asyncio.Event()
    end = other.watch(follows.set, lambda news: heard.extend(value(one) for one in news.messages))
    await follows.wait()
    await store.append([draft("a", 1)])
    await until(lambda: heard == [1])
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await retried(lambda: store.append([draft("a", 2)]))
    await until(lambda: heard == [1, 2], seconds=10)
    end()
    await other.aclose()
    await store.aclose()


async def test_own_messages_are_no_news_from_the_first_one_on(server: Server) -> None:
    """What a store writes while it begins to follow a log does not come back to it as somebody else's."""
    store, other = await opened(store_at(server.port)), store_at(server.port)
    other._names, other._settings = store._names, store._settings
    await opened(other)
    real, asked, go = store._link.api, asyncio.Event(), asyncio.Event()

    async def slow(verb: str, *args: Any, **named: Any) -> Any:
        answer = await real(verb, *args, **named)
        if verb == f"STREAM.INFO.{store._logs['a'].stream}" and not go.is_set():
            asked.set()
            await go.wait()
        return answer

    store._link.api = slow  # type: ignore[method-assign]  # a fault that no proxy can time
    heard: list[object] = []
    end = store.watch(lambda: None, lambda news: heard.extend(value(one) for one in news.messages))
    await asked.wait()
    await store.append([draft("a", "own")])
    await store.append([draft("a", "own"), draft("a", "own")])
    go.set()
    await until(lambda: store._logs["a"].tail is not None)
    await other.append([draft("a", "other")])
    await until(lambda: "other" in heard)
    assert heard == ["other"]
    await until(lambda: not store._logs["a"].own)
    end()
    await store.append([draft("q", 1)])
    assert store._logs["q"].own == set()
    await other.aclose()
    await store.aclose()


async def test_what_was_not_seen_is_not_taken_for_removed(server: Server) -> None:
    """A queue whose news does not come through waits for it; it does not pass it over, or purge it."""
    store = await opened(store_at(server.port, timeout=1.5))
    await store.append([draft("q", 1)])
    assert (await store.counts("q")).ready == 1
    mirror = store._logs["q"].mirror
    assert mirror is not None
    async with jetstream(f"nats://127.0.0.1:{server.port}") as js:
        config = (await js.stream_info(store._logs["q"].stream)).config
        await js.update_stream(config, allow_direct=False)
    store._link.ignore(mirror.messages._name)
    await store.append([draft("q", 2)])
    with pytest.raises(StoreUnavailable):
        await store.counts("q")
    assert mirror.messages.position == 1
    mirror.messages.resume()
    assert await retried(lambda: store.counts("q")) == Counts(ready=2)
    await store.aclose()


async def test_consumers_that_have_gone_without_a_word(server: Server) -> None:
    """If nothing is delivered any more that is due, the tail is begun anew before the time is over."""
    store = await opened(store_at(server.port))
    other = NATSStore(store._access, store._settings)
    await opened(other)
    await store.append([draft("q", 1)])
    assert (await store.counts("q")).ready == 1
    mirror = store._logs["q"].mirror
    assert mirror is not None
    assert mirror.journal._tail is not None
    store._link.ignore(mirror.messages._name)
    store._link.ignore(mirror.journal._tail._name)
    await other.append([draft("q", 2), draft("q", 3)])
    (held,) = (await other.claim("q", worker="o", lease=60)).leases
    leases = (await store.claim("q", worker="w", lease=60, limit=9)).leases
    assert [value(one.stored) for one in leases] == [2, 3]
    assert await other.settle("q", [Ack(held.stored.sequence, held.token)]) == [True]
    await other.aclose()
    await store.aclose()


async def test_a_leader_that_lags_calls_nothing_removed(server: Server) -> None:
    """What a server does not have is passed over only if it has all that came behind it."""
    store = await opened(store_at(server.port, timeout=1.0))
    await store.append([draft("q", 1)])
    assert (await store.counts("q")).ready == 1
    mirror = store._logs["q"].mirror
    assert mirror is not None
    store._link.ignore(mirror.messages._name)
    await store.append([draft("q", 2)])
    await mirror.remove_now([2])
    told = [2]

    async def lagging(deadline: float) -> int:
        return told.pop() if told else 1

    real, mirror.messages._last = mirror.messages._last, lagging  # type: ignore[method-assign]  # no fault does that
    with pytest.raises(StoreUnavailable):
        await store.counts("q")
    assert mirror.messages.position == 1
    mirror.messages._last = real  # type: ignore[method-assign]
    assert await store.counts("q") == Counts(ready=1)
    assert mirror.messages.position == 2
    await store.aclose()


async def test_queue_over_a_kill(server: Server) -> None:
    """What was claimed before a kill -9 of the server can be settled after it, and attempts are kept."""
    store = await opened(store_at(server.port))
    await store.append([draft("q", number) for number in range(3)])
    (held,) = (await store.claim("q", worker="w", lease=60)).leases
    await asyncio.to_thread(server.kill)
    settling = asyncio.create_task(store.settle("q", [Ack(held.stored.sequence, held.token)]))
    await asyncio.to_thread(server.start)
    assert await settling == [True]
    again = await store.claim("q", worker="w", lease=60, limit=9)
    assert [(value(lease.stored), lease.attempt) for lease in again.leases] == [(1, 1), (2, 1)]
    await store.aclose()


async def test_cuts_under_load(proxy: Proxy) -> None:
    """Connections that break mid-way lose and double nothing, neither messages nor claims (row 63)."""
    store = await opened(store_at(proxy.port, timeout=15))
    done: list[object] = []

    async def write(name: int) -> None:
        for number in range(40):
            placed = await store.append([draft("a", [name, number])])
            assert not placed[0].duplicate
            await store.append([draft("q", [name, number]), draft("q", [name, number, "b"])])

    async def work() -> None:
        while len(done) < 4 * 40 * 2:
            claimed = await store.claim("q", worker="w", lease=60, limit=5)
            settled = await store.settle("q", [Ack(one.stored.sequence, one.token) for one in claimed.leases])
            done.extend(value(one.stored) for one, good in zip(claimed.leases, settled, strict=True) if good)

    async def harm() -> None:
        for _ in range(6):
            enough = min(320, len(done) + 11)
            await until(lambda enough=enough: len(done) >= enough)  # type: ignore[misc]
            proxy.break_once()

    async with asyncio.timeout(50), asyncio.TaskGroup() as tasks:
        for name in range(4):
            tasks.create_task(write(name))
        tasks.create_task(work())
        tasks.create_task(harm())
    found = await values(store, "a")
    assert sorted(map(str, found)) == sorted(str([name, n]) for name in range(4) for n in range(40))
    assert len(done) == len({str(item) for item in done}) == 320
    assert proxy.connections > 6
    await store.aclose()


async def test_connections_that_come_to_nothing(proxy: Proxy) -> None:
    """A connection that ends before it was let in is closed: a ResourceWarning would fail this."""
    store = await opened(store_at(proxy.port))
    proxy.cut()
    for _ in range(3):
        proxy.refused.clear()
        async with asyncio.timeout(20):
            await proxy.refused.wait()
    proxy.mend()
    await retried(lambda: store.append([draft("a", 1)]))
    await store.aclose()
    gc.collect()


async def test_black_hole(proxy: Proxy) -> None:
    """Behind a connection that swallows everything, a write ends at its deadline as unknown (rows 41, 63)."""
    store = await opened(store_at(proxy.port, timeout=1.5))
    await store.append([draft("a", 0)])
    proxy.hold()
    with pytest.raises(OutcomeUnknown, match="outcome of an append is unknown"):
        await store.append([draft("a", 1, id="one")])
    with pytest.raises((StoreUnavailable, OutcomeUnknown)):
        await store.read("a", after=0, limit=1)
    proxy.mend()
    placed = await retried(lambda: store.append([draft("a", 1, id="one")]))
    assert (placed[0].sequence, await values(store, "a")) == (2, [0, 1])
    await store.aclose()


async def test_cancelled_behind_a_black_hole(proxy: Proxy) -> None:
    """A cancelled append does not leave before its outcome is known or its time is over."""
    store = await opened(store_at(proxy.port, timeout=1.5))
    proxy.hold()
    task = asyncio.create_task(store.append([draft("a", 1, id="one")]))
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    proxy.mend()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await retried(lambda: values(store, "a")) == [1]
    await store.aclose()


async def test_lost_claim_is_given_back(proxy: Proxy) -> None:
    """A claim whose answer came too late is given back by itself, without an attempt."""
    store = await opened(store_at(proxy.port, timeout=1.5))
    await store.append([draft("q", 1)])
    assert (await store.counts("q")).ready == 1
    proxy.hold()
    with pytest.raises((OutcomeUnknown, StoreUnavailable)):
        await store.claim("q", worker="w", lease=60)
    proxy.mend()

    async def attempt() -> int:
        leases = (await store.claim("q", worker="w", lease=60)).leases
        if not leases:
            raise StoreUnavailable("not yet")
        return leases[0].attempt

    assert await retried(attempt) == 1
    await store.aclose()


async def test_slow_server(proxy: Proxy) -> None:
    """A slow way makes everything slow and nothing wrong."""
    store = await opened(store_at(proxy.port))
    proxy.delay(0.1)
    placed = await asyncio.gather(*(store.append([draft("a", number)]) for number in range(20)))
    assert sorted(place.sequence for (place,) in placed) == list(range(1, 21))
    proxy.mend()
    await store.aclose()


async def test_closing_behind_a_black_hole(proxy: Proxy) -> None:
    """A store whose server is gone is closed within its grace."""
    store = await opened(store_at(proxy.port))
    proxy.hold()
    async with asyncio.timeout(10):
        await store.aclose(grace=0.5)
    proxy.mend()


async def test_closing_while_it_connects_anew(proxy: Proxy) -> None:
    """A store that is closed while the server lets nobody in leaves nobody who goes on trying."""
    store = await opened(store_at(proxy.port))
    proxy.hold()
    connections = proxy.connections
    proxy.break_once()
    await until(lambda: proxy.connections > connections)
    await store.aclose()
    assert [task for task in asyncio.all_tasks() if "Client" in repr(task.get_coro())] == []


async def test_missing_server(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody there is told within connect_timeout, without the password (row 64)."""
    caplog.set_level(logging.DEBUG)
    store = store_from_url(f"nats://user:{SECRET}@127.0.0.1:{free_port()}?connect_timeout=0.5")
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable, match=r"within 0\.5 s") as caught:
            await store.open()
    no_secret(store, caught.value, caplog)


async def test_wrong_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password is told at once, and shown nowhere (row 69)."""
    caplog.set_level(logging.DEBUG)
    with server_in(tmp_path, "authorization { user: me, password: right }") as server:
        store = store_from_url(f"nats://me:{SECRET}@127.0.0.1:{server.port}?connect_timeout=30")
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailable, match="refused the user, password or token") as caught:
                await store.open()
        no_secret(store, caught.value, caplog)
        good = store_from_url(f"nats://me:right@127.0.0.1:{server.port}")
        await good.open()
        await good.aclose()


async def test_tls(tmp_path: Path) -> None:
    """A certificate for another name, or of somebody unknown, is refused at once; the right one is taken."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    try:
        await asyncio.to_thread(certify, key, cert)
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    with server_in(tmp_path, f'tls {{ cert_file: "{cert}", key_file: "{key}" }}') as server:
        place = f"tls://127.0.0.1:{server.port}?connect_timeout=30"
        for wrong in (place, f"{place}&tls_ca={cert}"):
            async with asyncio.timeout(10):
                with pytest.raises(StoreUnavailable, match="certificate") as caught:
                    await store_from_url(wrong).open()
            assert isinstance(caught.value.__cause__, ssl.SSLError) or caught.value.__cause__ is None
        good = store_from_url(f"{place}&tls_ca={cert}&tls_hostname=bus.test")
        await good.open()
        await good.aclose()


async def test_no_secret_in_clear() -> None:
    """Who asks for TLS shows a server without it no password: it may be another one."""
    heard = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.0","headers":true,"max_payload":1048576}\r\n')
        while data := await reader.read(4096):
            heard.extend(data)
        writer.close()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = store_from_url(f"tls://me:{SECRET}@127.0.0.1:{port}?connect_timeout=1")
        with pytest.raises(StoreUnavailable):
            await store.open()
    assert heard, "it was asked for TLS"
    assert SECRET.encode() not in heard


@pytest.mark.parametrize("creds", ["", "nonsense"])
async def test_bad_creds(server: Server, tmp_path: Path, creds: str) -> None:
    """A file of credentials that is not there, or holds none, is told as what it is."""
    path = tmp_path / "user.creds"
    if creds:
        path.write_text(creds)
    store = store_from_url(f"nats://127.0.0.1:{server.port}?creds={path}")
    with pytest.raises(StoreUnavailable, match="creds"):
        await store.open()


async def test_closing_after_the_server_died(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A store whose server was killed closes without an error, and so does the thread that spoke for it."""
    store = await opened(store_at(server.port, owner_timeout=1.0))
    keeper = store._keeper
    assert keeper is not None
    await until(lambda: keeper._client is not None)
    server.kill()
    async with asyncio.timeout(10):
        await store.aclose(1.0)
    await asyncio.to_thread(keeper.join, 5.0)
    assert "Traceback" not in caplog.text


async def test_full_server(tmp_path: Path) -> None:
    """A server without room refuses what is new, acks too, and keeps what was stored (row 21)."""
    with server_in(tmp_path, jetstream="max_file_store: 300KB") as server:
        store = await opened(store_at(server.port))
        await store.append([draft("q", 1)])
        (held,) = (await store.claim("q", worker="w", lease=60)).leases
        ack = Ack(held.stored.sequence, held.token)
        stored = 0

        async def fill(size: int) -> None:
            nonlocal stored
            while True:
                await store.append([draft("a", stored, headers=b"x" * size)])
                stored += 1

        for size in (10_000, 100):
            with pytest.raises(StoreFull):
                await fill(size)
        with pytest.raises(StoreFull):
            await store.settle("q", [ack])
        assert await values(store, "a") == list(range(stored))
        await store.trim("a", upto=stored)
        assert await retried(lambda: store.settle("q", [ack])) == [True]
        await retried(lambda: store.append([draft("a", "again")]))
        await store.aclose()


async def test_no_jetstream(tmp_path: Path) -> None:
    """A server without JetStream is told what it lacks."""
    with server_in(tmp_path, jetstream="off") as server:
        with pytest.raises(StoreUnavailable, match="needs JetStream"):
            await store_at(server.port).open()


async def test_too_large(tmp_path: Path) -> None:
    """What the server would not take is refused before it is sent, with its limit (row 80)."""
    with server_in(tmp_path, "max_payload: 64KB") as server:
        store = await opened(store_at(server.port))
        with pytest.raises(PayloadTooLarge, match="exceeds maximum size of 65536 bytes"):
            await store.append([draft("a", 1), draft("a", "x" * 65_536)])
        assert await values(store, "a") == []
        assert (await store.append([draft("a", "x" * 60_000)]))[0].sequence == 1
        await store.aclose()


async def test_lost_answers_make_no_doubles(proxy: Proxy) -> None:
    """An append whose answer was cut off is repeated by itself and is there once, as a new message."""
    store = await opened(store_at(proxy.port, timeout=15))
    for number in range(8):
        # The request goes out and the connection breaks before the answer can come back.
        proxy.delay(0.03)
        task = asyncio.create_task(store.append([draft("a", number, id=f"id-{number}")]))
        batch = asyncio.create_task(store.append([draft("q", number), draft("q", -number)]))
        await asyncio.wait([task], timeout=0.045)
        proxy.break_once()
        proxy.mend()
        (placed,) = await task
        assert not placed.duplicate
        assert [place.duplicate for place in await batch] == [False, False]
    assert await values(store, "a") == list(range(8))
    assert len(await values(store, "q")) == 16
    with pytest.raises(MessageConflict):
        await store.append([draft("a", "other", id="id-1")])
    await store.aclose()


async def test_what_a_try_to_connect_again_leaves(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries that fail when the server has greeted already leave no tasks behind."""
    before = asyncio.all_tasks()
    store = await opened(store_at(proxy.port))
    wire, failures = store._link._wire, iter(range(2))
    real = wire.flush

    async def flush(*args: Any) -> None:
        if next(failures, None) is not None:
            raise ConnectionResetError("as the test wants it")
        await real(*args)

    monkeypatch.setattr(wire, "flush", flush)
    proxy.break_once()
    await until(lambda: not store._link.up)
    await until(lambda: store._link.up)
    assert next(failures, None) is None
    names = [getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks() - before]
    assert [names.count(name) for name in ("_ping_interval", "_read_loop", "_flusher")] == [1, 1, 1]
    await store.aclose()


async def test_a_batch_that_is_stored_and_cannot_be_asked_for(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose batch was stored by a try before, but who does not learn where, is not told that it was not."""
    store = await opened(store_at(proxy.port, timeout=1.0))
    real = store._link.publish

    async def publish(packets: Sequence[Packet], **named: Any) -> Answer:
        answer = await real(packets, **named)
        if len(packets) == 1:
            return answer
        # As the server says when the answer to a try before was lost.
        proxy.cut()
        await until(lambda: not store._link.up)
        raise Repeated(10201, "duplicate message id in the batch")

    monkeypatch.setattr(store._link, "publish", publish)
    with pytest.raises(OutcomeUnknown):
        await store.append([draft("a", 1), draft("a", 2)])
    proxy.mend()
    assert await retried(lambda: values(store, "a")) == [1, 2]
    await store.aclose()


async def test_damaged_journal_is_told(server: Server) -> None:
    """Entries that somebody took out of a queue's journal are missed, not read over."""
    store = await opened(store_at(server.port))
    await store.append([draft("q", number) for number in range(3)])
    for _ in range(3):
        await store.claim("q", worker="w", lease=60)
    async with jetstream(f"nats://127.0.0.1:{server.port}") as js:
        (name,) = [str(i.config.name) for i in await js.streams_info() if "_j_" in str(i.config.name)]
        await js.delete_msg(name, 2)
    other = NATSStore(store._access, store._settings)
    await other.open()
    with pytest.raises(StoreError, match="entries 2 to 2 of its journal"):
        await other.counts("q")
    await other.aclose()
    await store.aclose()


def certify(key: Path, cert: Path) -> None:
    """Make a certificate for ``bus.test`` that nobody has signed but itself."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(cert)]
    command += ["-subj", "/CN=bus.test", "-addext", "subjectAltName=DNS:bus.test"]
    subprocess.run(command, check=True, capture_output=True)


def no_secret(store: object, error: BaseException | None, caplog: pytest.LogCaptureFixture) -> None:
    """Look for the password where people look."""
    texts = [caplog.text, repr(store), str(getattr(store, "url", ""))]
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    assert not [text for text in texts if SECRET in text]


def lose_answers(store: NATSStore, verb: str, subject: str, count: int = 1) -> None:
    """Let the answers to writes of a subject be lost, each followed by a server that is not ready."""
    real = getattr(store._link, verb)

    async def lossy(where: Any, *args: Any, **named: Any) -> Any:
        nonlocal count
        answer = await real(where, *args, **named)
        told = where if isinstance(where, str) else where[0].subject
        if subject in told and count > 0:
            count -= 1
            raise Nobody(True)
        return answer

    setattr(store._link, verb, lossy)


async def test_ids_of_what_was_sent_twice(server: Server) -> None:
    """What was stored by a first try goes by the id that its receipt names, after the second one too."""
    store = await opened(store_at(server.port))
    lose_answers(store, "publish", ".m.")
    placed = await store.append([draft("a", n) for n in range(3)])
    found = (await store.read("a", after=0, limit=9)).messages
    assert [(p.id, p.sequence, p.duplicate) for p in placed] == [(s.id, s.sequence, False) for s in found]
    await store.aclose()


async def test_ids_of_what_arrives_late(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a first try stores only when it was already looked for goes by the id that its receipt names."""
    store = await opened(store_at(server.port))
    real, begin, looks = fetch.newest, store._link.begin, 0

    async def too_early(*args: Any) -> Any:
        nonlocal looks
        looks += 1
        return await real(*args) if looks > 1 else None

    def lost(packet: Any, deadline: float, tell: Any) -> None:
        begin(packet, deadline, lambda _: tell(Lost()))

    monkeypatch.setattr(plan, "newest", too_early)
    monkeypatch.setattr(store._link, "begin", lost)
    (placed,) = await store.append([draft("a", 1)])
    (stored,) = (await store.read("a", after=0, limit=9)).messages
    assert (placed.id, placed.sequence, looks > 0) == (stored.id, stored.sequence, True)
    await store.aclose()


async def test_places_of_what_was_sent_twice(server: Server) -> None:
    """If others took some of a batch before the second try, the receipts name the first places."""
    store = await opened(store_at(server.port))
    real = store._link.publish
    tries = 0

    async def lossy(packets: Any, **named: Any) -> Any:
        nonlocal tries
        answer, tries = await real(packets, **named), tries + 1
        if tries == 1:
            leases = (await store.claim("q", worker="w", lease=60, limit=3)).leases
            acks = [Ack(one.stored.sequence, one.token) for one in leases if one.stored.sequence != 2]
            await store.settle("q", acks)
            log = store._logs["q"]
            assert log.mirror is not None
            await log.mirror.compact()
            raise Nobody(True)
        return answer

    store._link.publish = lossy  # type: ignore[method-assign]  # a fault that no proxy can time
    placed = await store.append([draft("q", n) for n in range(3)])
    assert [p.sequence for p in placed] == [1, 2, 3]
    (left,) = (await store.read("q", after=0, limit=9)).messages
    assert left.id == placed[1].id
    await store.aclose()


async def test_record_that_was_sent_twice(server: Server) -> None:
    """A put whose answer was lost is known for one's own, also when the server was not ready in between."""
    store = await opened(store_at(server.port))
    lose_answers(store, "request", ".r.")
    version = await store.put("s", "n", b"x", version=None)
    assert version is not None
    assert await store.get("s", "n") == (b"x", version)
    await store.aclose()


async def test_outcome_of_what_may_have_been_taken(server: Server) -> None:
    """A server that is never ready again leaves a write that it may have taken unknown, not undone."""
    store = await opened(store_at(server.port, timeout=0.5))
    lose_answers(store, "publish", ".m.", 99)
    with pytest.raises(OutcomeUnknown):
        await store.append([draft("a", n) for n in range(2)])
    lose_answers(store, "request", ".r.", 99)
    with pytest.raises(OutcomeUnknown):
        await store.put("s", "n", b"x", version=None)
    await store.aclose()


async def test_dedupe_key_of_what_may_have_been_taken(server: Server) -> None:
    """A write of unknown outcome keeps its dedupe key: the same again adds nothing."""
    lossy, store = store_at(server.port, timeout=0.5, prefix="one"), store_at(server.port, prefix="one")
    for each in (lossy, store):
        await opened(each)
    again = draft("a", 1)._replace(dedupe=Dedupe("key", b"digest", 60.0))
    lose_answers(lossy, "publish", ".m.", 99)
    with pytest.raises(OutcomeUnknown):
        await lossy.append([again])
    (placed,) = await store.append([again])
    assert placed.duplicate
    assert await values(store, "a") == [1]
    for each in (lossy, store):
        await each.aclose()


@pytest.mark.parametrize("first", ["kept", "given up"])
async def test_dedupe_key_of_two_writers(server: Server, first: str) -> None:
    """Of two who come with a key one stores and one is refused: the key stands for what was stored."""
    store = await opened(store_at(server.port))
    log, key = store._logs["a"], Dedupe("key", b"digest", 60.0)
    deadline = store._deadline()
    one = await store._reserve(log, key, "1", deadline)
    two = await store._reserve(log, key, "2", deadline)
    assert isinstance(one, Reserved)
    assert isinstance(two, Reserved)
    steps = [store._keep_keys([(two, Placed(two.id, 7))], log), store._give_up_keys([one])]
    for step in steps if first == "kept" else reversed(steps):
        await step
    assert await store._reserve(log, key, "3", deadline) == Placed(one.id, 7, True)
    await store.aclose()


async def test_cancelled_settle(proxy: Proxy) -> None:
    """A cancelled settle ends when its answer is there, however often it is cancelled: it has happened."""
    store = await opened(store_at(proxy.port))
    await store.append([draft("q", 1)])
    (one,) = (await store.claim("q", worker="w", lease=60)).leases
    proxy.hold_answers()
    settling = asyncio.create_task(store.settle("q", [Ack(one.stored.sequence, one.token)]))
    await run_until_idle()
    for _ in range(3):
        settling.cancel()
        await run_until_idle()
        assert not settling.done()
    proxy.mend()
    async with asyncio.timeout(5):
        await asyncio.wait([settling])
    assert settling.cancelled()
    # Nothing was asked in between: it is known here.
    mirror = store._logs["q"].mirror
    assert mirror is not None
    assert not mirror.table.rows
    await store.aclose()


async def test_closing_tells_those_who_wait(proxy: Proxy) -> None:
    """Closing a store whose server is gone ends every verb with an error, and leaves no task behind."""
    store = await opened(store_at(proxy.port, timeout=30))
    await store.append([draft("q", n) for n in range(5)])
    held = (await store.claim("q", worker="w", lease=60, limit=2)).leases
    before = {task.get_name() for task in asyncio.all_tasks()}
    proxy.hold()
    waiting: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(store.settle("q", [Ack(one.stored.sequence, one.token)])) for one in held
    ]
    waiting.append(asyncio.ensure_future(store.append([draft("a", 1)])))
    # So late that these changes wait behind the first ones.
    await run_until_idle()
    waiting += [asyncio.ensure_future(store.claim("q", worker="w", lease=60)) for _ in range(2)]
    await run_until_idle()
    async with asyncio.timeout(10):
        await store.aclose(grace=0.5)
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results if not isinstance(result, BusError)] == []
    await run_until_idle()
    left = {task.get_name() for task in asyncio.all_tasks()} - before
    assert {name for name in left if name.startswith("sssnbus")} == set()
    proxy.mend()


async def test_what_nobody_holds_is_given_back_at_last(server: Server) -> None:
    """A hold that cannot be given back at once is given back later: its owner lives and renews it."""
    store = await opened(store_at(server.port))
    await store.append([draft("q", 1)])
    (lease,) = (await store.claim("q", worker="w", lease=60)).leases
    mirror = store._logs["q"].mirror
    assert mirror is not None
    real, failures = mirror.journal.commit, 2

    def failing(changes: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise StoreUnavailable("it is away")
        return real(changes)

    mirror.journal.commit = failing  # type: ignore[method-assign]  # a fault that no proxy can time
    mirror.give_back([(1, lease.token)])
    await until(lambda: not failures and not mirror.table.leased)
    assert (await store.claim("q", worker="w", lease=60)).leases[0].attempt == 1
    await store.aclose()


async def test_news_after_a_beginning_that_failed(server: Server) -> None:
    """A log that could not be followed at first is followed once it is declared again."""
    store = await opened(store_at(server.port))
    writer = await opened(NATSStore(store._access, store._settings))
    real, failures, stream = store._link.api, 1, store._logs["a"].stream

    async def failing(verb: str, *args: Any, **named: Any) -> Any:
        nonlocal failures
        if verb.startswith(f"CONSUMER.CREATE.{stream}.") and failures:
            failures -= 1
            raise StoreUnavailable("it is away")
        return await real(verb, *args, **named)

    store._link.api = failing  # type: ignore[method-assign]  # a fault that no proxy can time
    heard: list[object] = []
    end = store.watch(lambda: None, lambda news: heard.extend(value(one) for one in news.messages))
    await until(lambda: not failures)
    await run_until_idle()
    await store.declare("a", Kind.LOG)
    await writer.append([draft("a", 1)])
    await until(lambda: heard == [1])
    end()
    await writer.aclose()
    await store.aclose()


async def test_entry_that_came_back_although_its_answer_did_not(server: Server) -> None:
    """A change of a queue that is seen in the journal has happened, whatever became of the answer."""
    store = await opened(store_at(server.port))
    await store.append([draft("q", 1)])
    assert (await store.counts("q")).ready == 1
    mirror = store._logs["q"].mirror
    assert mirror is not None
    mirror.journal._writer._answered = lambda *_: None  # type: ignore[method-assign]  # no proxy can do that
    (lease,) = (await store.claim("q", worker="w", lease=60)).leases
    assert await store.settle("q", [Ack(1, lease.token)]) == [True]
    await store.aclose()


async def test_older_snapshot_that_ends_later(server: Server) -> None:
    """Of two snapshots that were written at once the newer one counts, in whatever order they end."""
    store = await opened(store_at(server.port))
    await store.append([draft("q", n) for n in range(3)])
    await store.claim("q", worker="w", lease=60, limit=1)
    mirror = store._logs["q"].mirror
    assert mirror is not None
    journal = mirror.journal
    state, at = to_json(mirror.table.snapshot()).decode(), journal.applied
    await store.claim("q", worker="w", lease=60, limit=1)
    await journal.compact()
    late = to_json({"s": ["late", at, 1, state, 0]})
    await journal._writer.publish(late, "late", "a snapshot", store._deadline())
    other = await opened(NATSStore(store._access, store._settings))
    assert (await other.counts("q"))[:3] == (1, 0, 2)
    await other.aclose()
    await store.aclose()
