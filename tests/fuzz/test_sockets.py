"""Bytes that are nearly HTTP: every connection is answered or closed, never with a 5xx, and the next one is served."""

import asyncio

import pytest
from hypothesis import strategies as st

from tests.e2e.system import RunningSystem
from tests.fuzz.effort import search
from tests.fuzz.values import HEADER_VALUES
from tests.fuzz.wire import CLIENT_ERROR, SERVER_ERROR, UNAVAILABLE, Heard, Wire, check_envelope, hear, request

pytestmark = pytest.mark.e2e

SUITE = "broken byte streams"
SHARE, EXAMPLES = 0.22, 40
SILENCE_S = 0.1
"""After so long without an answer the rest of a request is being waited for; tests/fuzz/test_slow.py sees it closed."""

GOOD = request("GET", "/api/v1/concert")
BODY = b'{"userId":1,"point":0}'

METHODS = (
    b"GET", b"POST", b"PATCH", b"DELETE", b"PUT", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"PROPFIND",
    b"FOO", b"get", b"G\x01T", b"G" * 300, b"", b"\xff", b"GET\t", b"M-SEARCH",
)  # fmt: skip
TARGETS = (
    b"/api/v1/concert", b"/api/v1/users/charge/point", b"/api/v1/payment", b"/api/v1/token/create", b"/nothing", b"*",
    b"", b"http://x/api/v1/concert", b"http://evil.example:1/api/v1/concert", b"http://x:abc/", b"http:///x",
    b"http://[::1/", b"http://x:999999/", b"//x:abc/", b"//evil/internal/v1/rooms", b"x:80", b"x:abc", b"api", b"?a",
    b"/%", b"/%ff%00", b"/\xff", b"/a b", b"/#x", b"/../internal/v1/rooms", b"/" + b"a" * 9_000,
    b"/?" + b"a=1&" * 1_900, b"/\x00",
)  # fmt: skip
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/11", b"HTTQ/1.1", b"", b"http/1.1")
HEADERS = (
    b"Host: x", b"Host: y", b"Host:", b"Host: a b", b"Host: [::1", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: identity", b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding : chunked",
    b"Content-Length: 22", b"Content-Length: 4", b"Content-Length: 22, 22", b"Content-Length: -1",
    b"Content-Length: +22", b"Content-Length: 0x16", b"Content-Length:", b"Content-Length: 18446744073709551615",
    b"Content-Length: " + b"9" * 40, b"Content-Length: 100000", b"Content-Encoding: gzip",
    b"Content-Encoding: br, deflate", b"Expect: 100-continue", b"Expect: a-miracle", b"Connection: close",
    b"Connection: keep-alive", b"Connection: upgrade\r\nUpgrade: websocket",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", b"Content-Type: application/json", b"Content-Type: \xff",
    b"X-Waiting-Token: test-token", b"X-Waiting-Token: \xff", b"X-Ticket: t", b"Idempotency-Key: k", b"A: b\r\n c",
    b"A: b\nX-Ticket: t", b"A: b\rc", b"A: b\x00c", b": c", b"A", b"A b: c", b"A: " + b"b" * 9_000,
    b"b" * 9_000 + b": c", b"\r\n".join([b"A: b"] * 200), b"Cookie: a=\xff; $$=;;;=", b"Range: bytes=0-99999999999",
    b"If-None-Match: \"", b"X-Forwarded-For: \xff", b"traceparent: " + b"0" * 5_000, b"Trailer: Content-Length",
)  # fmt: skip
BODIES = (
    b"", BODY, BODY * 100, b"x" * 100_000, b"0\r\n\r\n", b"16\r\n" + BODY + b"\r\n0\r\n\r\n", b"zz\r\n",
    b"-1\r\nabc\r\n", b"ffffffffffffffffffff\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"0x3\r\nabc\r\n", b"3\nabc\n0\n\n",
    b"3\r\nabc\r\nzz\r\n", b"0\r\nA: b\r\n\r\n", b"0\r\nA b\r\n\r\n", b"0\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    b"3;" + b"x" * 20_000 + b"\r\n", b"0\r\n\r\nG", b"8\r\nSMUGGLED\r\n0\r\n\r\n", b"f" * 70_000, GOOD, GOOD * 30,
)  # fmt: skip

