"""Calls from one service to another: the port, and the adapter over aiohttp's client.

Tuned as measured: no cookies, no decompression, no redirects, cached URLs, the body read at once, one plain timeout.
The client keeps connections for less time (15 s) than our servers do (75 s), so a request rarely meets a closing one.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import aiohttp
from yarl import URL

from libs.common import trace
from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from libs.common.metrics import CommonMetrics

CONNECT_TIMEOUT_S = 0.5
KEEPALIVE_S = 15.0
CONNECTIONS_MAX = 256


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ReplyLost(DependencyDown):
    """The request was sent and no reply came: it may or may not have been carried out."""


class Upstream(Protocol):
    """One service, as its callers see it."""

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
    ) -> Reply:
        """Send one request; `path` includes the query. Any status is a Reply.

        Raises DependencyDown when nothing was carried out, ReplyLost when that is unknown.
        """
        ...


class HttpUpstream:
    """`Upstream` at a base URL."""

    def __init__(self, name: str, base_url: str, clock: Clock, metrics: CommonMetrics) -> None:
        self.name = name
        self._base = base_url.rstrip("/")
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._url = lru_cache(maxsize=4096)(self._built_url)
        self._answered = metrics.call_seconds.labels(name, "http", "ok")
        self._failed = metrics.call_seconds.labels(name, "http", "error")

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_S, use_dns_cache=True, ttl_dns_cache=10
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
    ) -> Reply:
        if self._session is None:
            raise DependencyDown(f"The {self.name} client is not started.")
        started_s = self._clock.monotonic_s()
        sent_headers = {"traceparent": trace.current.get(), "Content-Type": "application/json", **(headers or {})}
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._session.request(
                    method, self._url(path), headers=sent_headers, data=body or None, allow_redirects=False
                )
                read = await response.read()
        except aiohttp.ClientConnectorError:
            self._failed.observe(self._clock.monotonic_s() - started_s)
            raise DependencyDown(f"The {self.name} service cannot be reached.", retry_after_s=1) from None
        except (aiohttp.ClientError, TimeoutError):
            self._failed.observe(self._clock.monotonic_s() - started_s)
            raise ReplyLost(f"The {self.name} service did not answer in time.", retry_after_s=1) from None
        self._answered.observe(self._clock.monotonic_s() - started_s)
        return Reply(response.status, {name.lower(): value for name, value in response.headers.items()}, read)

    def _built_url(self, path: str) -> URL:
        return URL(self._base + path, encoded=True)
