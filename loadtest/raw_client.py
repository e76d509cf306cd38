"""HTTP as cheap as a generator needs it: whole requests as bytes onto connections that stay open.

Nothing is parsed but status and length of a reply, so that a call costs the generator about 15 µs besides what the
kernel takes. Only for our own gateway, whose every reply has a `Content-Length` or no body.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import cast

LOST = 0
"""The status of a call whose connection ended before its reply."""

UNSENT = -1
"""The status of a call for which no connection was free, and no room to wait for one."""

CONNECTING_AT_ONCE = 50
WAITING_MAX = 20_000
"""Calls that wait for a connection; one more is unsent."""

Answered = Callable[[int, bytes], None]
"""Called once a call, with its status and the whole reply, head included."""


def written(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A request as it goes over the wire."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: gateway",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    elif method != "GET":
        lines.append("Content-Length: 0")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def body_of(reply: bytes) -> bytes:
    return reply[reply.find(b"\r\n\r\n") + 4 :]


class RawClient:
    """A fixed number of connections, used in turn, so that none idles for so long that the gateway closes it.

    A call that finds none free waits for one, as up to `WAITING_MAX` calls may.
    """

    def __init__(self, port: int, connections: int = 3_000) -> None:
        self._port = port
        self._connections = connections
        self._waiting: deque[tuple[bytes, Answered]] = deque()
        self._free: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._mending: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def start(self) -> None:
        for opened in range(0, self._connections, CONNECTING_AT_ONCE):
            count = min(CONNECTING_AT_ONCE, self._connections - opened)
            await asyncio.gather(*(self._connect() for _ in range(count)))

    def stop(self) -> None:
        self._is_closed = True
        for connection in list(self._open):
            connection.close()

    def send(self, request: bytes, answered: Answered) -> None:
        """Send now, or as soon as a connection is free; a call for which there is no room is told that it is unsent."""
        if self._free:
            self._free.popleft().send(request, answered)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append((request, answered))
        else:
            answered(UNSENT, b"")

    async def call(self, request: bytes) -> tuple[int, bytes]:
        """Send, and wait for status and reply; for how long is the caller's to bound."""
        replied: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.send(request, lambda status, reply: replied.set_result((status, reply)))
        return await replied

    def given_back(self, connection: "_Connection") -> None:
        """A connection has its reply."""
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: "_Connection", *, was_busy: bool) -> None:
        """A connection has ended; another takes its place."""
        self._open.discard(connection)
        if not was_busy:
            self._free.remove(connection)
        if not self._is_closed:
            mending = asyncio.get_running_loop().create_task(self._connect())
            self._mending.add(mending)
            mending.add_done_callback(self._mending.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_closed:
            try:
                _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            self._open.add(connection)
            self.given_back(connection)
            return


class _Connection(asyncio.Protocol):
    __slots__ = ("_answered", "_chunks", "_client", "_missing", "_transport")

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._answered: Answered | None = None
        self._chunks: list[bytes] = []
        self._missing = 0

    def send(self, request: bytes, answered: Answered) -> None:
        self._answered = answered
        cast("asyncio.Transport", self._transport).write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  lost is lost
        answered, self._answered = self._answered, None
        self._client.lost(self, was_busy=answered is not None)
        if answered is not None:
            answered(LOST, b"")

    def data_received(self, data: bytes) -> None:
        if self._chunks:
            self._chunks.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._chunks)
        else:
            self._missing = _missing(data)
            if self._missing > 0:
                self._chunks.append(data)
                return
        self._chunks = []
        answered, self._answered = self._answered, None
        if answered is None:
            self.close()  # more than was asked for
            return
        self._client.given_back(self)
        answered(int(data[9:12]), data)


def _missing(data: bytes) -> int:
    """Bytes of a reply that have not come yet. Its head comes whole: it is written in one piece."""
    head_end = data.find(b"\r\n\r\n")
    at = data.find(b"Content-Length: ", 0, head_end)
    length = int(data[at + 16 : data.index(b"\r", at)]) if at >= 0 else 0
    return head_end + 4 + length - len(data)
