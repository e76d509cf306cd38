"""The twin of `HttpUpstream` without sockets: calls another app in the same event loop.

For the one-loop system and the simulation. The request runs in its own task and context, as behind a socket: a caller
that gives up does not stop it.
"""

import asyncio
import contextvars
from collections.abc import Mapping
from typing import Any

from aiohttp import HttpVersion11, streams, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from libs.common import trace
from libs.common.errors import DependencyDown
from libs.common.web.upstream import Reply, ReplyLost


class _NoConnection:
    """What a request asks of its connection: nobody is at the other end."""

    ssl_context = peername = sockname = transport = None


class MemoryUpstream:
    """`Upstream` onto an app that somebody else starts and stops; None while it is down."""

    def __init__(self, name: str, app: web.Application | None = None) -> None:
        self.name = name
        self.app = app

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
    ) -> Reply:
        if self.app is None:
            raise DependencyDown(f"The {self.name} service cannot be reached.", retry_after_s=1)
        sent_headers = {"traceparent": trace.current.get(), "Content-Type": "application/json", **(headers or {})}
        serving = asyncio.create_task(
            serve_in_memory(self.app, method, path, sent_headers, body), context=contextvars.Context()
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(serving)
        except TimeoutError:
            raise ReplyLost(f"The {self.name} service did not answer in time.", retry_after_s=1) from None


async def serve_in_memory(
    app: web.Application, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> Reply:
    """Run one request through an app: router, middlewares and handler, no socket."""
    loop = asyncio.get_running_loop()
    # All of the body is there at once: a smaller limit would pause a transport that does not exist.
    payload = streams.StreamReader(BaseProtocol(loop), max(2**16, len(body)), loop=loop)
    if body:
        payload.feed_data(body)
    payload.feed_eof()
    given = CIMultiDictProxy(CIMultiDict({**headers, "Content-Length": str(len(body))}))
    message = RawRequestMessage(method, path, HttpVersion11, given, (), False, None, False, False, URL(path))
    # Both private names are what aiohttp's own server uses to hand a request to an app.
    limit = app._client_max_size  # noqa: SLF001
    nowhere: Any = _NoConnection()
    request = web.Request(message, payload, nowhere, nowhere, nowhere, loop, client_max_size=limit)
    response = await app._handle(request)  # noqa: SLF001
    if not isinstance(response, web.Response):
        raise TypeError(f"{method} {path} streams; an in-memory call takes whole responses")
    answered = response.body if isinstance(response.body, bytes) else b""
    return Reply(response.status, {name.lower(): value for name, value in response.headers.items()}, answered)