built = st.builds(
    lambda start, headers, end, body: end.join([b" ".join(start), *headers]) + end * 2 + body,
    st.tuples(st.sampled_from(METHODS), st.sampled_from(TARGETS), st.sampled_from(VERSIONS)),
    st.lists(st.sampled_from(HEADERS), max_size=6),
    st.sampled_from((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n")),
    st.sampled_from(BODIES),
)
"""A request that is wrong in any number of places."""

nearly = st.builds(
    lambda line, headers, body: line + b"".join(header + b"\r\n" for header in (b"Host: x", *headers)) + b"\r\n" + body,
    st.sampled_from((b"POST /api/v1/payment HTTP/1.1\r\n", b"PATCH /api/v1/users/charge/point HTTP/1.1\r\n",
                     b"POST /api/v1/token/create HTTP/1.1\r\n", b"GET /api/v1/concert HTTP/1.1\r\n")),
    st.lists(st.sampled_from(HEADERS[5:] + tuple(b"Content-Type: " + value for value in HEADER_VALUES)), max_size=3),
    st.sampled_from(BODIES),
)  # fmt: skip
"""One that is right but for a header or the body."""

VALID = request("PATCH", "/api/v1/users/charge/point", [("Content-Type", b"application/json")], BODY)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid request with bytes put in, taken out or turned."""
    raw = bytearray(VALID)
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.integers(0, len(raw) - 1))
        raw[where : where + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from((b"\r\n", b"\0", b":"))
        )
    return bytes(raw)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """What one connection is sent, in one piece or two, after a good request or at once."""
    raw = draw(st.one_of(built, nearly, damaged()))
    if draw(st.integers(0, 4)) == 0:
        raw = GOOD + raw
    if draw(st.booleans()):
        return [raw]
    cut = draw(st.integers(0, len(raw)))
    return [raw[:cut], raw[cut:]]


def check_heard(heard: Heard, sent: list[bytes]) -> None:
    """Nothing but answers below 500, and the one refusal of a connection in the shape of our errors."""
    wrong = [status for status in heard.statuses if status >= SERVER_ERROR]
    assert wrong == [] or (set(wrong) == {UNAVAILABLE} and b"Retry-After" in heard.said), f"{heard} to {sent!r}"
    if len(heard.statuses) == 1 and heard.statuses[0] >= CLIENT_ERROR:
        head, _, body = heard.said.partition(b"\r\n\r\n")
        if body and b"problem+json" not in head:
            raise AssertionError(f"{heard} to {sent!r}")
        if body:
            check_envelope(heard.statuses[0], "application/problem+json", body, sent)


def test_no_byte_stream_gets_a_5xx_or_keeps_others_from_being_served(
    system: RunningSystem, loop: asyncio.Runner
) -> None:
    async def tried(sent: list[bytes]) -> None:
        check_heard(await hear(system.port, sent, silence_s=SILENCE_S), sent)
        wire = Wire(system.port)
        assert (await wire.ask(GOOD)).status == 200, f"after {sent!r}"
        await wire.close()

    search(SUITE, lambda sent: loop.run(tried(sent)), streams(), share=SHARE, examples=EXAMPLES)


def test_pipelined_requests_are_answered_in_order_and_all_of_them(system: RunningSystem, loop: asyncio.Runner) -> None:
    pipelined = [GOOD if number % 3 else request("GET", "/nothing") for number in range(100)]
    last = request("PUT", "/healthz", [("Connection", b"close")])
    heard = loop.run(hear(system.port, [b"".join(pipelined), last], silence_s=5))
    assert heard.statuses == [*(200 if number % 3 else 404 for number in range(100)), 405]


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 22\r\n\r\n" + BODY,
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\nX: y\r\n\r\n",
    ],
)
def test_a_body_of_two_lengths_is_refused_and_what_follows_it_is_not_served(
    system: RunningSystem, loop: asyncio.Runner, smuggled: bytes
) -> None:
    sent = b"POST /api/v1/token/create HTTP/1.1\r\nHost: x\r\n" + smuggled + GOOD
    heard = loop.run(hear(system.port, [sent], silence_s=2))
    assert (heard.statuses, heard.is_closed) == ([400], True)
