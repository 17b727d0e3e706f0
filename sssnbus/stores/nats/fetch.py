"""Reading messages out of a stream: from whoever answers fastest, or in a cluster from its leader only.

With one replica the server answers direct requests, many messages for one of them. With several, any replica
would, also one that lags behind; a message it does not have yet would look like one that was removed.
"""

import asyncio
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pydantic_core import to_json

from sssnbus.stores.nats.failure import Absent, Nobody
from sssnbus.stores.nats.link import Link
from sssnbus.stores.nats.waiting import until_ready
from sssnbus.stores.nats.wire import Incoming

PAGE = 256
"""Messages that one request asks for."""


class Got(NamedTuple):
    """A message out of a stream."""

    subject: str
    sequence: int
    headers: Mapping[str, str]
    data: bytes
    stamp: float
    """When the server stored it, in seconds since the epoch."""


async def newest(link: Link, stream: str, subject: str, direct: bool, deadline: float) -> Got | None:
    """Return the newest message on a subject, which may hold wildcards."""
    return await _one(link, stream, {"last_by_subj": subject}, direct, deadline)


async def following(
    link: Link, stream: str, subject: str, after: int, direct: bool, deadline: float
) -> Got | None:
    """Return the oldest message behind a sequence on a subject, which may hold wildcards."""
    return await _one(link, stream, {"seq": after + 1, "next_by_subj": subject}, direct, deadline)


async def single(link: Link, stream: str, sequence: int, direct: bool, deadline: float) -> Got | None:
    """Return one message by its sequence."""
    return await _one(link, stream, {"seq": sequence}, direct, deadline)


async def several(
    link: Link, stream: str, sequences: Sequence[int], direct: bool, deadline: float
) -> dict[int, Got]:
    """Return the messages with these sequences, in rising order, as far as they are there."""
    if len(sequences) == 1:
        alone = await single(link, stream, sequences[0], direct, deadline)
        return {} if alone is None else {alone.sequence: alone}
    if not direct:
        found = await asyncio.gather(
            *(single(link, stream, sequence, direct, deadline) for sequence in sequences)
        )
        return {got.sequence: got for got in found if got is not None}
    result: dict[int, Got] = {}
    wanted = set(sequences)
    start = 0
    while start < len(sequences):
        # A stretch with few holes comes faster as a whole than one by one.
        end = start + 1
        while end < len(sequences) and sequences[end] - sequences[end - 1] <= 2 and end - start < PAGE:
            end += 1
        first, last = sequences[start], sequences[end - 1]
        for got in await stretch(link, stream, first - 1, last - first + 1, last, direct, deadline):
            if got.sequence in wanted:
                result[got.sequence] = got
        start = end
    return result


async def stretch(
    link: Link, stream: str, after: int, limit: int, upto: int, direct: bool, deadline: float
) -> list[Got]:
    """Return up to ``limit`` messages with ``after < sequence <= upto``, oldest first."""
    found: list[Got] = []
    while len(found) < limit and after < upto:
        if direct:
            page = await _page(link, stream, after, min(limit - len(found), PAGE), deadline)
        else:
            last = min(upto, after + min(limit - len(found), PAGE))
            page = list((await several(link, stream, range(after + 1, last + 1), False, deadline)).values())
            if not page:
                after = last
                continue
        if not page:
            break
        found += [got for got in page if got.sequence <= upto]
        after = page[-1].sequence
    return found


async def on_subjects(link: Link, stream: str, subjects: str, direct: bool, deadline: float) -> list[Got]:
    """Return every message on subjects with wildcards, of a stream that keeps one for each."""
    found: list[Got] = []
    after = 0
    while True:
        body: dict[str, Any] = {"seq": after + 1, "next_by_subj": subjects}
        if direct:
            try:
                messages = await link.collect(stream, body | {"batch": PAGE}, deadline=deadline)
            except Nobody:
                await link.pause(deadline)
                continue
            page = [_direct(message) for message in messages]
        else:
            got = await _one(link, stream, body, False, deadline)
            page = [] if got is None else [got]
        if not page:
            return found
        found += page
        after = page[-1].sequence


def stamp_of(text: str) -> float:
    """Return a time of the server, RFC 3339 with nanoseconds, as seconds since the epoch."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")


async def _page(link: Link, stream: str, after: int, limit: int, deadline: float) -> list[Got]:
    body = {"seq": after + 1, "batch": limit}
    while True:
        try:
            return [_direct(message) for message in await link.collect(stream, body, deadline=deadline)]
        except Nobody:
            await until_ready(link, stream, deadline)


async def _one(link: Link, stream: str, body: dict[str, Any], direct: bool, deadline: float) -> Got | None:
    if not direct:
        try:
            answer = await link.api(f"STREAM.MSG.GET.{stream}", body, deadline=deadline)
        except Absent:
            return None
        return _indirect(answer["message"])
    while True:
        try:
            found = await link.request(f"$JS.API.DIRECT.GET.{stream}", to_json(body), deadline=deadline)
        except Nobody:
            await until_ready(link, stream, deadline)
            continue
        message = found.message
        return None if message.status == "404" else _direct(message)


def _direct(message: Incoming) -> Got:
    headers = message.headers
    return Got(
        headers["Nats-Subject"],
        int(headers["Nats-Sequence"]),
        headers,
        message.data,
        stamp_of(headers["Nats-Time-Stamp"]),
    )


def _indirect(message: dict[str, Any]) -> Got:
    headers: dict[str, str] = {}
    for line in b64decode(message.get("hdrs", "")).decode().split("\r\n")[1:]:
        name, colon, text = line.partition(":")
        if colon:
            headers[name.strip()] = text.strip()
    data = b64decode(message.get("data", ""))
    return Got(message["subject"], int(message["seq"]), headers, data, stamp_of(message["time"]))
