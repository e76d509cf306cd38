"""`Upstream` over HTTP/1.1: a small client for small requests between our own services.

Why not aiohttp's client: it is made for the whole web, and a call through it costs half as much again as everything
else the gateway does for a request (`docs/adr/0004-a-small-client-between-services.md` has the figures). What is left
out is what our services never say to each other: cookies, redirects, compression, uploads, proxies, TLS.

A service may run in several copies: the setting lists their addresses, or names a host that the network resolves to
several. A call goes to the copy that has the fewest of ours in hand. One that cannot be reached is passed over for a
moment, and the next is tried, because nothing was carried out. One that let a reply wait too long may stand still, and
would soon have the fewest in hand: until it replies it is asked by one call at a time. Once a request is sent it is
never sent again in here: who calls knows whether a repeat does harm.
"""

import ipaddress
import socket
from asyncio import get_running_loop
from collections.abc import Mapping
from urllib.parse import urlsplit

from libs.common import log, trace
from libs.common.clock import Clock
from libs.common.errors import ConfigError, DependencyDown
from libs.common.jobs import Cycle
from libs.common.metrics import CommonMetrics
from libs.common.web.connections import Address, Connections
from libs.common.web.upstream import Reply, ReplyLost

RESOLVE_S = 5.0
"""Between two looks at which addresses the hosts have: as fast as copies come and go."""

ADDRESSES_MAX = 64

logger = log.get_logger(__name__)


class HttpUpstream:
    """A service at `http://host:port` or `unix:///path/of.sock`; several, separated by commas, are its copies.

    Raises ConfigError for any other kind of URL.
    """

    def __init__(self, name: str, urls: str, clock: Clock, metrics: CommonMetrics) -> None:
        self.name = name
        self._configured = [_address(name, url.strip()) for url in urls.split(",")]
        self._host_line = f"Host: {name}"
        self._clock = clock
        self._copies: dict[Address, Connections] = {}
        self._resolving = Cycle(f"resolve_{name}", RESOLVE_S, self._resolve, clock, metrics)
        self._is_running = False
        self._answered = metrics.call_seconds.labels(name, "http", "ok")
        self._failed = metrics.call_seconds.labels(name, "http", "error")

    async def start(self) -> None:
        self._is_running = True
        self._use([address for address in self._configured if _is_fixed(address)])
        if not all(_is_fixed(address) for address in self._configured):
            await self._resolve()
            await self._resolving.start()

    async def stop(self) -> None:
        self._is_running = False
        await self._resolving.stop()
        self._use([])

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
    ) -> Reply:
        """See `Upstream.call`. The time limit covers waiting for a connection, connecting, and the reply."""
        request = self._written(method, path, headers or {}, body)
        started_s = self._clock.monotonic_s()
        try:
            reply = await self._exchange(request, started_s + timeout_s)
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

    async def _exchange(self, request: bytes, ends_s: float) -> Reply:
        unreached = DependencyDown(f"The {self.name} service cannot be reached.", retry_after_s=1)
        for copy in self._by_preference():
            try:
                return await copy.exchange(request, ends_s)
            except ReplyLost:
                raise
            except DependencyDown as down:
                unreached = down
            if self._clock.monotonic_s() >= ends_s:
                break
        raise unreached

    def _by_preference(self) -> list[Connections]:
        """The copies, the one to try first first."""
        if not self._is_running:
            raise DependencyDown(f"The {self.name} client is not started.")
        copies = list(self._copies.values())
        if len(copies) > 1:
            now_s = self._clock.monotonic_s()
            copies.sort(key=lambda copy: (copy.is_resting(now_s), copy.busy_count))
        return copies

    async def _resolve(self) -> bool:
        """Bring the copies up to date with what the hosts resolve to; one that does not resolve leaves all as it is."""
        found: list[Address] = []
        for address in self._configured:
            if _is_fixed(address):
                found.append(address)
                continue
            try:
                told = await get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            except OSError as error:
                logger.warning("host does not resolve", service=self.name, host=address.host, error=str(error))
                return False
            found += [Address(str(at[0]), address.port) for *_, at in told]
        self._use(found)
        return False

    def _use(self, addresses: list[Address]) -> None:
        """Open pools for addresses that are new, close those of addresses that are gone."""
        wanted = dict.fromkeys(addresses[:ADDRESSES_MAX])
        for gone in [address for address in self._copies if address not in wanted]:
            self._copies.pop(gone).close()
        for address in wanted:
            if address not in self._copies:
                self._copies[address] = Connections(self.name, address, self._clock)


def _address(name: str, url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return Address("", 0, parts.path)
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
        raise ConfigError(f"{name.upper()}_URL: {url!r} is not understood; use http://host:port or unix:///path")
    return Address(parts.hostname, parts.port or 80)


def _is_fixed(address: Address) -> bool:
    """True for what no name service has to be asked for."""
    if address.path or address.host == "localhost":
        return True
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return False
    return True
