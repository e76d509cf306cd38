"""What a connection is told before any app sees a request, over real sockets: byte by byte, and by whoever is slow."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import orjson
import pytest
from aiohttp import web

from libs.common.config import ServiceSettings
from libs.common.metrics import CommonMetrics
from libs.common.system import SystemClock
from libs.common.web import runner as serving_runner
from libs.common.web.app import base_app
from libs.common.web.reading import whole_body
from libs.common.web.runner import Refuse, Runner, is_whole

HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
BODY_TIMEOUT_S = 0.2
ENVELOPE = {"type", "title", "status", "detail", "instance", "code", "traceId"}


@asynccontextmanager
async def listening(refuse: Refuse | None = None) -> AsyncIterator[int]:
    """The port of an app that echoes bodies, answers `/large` with more than sockets hold, and `/slow` in 0.1 s."""

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await whole_body(request, BODY_TIMEOUT_S))

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(32 * 2**20))

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.1)
        return web.Response(body=b"at last")

    app = base_app(ServiceSettings(port=1), SystemClock(), CommonMetrics("toy"))
    app.router.add_post("/echo", echo)
    app.router.add_get("/large", large)
    app.router.add_get("/slow", slow)
    runner = Runner(app, keepalive_s=15, shutdown_s=1, refuse=refuse)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def told(*pieces: bytes, hangs_up: bool = False, refuse: Refuse | None = None) -> bytes:
    """All that a connection says until it is closed at the other end; each piece is sent after the last was read."""
    async with listening(refuse) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.02)  # or they would arrive as one
        if hangs_up:
            writer.write_eof()
        said = await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        return said


def problem(said: bytes) -> tuple[int, str]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    document = orjson.loads(body)
    assert set(document) >= ENVELOPE
    assert document["traceId"]
    return document["status"], document["code"]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 is not HTTP\r\n\r\n",
        b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 9_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Expect: a-miracle\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_a_problem_and_leaves_no_line_in_the_log(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert problem(await told(sent)) == (400, "MALFORMED_REQUEST")
    assert caplog.records == []


async def test_a_second_request_that_is_not_http_is_no_bug_of_ours_either(caplog: pytest.LogCaptureFixture) -> None:
    said = await told(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert said.count(b"HTTP/1.1 200 ") == 1
    assert b"MALFORMED_REQUEST" in said
    assert caplog.records == []


@pytest.mark.parametrize("coded", [b"Content-Length: 9\r\n\r\nx", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"])
async def test_a_body_that_does_not_come_is_given_up(coded: bytes) -> None:
    assert problem(await told(HEAD + coded)) == (408, "BODY_TOO_SLOW")


@pytest.mark.parametrize("rest", [b"", b"zz\r\n"])
async def test_who_hangs_up_or_breaks_off_within_a_body_leaves_no_traceback(
    rest: bytes, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    said = await told(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", rest, hangs_up=True)
    assert b"HTTP/1.1 5" not in said
    assert caplog.records == []
    assert "Traceback" not in capsys.readouterr().out


async def test_a_packed_body_nobody_reads_is_not_unpacked(caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    said = await told(head, b"abc", last)
    assert (said.count(b"HTTP/1.1 404 "), said.count(b"HTTP/1.1 200 ")) == (1, 1)
    assert caplog.records == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts how long an answer was not read")
async def test_who_never_reads_an_answer_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_runner, "UNREAD_MS", 500)
    async with listening() as port, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**10)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionError):
            await until_reset(writer)
        writer.close()


async def until_reset(writer: asyncio.StreamWriter) -> None:
    """Write, for only a write finds out about a reset, and read nothing."""
    while True:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)


# Refused before it is parsed

GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
NO_ROOM = b"HTTP/1.1 503 No room\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
LEAVE = b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        GET,
        POST,
        GET[:-2] + b"Connection: keep-alive\r\n\r\n",
        GET[:-2] + LEAVE,
        POST.replace(b"Content-L", b"cOnTENT-l"),
    ],
)
def test_one_plain_request_is_whole(data: bytes) -> None:
    assert is_whole(data)


@pytest.mark.parametrize(
    "data",
    [
        GET[:-1],
        GET + GET,
        POST[:-1],
        POST + b"x",
        GET.replace(b"\r\n", b"\n"),
        GET.replace(b"Host", b"A: b\nHost"),
        GET.replace(b"Host", b"A: b\rHost"),
        POST.replace(b"Content-Length: 2", b"Content-Length : 2"),
        POST.replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 2"),
        POST.replace(b"Content-Length: 2", b"Content-Length: +2"),
        POST.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        POST.replace(b"Content-Length", b"X: y\r\n Content-Length"),
        GET.replace(b"Host", b"Expect: 100-continue\r\nHost"),
        GET.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: websocket\r\nHost"),
    ],
)
def test_what_two_readers_could_read_differently_is_not_whole(data: bytes) -> None:
    assert not is_whole(data)


async def test_a_request_is_refused_without_reaching_the_app_and_the_connection_goes_on() -> None:
    refused: list[bytes] = []

    def refuse(request: bytes) -> bytes | None:
        refused.append(request)
        return NO_ROOM if len(refused) < 3 else None

    said = await told(POST, POST, POST[:-4] + LEAVE + b"hi", refuse=refuse)
    assert said.startswith(NO_ROOM * 2 + b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\n\r\nhi")


@pytest.mark.parametrize("leave", [LEAVE, b"Connection:close\r\n\r\n", b"connection: Close\r\n\r\n"])
async def test_a_refused_client_that_asked_to_be_let_go_is(leave: bytes) -> None:
    assert await told(GET[:-2] + leave, refuse=lambda _: NO_ROOM) == NO_ROOM


async def test_a_refusal_comes_after_every_answer_and_not_before_one_that_is_still_to_come() -> None:
    def refuse(request: bytes) -> bytes | None:
        return NO_ROOM if request.startswith(b"POST") else None

    leaving = POST[:-4] + LEAVE + b"hi"
    said = await told(GET.replace(b"/echo", b"/slow"), leaving, refuse=refuse)
    assert NO_ROOM not in said
    assert said.index(b"at last") < said.index(b"\r\n\r\nhi")
    answered = await told(GET.replace(b"/echo", b"/unknown"), leaving, refuse=refuse)
    assert answered.startswith(b"HTTP/1.1 404 ")
    assert answered.endswith(NO_ROOM)


async def test_nobody_is_asked_about_requests_that_come_in_pieces_or_several_at_once() -> None:
    for pieces in ((POST[:20], POST[20:]), (POST + POST,)):
        said = await told(*pieces, HEAD + b"Content-Length: 2\r\n" + LEAVE + b"ho", refuse=lambda _: NO_ROOM)
        assert b"503" not in said
        assert said.endswith(b"ho")
