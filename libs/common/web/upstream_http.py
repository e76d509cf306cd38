"""`Upstream` over HTTP/1.1: a small client for small requests between our own services.

Why not aiohttp's client: it is made for the whole web, and a call through it costs half as much again as everything
else the gateway does for a request (`docs/adr/0004-a-small-client-between-services.md` has the figures). What is left
out is what our services never say to each other: cookies, redirects, compression, uploads, proxies, TLS.

One request at a time on a connection, connections kept for 15 s of idleness (our servers keep them for 75 s, so a
request rarely meets a closing one), the one used last taken first. Nothing is ever sent twice in here: who calls knows
whether a repeat does harm. httptools parses the replies.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools

from libs.common import trace
from libs.common.clock import Clock
from libs.common.errors import ConfigError, DependencyDown
from libs.common.metrics import CommonMetrics
from libs.common.web.upstream import Reply, ReplyLost

CONNECT_TIMEOUT_S = 0.5
KEEPALIVE_S = 15.0
CONNECTIONS_MAX = 128
WAITING_MAX = 4_000
"""Calls that may wait for a connection; more are refused at once."""

REPLY_BYTES_MAX = 32 * 1024 * 1024


class _Connection(asyncio.Protocol):
    """One socket. `reply` is the call it works on; whatever goes wrong in it ends the connection."""

    def __init__(self) -> None:
        self.closed = False
        self.idle_since_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[Reply] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._size_bytes = 0

    def send(self, request: bytes) -> "asyncio.Future[Reply]":
        """Write a request; the future holds its reply, or raises ConnectionError when the connection ends before."""
        self._reply = self._loop.create_future()
        if self._transport is None or self.closed:
            self._reply.set_exception(ConnectionError("closed"))
        else:
            self._transport.write(request)
        return self._reply

    def close(self) -> None:
        """End the connection; the call it works on fails."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
        self._fail()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the caller is told the same either way
        self.closed = True
        self._fail()

    def data_received(self, data: bytes) -> None:
        self._size_bytes += len(data)
        if self._reply is None or self._size_bytes > REPLY_BYTES_MAX:
            self.close()  # more than was asked for
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        chunks, headers, reply = self._chunks, self._headers, self._reply
        status = self._parser.get_status_code()
        self._chunks, self._headers, self._size_bytes = [], {}, 0
        if not self._parser.should_keep_alive():
            self.closed = True
            if self._transport is not None:
                self._transport.close()
        if reply is not None and not reply.done():
            self._reply = None
            reply.set_result(Reply(status, headers, chunks[0] if len(chunks) == 1 else b"".join(chunks)))

    def _fail(self) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionError("ended before the reply"))


class HttpUpstream:
    """A service at `http://host:port`. Raises ConfigError for any other kind of URL."""

    def __init__(self, name: str, base_url: str, clock: Clock, metrics: CommonMetrics) -> None:
        self.name = name
        parts = urlsplit(base_url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
            raise ConfigError(f"{name.upper()}_URL: {base_url!r} is not understood; use http://host:port")
        self._host, self._port = parts.hostname, parts.port or 80
        self._host_line = f"Host: {parts.netloc}"
        self._clock = clock
        self._idle: list[_Connection] = []
        self._open_count = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_running = False
        self._answered = metrics.call_seconds.labels(name, "http", "ok")
        self._failed = metrics.call_seconds.labels(name, "http", "error")

    async def start(self) -> None:
        self._is_running = True

    async def stop(self) -> None:
        self._is_running = False
        while self._idle:
            self._drop(self._idle.pop())

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
    ) -> Reply:
        """See `Upstream.call`. The time limit covers waiting for a connection, connecting, and the reply."""
        request = self._written(method, path, headers or {}, body)
        started_s = self._clock.monotonic_s()
        try:
            connection = await self._connection(timeout_s)
            reply = await self._exchange(connection, request, timeout_s - (self._clock.monotonic_s() - started_s))
        except DependencyDown:
            self._failed.observe(self._clock.monotonic_s() - started_s)
            raise
        self._answered.observe(self._clock.monotonic_s() - started_s)
        return reply

    def _written(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", self._host_line, f"traceparent: {trace.current.get()}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            if "Content-Type" not in headers:
                lines.append("Content-Type: application/json")
            lines.append(f"Content-Length: {len(body)}")
        elif method != "GET":
            lines.append("Content-Length: 0")
        head = "\r\n".join(lines)
        # A line break inside a value would begin a header, or a request, of the sender's choice.
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
            raise ValueError(f"a line break in a header of a call to {self.name}")
        return head.encode("latin-1") + b"\r\n\r\n" + body

    async def _exchange(self, connection: _Connection, request: bytes, timeout_s: float) -> Reply:
        replied = connection.send(request)
        limit = asyncio.get_running_loop().call_later(max(0.0, timeout_s), connection.close)
        try:
            return await replied
        except ConnectionError:
            raise ReplyLost(f"The {self.name} service did not answer in time.", retry_after_s=1) from None
        finally:
            limit.cancel()
            self._put_back(connection, is_clean=replied.done() and not replied.cancelled())

    async def _connection(self, timeout_s: float) -> _Connection:
        if not self._is_running:
            raise DependencyDown(f"The {self.name} client is not started.")
        ends_s = self._clock.monotonic_s() + timeout_s
        while self._open_count >= CONNECTIONS_MAX and not self._idle:
            await self._wait_turn(ends_s - self._clock.monotonic_s())
        oldest_s = self._clock.monotonic_s() - KEEPALIVE_S
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.idle_since_s > oldest_s:
                return connection
            self._drop(connection)
        return await self._connected(min(ends_s - self._clock.monotonic_s(), CONNECT_TIMEOUT_S))

    async def _connected(self, timeout_s: float) -> _Connection:
        self._open_count += 1  # counted before it is there, so that a crowd cannot pass the limit while connecting
        try:
            async with asyncio.timeout(timeout_s):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, self._host, self._port)
        except OSError:  # TimeoutError is one
            self._gone()
            raise DependencyDown(f"The {self.name} service cannot be reached.", retry_after_s=1) from None
        except BaseException:
            self._gone()
            raise
        return connection

    async def _wait_turn(self, timeout_s: float) -> None:
        """Wait until a connection is idle or may be opened. Raises DependencyDown when that takes too long."""
        if len(self._waiting) >= WAITING_MAX:
            raise DependencyDown(f"Too many calls wait for the {self.name} service.", retry_after_s=1)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except TimeoutError:
            raise DependencyDown(f"The {self.name} service is busy.", retry_after_s=1) from None
        finally:
            if not turn.done() or turn.cancelled():
                self._waiting = deque(other for other in self._waiting if other is not turn)

    def _put_back(self, connection: _Connection, *, is_clean: bool) -> None:
        if not is_clean or connection.closed or not self._is_running:
            self._drop(connection)
            return
        connection.idle_since_s = self._clock.monotonic_s()
        self._idle.append(connection)
        self._wake_one()

    def _drop(self, connection: _Connection) -> None:
        connection.close()
        self._gone()

    def _gone(self) -> None:
        self._open_count -= 1
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
