"""HTTP by the byte: what is sent is exactly what was made up, and what comes back is read without mercy."""

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from tests.fuzz.effort import OVERLOADED

HOST = "127.0.0.1"
ANSWER_TIMEOUT_S = 15.0
ENVELOPE = {"type", "title", "status", "detail", "instance", "code", "traceId"}
UNPROCESSABLE, UNAVAILABLE = 422, 503
SERVER_ERROR, CLIENT_ERROR, SUCCESS_END = 500, 400, 300

_STATUS = re.compile(rb"HTTP/\d\.\d (\d{3}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """One response."""

    head: bytes
    body: bytes
    took_s: float = 0.0

    @property
    def status(self) -> int:
        found = _STATUS.match(self.head)
        return int(found[1]) if found else 0

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def is_refusal(self) -> bool:
        return CLIENT_ERROR <= self.status < SERVER_ERROR

    @property
    def is_done(self) -> bool:
        """The first answer of a write that was carried out: a success, and no replay of one."""
        return self.status < SUCCESS_END and b"idempotent-replayed" not in self.head.lower()

    def header(self, name: bytes) -> bytes:
        found = re.search(rb"\r\n" + name + rb": ([^\r]*)", self.head, re.IGNORECASE)
        return found[1] if found else b""


@dataclass(frozen=True, slots=True)
class Heard:
    """All that a connection said, and whether it was closed at the other end."""

    said: bytes
    is_closed: bool

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in _STATUS.findall(self.said)]


def request(method: str, path: str, headers: Sequence[tuple[str, bytes]] = (), body: bytes = b"") -> bytes:
    """A well-formed request around whatever the headers, the path and the body are."""
    length = (("Content-Length", str(len(body)).encode()),) if body or method != "GET" else ()
    lines = [f"{name}: ".encode() + value for name, value in (("Host", b"stagedoor"), *headers, *length)]
    return f"{method} {path} HTTP/1.1\r\n".encode() + b"\r\n".join(lines) + b"\r\n\r\n" + body


class Wire:
    """A connection to one port, opened again when it was closed; one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, sent: bytes) -> Reply:
        """Send a whole request and return its response."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            try:
                return await self._exchange(sent)
            except (ConnectionError, asyncio.IncompleteReadError):  # idle for too long, or ended by the last answer
                await self.close()
                return await self._exchange(sent)

    async def close(self) -> None:
        if self._streams is not None:
            await ended(self._streams[1])
            self._streams = None

    async def _exchange(self, sent: bytes) -> Reply:
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self._port)
        reader, writer = self._streams
        started_s = time.monotonic()
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        return Reply(head, body, time.monotonic() - started_s)


async def hear(port: int, pieces: Sequence[bytes], *, silence_s: float) -> Heard:
    """Send `pieces` one by one on a connection of its own, and listen until it is closed or silent for so long."""
    reader, writer = await asyncio.open_connection(HOST, port)
    said = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        while True:
            async with asyncio.timeout(silence_s):
                more = await reader.read(2**16)
            if not more:
                return Heard(said, is_closed=True)
            said += more
    except TimeoutError:
        return Heard(said, is_closed=False)
    except ConnectionError:
        return Heard(said, is_closed=True)
    finally:
        await ended(writer)


async def ended(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever state it is in."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def check_reply(suite: str, reply: Reply, sent: object) -> None:
    """No 5xx but an honest 503, and every refusal in the one shape of our errors."""
    if reply.status == UNAVAILABLE and reply.header(b"retry-after"):
        OVERLOADED[suite] += 1
    else:
        assert reply.status < SERVER_ERROR, f"{reply.head!r}{reply.body!r} to {sent!r}"
    if reply.status >= CLIENT_ERROR:
        check_envelope(reply.status, reply.header(b"content-type").decode("latin-1"), reply.body, sent)


def check_envelope(status: int, content_type: str, body: bytes, sent: object) -> None:
    """An error is a problem document with all that the contract promises."""
    assert content_type == "application/problem+json", f"{status} {content_type} {body!r} to {sent!r}"
    told = orjson.loads(body)
    assert set(told) >= ENVELOPE, f"{told} to {sent!r}"
    assert told["status"] == status, f"{told} to {sent!r}"
    assert told["type"] == f"/problems/{told['code'].lower().replace('_', '-')}", f"{told} to {sent!r}"
    assert re.fullmatch("[0-9a-f]{32}", told["traceId"]), f"{told} to {sent!r}"
    if told["code"] == "INVALID_FIELD":
        assert told["errors"], f"{told} to {sent!r}"
        assert all(set(error) == {"pointer", "detail"} for error in told["errors"]), f"{told} to {sent!r}"
