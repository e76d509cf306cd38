"""The connections to one address of a service: one request at a time on each, the one used last taken first.

So those that a busy moment opened sink to the bottom, where no call looks: a timer closes them.
"""

import asyncio
from collections import OrderedDict, deque
from typing import NamedTuple, cast

import httptools

from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from libs.common.web.upstream import Reply, ReplyLost

CONNECT_TIMEOUT_S = 0.5
KEEPALIVE_S = 15.0
"""A connection that has idled so long is not used again, and is closed before it has idled twice as long."""

REST_S = 1.0
"""How long an address that could not be reached is passed over while others can."""

SILENT_REST_S = 2.0
"""The same for one that did not reply in time."""

CONNECTIONS_MAX = 128
WAITING_MAX = 4_000
"""Calls that may wait for a connection; more are refused at once."""

REPLY_BYTES_MAX = 32 * 1024 * 1024


class Address(NamedTuple):
    """Where a copy of a service listens: a host and a TCP port, or the path of a UNIX socket."""

    host: str
    port: int
    path: str = ""


class Connection(asyncio.Protocol):
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


class Connections:
    """A bounded set of connections to `address`; `service` names it in errors."""

    def __init__(self, service: str, address: Address, clock: Clock) -> None:
        self.busy_count = 0
        """Calls that hold or wait for a connection now."""

        self._failed_s = float("-inf")
        """When connecting failed last, on the monotonic clock."""

        self._silent_s: float | None = None
        """When a reply did not come in time, and none has come since."""

        self._service = service
        self._address = address
        self._clock = clock
        self._idle: deque[Connection] = deque()
        """The one that has idled longest first."""

        self._tidying: asyncio.TimerHandle | None = None
        """Set while anything is idle."""

        self._open_count = 0
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        """The one that has waited longest first. Thousands may give up at once, so each is found without a search."""

        self._is_closed = False

    async def exchange(self, request: bytes, ends_s: float) -> Reply:
        """Send one request and await its reply until `ends_s` of the monotonic clock.

        Raises DependencyDown when nothing was sent, ReplyLost when something was.
        """
        self.busy_count += 1
        try:
            connection = await self._connection(ends_s)
            return await self._reply(connection, request, ends_s - self._clock.monotonic_s())
        finally:
            self.busy_count -= 1

    def is_resting(self, now_s: float) -> bool:
        """Whether another copy should be asked, if there is one. Of one that was silent a single call finds out."""
        if self._silent_s is not None and (self.busy_count or self._silent_s > now_s - SILENT_REST_S):
            return True
        return self._failed_s > now_s - REST_S

    def close(self) -> None:
        """Close what is idle now, and the rest as it comes back."""
        self._is_closed = True
        if self._tidying is not None:
            self._tidying.cancel()
        while self._idle:
            self._drop(self._idle.pop())

    async def _reply(self, connection: Connection, request: bytes, timeout_s: float) -> Reply:
        replied = connection.send(request)
        limit = asyncio.get_running_loop().call_later(max(0.0, timeout_s), self._too_late, connection)
        try:
            reply = await replied
        except ConnectionError:
            raise ReplyLost(f"The {self._service} service did not answer in time.", retry_after_s=1) from None
        else:
            self._silent_s = None
            return reply
        finally:
            limit.cancel()
            self._put_back(connection, is_clean=replied.done() and not replied.cancelled())

    def _too_late(self, connection: Connection) -> None:
        self._silent_s = self._clock.monotonic_s()
        connection.close()

    async def _connection(self, ends_s: float) -> Connection:
        while self._open_count >= CONNECTIONS_MAX and not self._idle:
            await self._wait_turn(ends_s - self._clock.monotonic_s())
        oldest_s = self._clock.monotonic_s() - KEEPALIVE_S
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.idle_since_s > oldest_s:
                return connection
            self._drop(connection)
        return await self._connected(min(ends_s - self._clock.monotonic_s(), CONNECT_TIMEOUT_S))

    async def _connected(self, timeout_s: float) -> Connection:
        self._open_count += 1  # counted before it is there, so that a crowd cannot pass the limit while connecting
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._opened()
        except OSError:  # TimeoutError is one
            self._gone()
            self._failed_s = self._clock.monotonic_s()
            raise DependencyDown(f"The {self._service} service cannot be reached.", retry_after_s=1) from None
        except BaseException:
            self._gone()
            raise
        return connection

    async def _opened(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._address.path:
            _, connection = await loop.create_unix_connection(Connection, self._address.path)
        else:
            _, connection = await loop.create_connection(Connection, self._address.host, self._address.port)
        return connection

    async def _wait_turn(self, timeout_s: float) -> None:
        """Wait until a connection is idle or may be opened. Raises DependencyDown when that takes too long."""
        if len(self._waiting) >= WAITING_MAX:
            raise DependencyDown(f"Too many calls wait for the {self._service} service.", retry_after_s=1)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except TimeoutError:
            self._give_up(turn)
            raise DependencyDown(f"The {self._service} service is busy.", retry_after_s=1) from None
        except BaseException:
            self._give_up(turn)
            raise

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        """Wait no longer. A turn that came in the same moment goes to the next, who would never hear of it."""
        if turn.done() and not turn.cancelled():
            self._wake_one()
        else:
            self._waiting.pop(turn, None)

    def _put_back(self, connection: Connection, *, is_clean: bool) -> None:
        if not is_clean or connection.closed or self._is_closed:
            self._drop(connection)
            return
        connection.idle_since_s = self._clock.monotonic_s()
        self._idle.append(connection)
        if self._tidying is None:
            self._tidy_later()
        self._wake_one()

    def _tidy_later(self) -> None:
        self._tidying = asyncio.get_running_loop().call_later(KEEPALIVE_S, self._tidy)

    def _tidy(self) -> None:
        """Close what has idled too long, and let go of what the service has closed."""
        oldest_s = self._clock.monotonic_s() - KEEPALIVE_S
        idle, self._idle = self._idle, deque()
        for connection in idle:
            if connection.closed or connection.idle_since_s <= oldest_s:
                self._drop(connection)
            else:
                self._idle.append(connection)
        self._tidying = None
        if self._idle:
            self._tidy_later()

    def _drop(self, connection: Connection) -> None:
        connection.close()
        self._gone()

    def _gone(self) -> None:
        self._open_count -= 1
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
