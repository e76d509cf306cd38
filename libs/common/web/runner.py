"""The server's side of a connection, where no app has a say: what is not HTTP, what nobody expects, who never reads.

aiohttp would answer these by itself, in plain text, and log a traceback for each: whoever can connect could fill the
disk. Here they get the one shape of our errors, and nothing is logged, because nothing of ours went wrong.

An app that has too much to do may refuse a request here too, on its bytes alone (`Refuse`), for a fifth of what the way
through parser, task and middleware costs. Only requests that leave no doubt about where they end are asked about: two
readings of one stream of bytes are how requests are smuggled.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any

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

Refuse = Callable[[bytes], bytes | None]
"""Given a whole request: the whole answer that refuses it, or None to let it go on."""

_UNPLAIN = re.compile(rb"\n(?:[ \t]|expect|upgrade|transfer-encoding|connection:(?! ?(?:keep-alive|close)\r\n))")
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,9})\r\n")
_GOODBYE = re.compile(rb"\r\nconnection: ?close\r\n", re.IGNORECASE)


class Runner(web.AppRunner):
    """aiohttp's runner of an app, with connections of this kind."""

    def __init__(
        self, app: web.Application, *, keepalive_s: float, shutdown_s: float, refuse: Refuse | None = None
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=keepalive_s,
            lingering_time=LINGERING_S,
            shutdown_timeout=shutdown_s,
            auto_decompress=False,  # a packed body is refused, or is not JSON; it is never unpacked to find out
        )
        self._refuse = refuse

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = _Server(_expecting(made.request_handler), request_factory=made.request_factory, **self._kwargs)
        server.refuse = self._refuse
        return server


class _Server(web.Server):
    refuse: Refuse | None = None

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self.refuse, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ("_answered_count", "_is_plain", "_refuse")

    def __init__(self, server: web.Server, refuse: Refuse | None, **options: Any) -> None:
        super().__init__(server, **options)
        self._refuse = refuse
        self._answered_count = 0
        self._is_plain = refuse is not None
        """True while every piece that came was one whole request, so that the next piece begins another."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer, option = transport.get_extra_info("socket"), getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, option, UNREAD_MS)

    def data_received(self, data: bytes) -> None:
        if self._is_plain and data:  # aiohttp calls this with nothing, to go on where it paused
            self._is_plain = is_whole(data)
            if self._is_plain and self._refuses(data):
                return
        super().data_received(data)

    def _refuses(self, request: bytes) -> bool:
        """Refuse it, unless answers to earlier ones are still to come or to be read: they would overtake them."""
        owes = self._request_count - self._answered_count
        if self._refuse is None or self._close or owes or self.transport is None:
            return False
        if self.transport.get_write_buffer_size():
            return False
        answer = self._refuse(request)
        if answer is None:
            return False
        self.transport.write(answer)
        if _GOODBYE.search(request):
            self.force_close()
        self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        self._answered_count += 1
        return finished

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


def is_whole(data: bytes) -> bool:
    """True for exactly one request, its body included, that any reader of HTTP/1.1 would read so."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    head = data[: head_end + 2].lower()
    if not head.count(b"\n") == head.count(b"\r") == head.count(b"\r\n") or _UNPLAIN.search(head):
        return False
    length = 0
    if b"content-length" in head:
        told = _LENGTH.findall(head)
        if len(told) != 1 or head.count(b"content-length") != 1:
            return False
        length = int(told[0])
    return len(data) == head_end + 4 + length


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
