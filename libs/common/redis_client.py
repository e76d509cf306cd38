"""How this product talks to Redis: one connection, and whatever commands wait in one turn of the loop in one write.

Why not redis-py's client: each of its calls checks a connection out, writes, waits and reads alone, 110–165 µs a call
(23–33 when pipelined); this one costs under 10, and a fifth of a booking's CPU went there. redis-py still reads the
URL, hiredis packs and parses. What hazards.md demands of the client holds by construction:

- Nothing is ever sent twice: no retries in here. Who calls knows whether a repeat does harm.
- No pool that runs dry: all callers share the connection, and what waits is bounded in number and in time.
- A caller that gives up is safe: its reply arrives, finds nobody and is dropped; the connection stays.
- Always RESP2 (no HELLO is sent), so replies have one shape on every server version.
- A blocking read would make everyone wait: it gets a client of its own, with a time limit above its BLOCK.

Commands keep to the Redis 6.2 set. A connection that broke is opened again by the next call, with a back-off during
which calls fail at once. Time limits here are those of the network, by the event loop's own clock.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis
from redis.asyncio.connection import parse_url

from libs.common.errors import ConfigError, DependencyDown

WAITING_COUNT_MAX = 8192
"""Commands whose replies are outstanding; more are refused at once."""

TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 1.0
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0

TICKS_COUNT = 4
"""Looks at the oldest waiting command within its time limit. Ticks are counted instead of seconds, so that a loop which
stood still reads the replies that are there already before it concludes that none came."""

SCHEMES = ("redis", "rediss", "unix")
DEFAULT_PORT = 6379

Argument = str | bytes | int | float

_pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)


class RedisReplied(DependencyDown):
    """Redis answered with an error. `reason` is its first word: NOGROUP, BUSYGROUP, MISCONF, OOM, WRONGTYPE …"""

    def __init__(self, text: str) -> None:
        super().__init__(f"redis replied: {text}", retry_after_s=1)
        self.reason = text.partition(" ")[0]


class _Batch:
    """Commands that one caller sent together; the replies come in their order."""

    __slots__ = ("count", "outcome", "replies")

    def __init__(self, count: int, outcome: "asyncio.Future[list[Any]]") -> None:
        self.count = count
        self.outcome = outcome
        self.replies: list[Any] = []


class _Connection(asyncio.Protocol):
    """One socket. Replies belong to the batches in the order of sending; any doubt about that ends the connection."""

    def __init__(self, timeout_s: float) -> None:
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._tick_s = timeout_s / TICKS_COUNT
        self._reader = hiredis.Reader(replyError=RedisReplied)
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._waiting: deque[_Batch] = deque()
        self._waiting_count = 0
        self._ticker: asyncio.TimerHandle | None = None
        self._watched: _Batch | None = None
        self._ticks = 0

    def send(self, commands: Sequence[Sequence[Argument]]) -> "asyncio.Future[list[Any]]":
        """Send commands with everything else that is sent in this turn of the loop; the future holds their replies."""
        if self.closed:  # lost between the attempt that made it and the turn of a caller who waited for that
            raise DependencyDown("redis: connection lost", retry_after_s=1)
        if self._waiting_count + len(commands) > WAITING_COUNT_MAX:
            raise DependencyDown("redis: too many commands are waiting", retry_after_s=1)
        # Packed before anything is queued: an argument of a wrong type must not leave half a batch behind.
        packed = [_pack(tuple(command)) for command in commands]
        batch = _Batch(len(commands), self._loop.create_future())
        if not self._unsent:
            self._loop.call_soon(self._flush)
        try:
            self._waiting.append(batch)
            self._unsent.extend(packed)
        except MemoryError:  # only one of them may have it: later replies would meet the wrong questions
            self.close("no memory")
            raise
        self._waiting_count += batch.count
        if self._ticker is None:
            self._ticker = self._loop.call_later(self._tick_s, self._tick)
        return batch.outcome

    def close(self, why: str) -> None:
        """End the connection; whoever still waits is told that the outcome is unknown."""
        if self.closed:
            return
        self.closed = True
        if self._ticker is not None:
            self._ticker.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            outcome = self._waiting.popleft().outcome
            if not outcome.done():
                outcome.set_exception(DependencyDown(f"redis: {why}", retry_after_s=1))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(f"connection lost ({exc or 'closed by redis'})")

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._receive(reply)
        except hiredis.ProtocolError as error:
            self.close(f"not understood ({error})")

    def _receive(self, reply: Any) -> None:
        if not self._waiting:
            raise hiredis.ProtocolError("a reply that nobody asked for")
        batch = self._waiting[0]
        batch.replies.append(reply)
        if len(batch.replies) == batch.count:
            self._waiting.popleft()
            self._waiting_count -= batch.count
            if not batch.outcome.done():  # the caller may have given up
                batch.outcome.set_result(batch.replies)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self.closed:
            self._transport.write(b"".join(unsent))

    def _tick(self) -> None:
        self._ticker = None
        if not self._waiting:
            return
        # Replies come in order, so when the oldest is late, all are.
        self._ticks = self._ticks + 1 if self._watched is self._waiting[0] else 0
        self._watched = self._waiting[0]
        if self._ticks >= TICKS_COUNT:
            self.close("no answer in time")
        else:
            self._ticker = self._loop.call_later(self._tick_s, self._tick)


class RedisClient:
    """Commands to one Redis, from any number of callers. Every method that talks raises DependencyDown('redis …').

    `timeout_s` is how long a reply may take; a client for blocking reads needs it above their BLOCK.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, name: str = "stagedoor", setting: str = "REDIS_URL"):
        self._address = _Address(url, setting)
        self._timeout_s = timeout_s
        self._name = name
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self._failures = 0
        self._blocked_until_s = 0.0
        self._last_error = ""
        self._stopped = False

    async def call(self, *command: Argument) -> Any:
        """`await redis.call("GET", key)` → the reply: bytes, int, list or None. Raises RedisReplied for an error."""
        (reply,) = await self.replies((command,))
        if isinstance(reply, RedisReplied):
            raise reply
        return reply

    async def call_many(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands together; raises the first error reply, by when the other commands have run too."""
        replies = await self.replies(commands)
        for reply in replies:
            if isinstance(reply, RedisReplied):
                raise reply
        return replies

    async def replies(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands together; error replies stand in the list as RedisReplied objects."""
        if not commands:
            return []
        connection = self._connection
        if connection is None or connection.closed:
            connection = await self._connect()
        return await connection.send(commands)

    async def ping(self) -> None:
        """Return when Redis answers."""
        await self.call("PING")

    async def close(self) -> None:
        """Disconnect. Calls that wait fail, later ones too."""
        self._stopped = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            self._connection.close("client closed")

    async def _connect(self) -> _Connection:
        if self._stopped:
            raise DependencyDown("redis: client closed")
        if self._connecting is None:
            if asyncio.get_running_loop().time() < self._blocked_until_s:
                raise DependencyDown(f"redis is down: {self._last_error}", retry_after_s=1)
            self._connecting = asyncio.create_task(self._open())
            self._connecting.add_done_callback(self._connected)
        # Shielded: all callers share one attempt, and one of them giving up must not end it for the others.
        return await asyncio.shield(self._connecting)

    def _connected(self, attempt: "asyncio.Task[_Connection]") -> None:
        self._connecting = None
        error = None if attempt.cancelled() else attempt.exception()
        if error is None:
            self._failures = 0
            return
        self._last_error = str(error)
        self._blocked_until_s = asyncio.get_running_loop().time() + min(
            BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(self._failures, 10)
        )
        self._failures += 1

    async def _open(self) -> _Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = await self._address.connect(self._timeout_s)
                try:
                    await self._greet(connection)
                except BaseException:
                    connection.close("no greeting")
                    raise
        except OSError as error:  # TimeoutError is one
            raise DependencyDown(f"redis is down: {str(error) or 'no connection in time'}", retry_after_s=1) from error
        self._connection = connection
        return connection

    async def _greet(self, connection: _Connection) -> None:
        for reply in await connection.send([*self._address.greeting(), ("CLIENT", "SETNAME", self._name)]):
            if isinstance(reply, RedisReplied):
                raise reply


class _Address:
    """What a Redis URL says: where to connect, how to introduce oneself. Raises ConfigError when it says neither."""

    def __init__(self, url: str, setting: str) -> None:
        scheme = urlsplit(url).scheme
        if scheme not in SCHEMES:
            raise ConfigError(f"{setting}: {scheme or url!r} is not a redis URL; use redis://, rediss:// or unix://")
        try:
            parts: dict[str, Any] = dict(parse_url(url))
        except ValueError as wrong:
            raise ConfigError(f"{setting}: {wrong}") from None
        self._path = str(parts.get("path", ""))
        if scheme == "unix" and not self._path:
            raise ConfigError(f"{setting}: unix:// needs the path of a socket, as in unix:///run/redis.sock")
        self._host = str(parts.get("host", "localhost"))
        self._port = int(parts.get("port", DEFAULT_PORT))
        self._db = int(parts.get("db", 0))
        self._login = [str(parts[part]) for part in ("username", "password") if parts.get(part)]
        self._tls = _tls(parts, setting) if scheme == "rediss" else None

    async def connect(self, timeout_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        if self._path:
            _, connection = await loop.create_unix_connection(lambda: _Connection(timeout_s), self._path)
        else:
            _, connection = await loop.create_connection(
                lambda: _Connection(timeout_s), self._host, self._port, ssl=self._tls
            )
        return connection

    def greeting(self) -> list[tuple[Argument, ...]]:
        login: list[tuple[Argument, ...]] = [("AUTH", *self._login)] if self._login else []
        return [*login, ("SELECT", self._db)] if self._db else login


def _tls(parts: dict[str, Any], setting: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=parts.get("ssl_ca_certs"))
        if parts.get("ssl_certfile"):
            context.load_cert_chain(parts["ssl_certfile"], parts.get("ssl_keyfile"))
    except OSError as wrong:
        raise ConfigError(f"{setting}: {wrong}") from None
    if parts.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
