"""The protocol of the server, without one."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import AuthenticationError, BusyLoadingError, InvalidResponse, NoScriptError
from redis.exceptions import ConnectionError as LostError

from sssnbus.stores.redis.resp import Answers, packed

ANSWERS: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b":-7\r\n", -7),
    (b"$5\r\na\r\nb\n\r\n", b"a\r\nb\n"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"*0\r\n", []),
    (b"*3\r\n$1\r\nx\r\n*2\r\n:1\r\n$-1\r\n+y\r\n", [b"x", [1, None], b"y"]),
    (b"$5000\r\n" + b"z" * 5000 + b"\r\n", b"z" * 5000),
]


async def heard(pieces: list[bytes], count: int) -> list[Any]:
    """Return the answers that arrive in some pieces."""
    answers = Answers()
    for piece in pieces:
        answers.data_received(piece)
    return [await answers.next() for _ in range(count)]


@given(st.lists(st.sampled_from(ANSWERS), min_size=1), st.lists(st.integers(0, 6000)))
def test_pieces(sent: list[tuple[bytes, Any]], cuts: list[int]) -> None:
    """However the bytes are cut into pieces, the answers are the same."""
    whole = b"".join(data for data, _ in sent)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[a:b] for a, b in itertools.pairwise(places)]
    assert asyncio.run(heard(pieces, len(sent))) == [value for _, value in sent]


async def test_each_byte() -> None:
    """Answers may come byte by byte."""
    whole = b"".join(data for data, _ in ANSWERS[:7])
    assert await heard([bytes([byte]) for byte in whole], 7) == [value for _, value in ANSWERS[:7]]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"-NOSCRIPT No matching script.\r\n", NoScriptError),
        (b"-LOADING Redis is loading the dataset in memory\r\n", BusyLoadingError),
        (b"-NOAUTH Authentication required.\r\n", AuthenticationError),
    ],
)
async def test_errors(text: bytes, kind: type[Exception]) -> None:
    """Errors of the server are what the client makes of them."""
    (error,) = await heard([text], 1)
    assert isinstance(error, kind)


async def test_end() -> None:
    """Who waits is told that the connection was lost, and so is who asks later."""
    answers = Answers()
    waiting = asyncio.create_task(answers.next())
    await asyncio.sleep(0)
    answers.connection_lost(None)
    for asking in (waiting, answers.next()):
        with pytest.raises(LostError):
            await asking


async def test_end_behind_an_answer() -> None:
    """Who was woken for an answer gets it, although time is over before the first step."""
    answers = Answers()
    waiting = asyncio.create_task(answers.next())
    await asyncio.sleep(0)
    answers.data_received(b"+OK\r\n")
    answers.end(LostError())
    assert await waiting == b"OK"
    with pytest.raises(LostError):
        await answers.next()


async def test_nonsense() -> None:
    """What is no answer ends the connection, also for what comes behind it."""
    for nonsense in (b"HTTP/1.1 400 Bad Request\r\n", b"$x\r\n"):
        answers = Answers()
        answers.data_received(b"+OK\r\n" + nonsense)
        answers.data_received(b"+OK\r\n")
        assert await answers.next() == b"OK"
        with pytest.raises(InvalidResponse):
            await answers.next()


def test_packed() -> None:
    """A command is sent as an array of texts and bytes."""
    assert (
        packed(["GET", b"\xff", 12, "ä"])
        == b"*4\r\n$3\r\nGET\r\n$1\r\n\xff\r\n$2\r\n12\r\n$2\r\n\xc3\xa4\r\n"
    )
