"""The server's side of a connection, where no app has a say: what is not HTTP, what nobody expects, who never reads.

aiohttp would answer these by itself, in plain text, and log a traceback for each: whoever can connect could fill the
disk. Here they get the one shape of our errors, and nothing is logged, because nothing of ours went wrong.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from libs.common import trace
from libs.common.errors import MalformedRequest
from libs.common.web.problems import problem_response

LINGERING_S = 2.0
"""How long the rest of a body nobody wants is read, so that its sender gets to see the answer."""

UNREAD_MS = 15_000
"""How long an answer may wait for a client that does not read it. The kernel counts, where it can (Linux)."""

HTTP_SERVER_ERROR = 500

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Runner(web.AppRunner):
    """aiohttp's runner of an app, with connections of this kind."""

    def __init__(self, app: web.Application, *, keepalive_s: float, shutdown_s: float) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=keepalive_s,
            lingering_time=LINGERING_S,
            shutdown_timeout=shutdown_s,
            auto_decompress=False,  # a packed body is refused, or is not JSON; it is never unpacked to find out
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(_expecting(made.request_handler), request_factory=made.request_factory, **self._kwargs)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer, option = transport.get_extra_info("socket"), getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, option, UNREAD_MS)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTP_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what the parser refused; a bug keeps aiohttp's, traceback in the log included."""
        if status >= HTTP_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        return _malformed("This cannot be read as HTTP/1.1.", request)


def _expecting(handle: Handle) -> Handle:
    """`handle`, with the refusal of an unknown `Expect`, which comes before every middleware, in our words."""

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handle(request)
        except web.HTTPExpectationFailed:
            return _malformed("Expect can only be 100-continue.", request)

    return serve


def _malformed(detail: str, request: web.BaseRequest) -> web.Response:
    trace.current.set(trace.fresh())
    response = problem_response(MalformedRequest(detail), request.path)
    response.force_close()
    return response
