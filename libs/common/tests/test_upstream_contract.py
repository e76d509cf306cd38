"""The Upstream contract over sockets and in memory, and what only a socket can do wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from libs.common.errors import ConfigError, DependencyDown
from libs.common.metrics import CommonMetrics
from libs.common.system import SystemClock
from libs.common.testing.eventually import eventually
from libs.common.testing.upstream_contract import Serve, Toy, UpstreamContract
from libs.common.web import upstream_http
from libs.common.web.upstream import ReplyLost, Upstream
from libs.common.web.upstream_http import HttpUpstream
from libs.common.web.upstream_memory import MemoryUpstream


@asynccontextmanager
async def http_upstream(port: int) -> AsyncIterator[HttpUpstream]:
    upstream = HttpUpstream("toy", f"http://127.0.0.1:{port}", SystemClock(), CommonMetrics("test"))
    await upstream.start()
    yield upstream
    await upstream.stop()


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[int]:
    """The port of an app that listens on the loopback."""
    runner = web.AppRunner(app, keepalive_timeout=75)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@asynccontextmanager
async def raw_server(answer: bytes, *, then_close: bool = False) -> AsyncIterator[int]:
    """The port of a server that answers every request with the same bytes."""

    open_writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
                if then_close:
                    break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        open_writers.discard(writer)

    async def all_closed() -> bool:
        return not open_writers

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        # The client has stopped by now, or stops with the test: nothing of ours may be left open either way.
        for writer in list(open_writers):
            writer.close()
        await eventually(all_closed)


class TestHttp(UpstreamContract):
    @pytest.fixture
    def serve(self) -> Serve:
        @asynccontextmanager
        async def served(toy: Toy, *, is_up: bool = True) -> AsyncIterator[Upstream]:
            async with listening(toy.app) as port:
                if is_up:
                    async with http_upstream(port) as upstream:
                        yield upstream
                    return
            async with http_upstream(port) as upstream:
                yield upstream

        return served


class TestMemory(UpstreamContract):
    @pytest.fixture
    def serve(self) -> Serve:
        @asynccontextmanager
        async def served(toy: Toy, *, is_up: bool = True) -> AsyncIterator[Upstream]:
            toy.app.freeze()
            yield MemoryUpstream("toy", toy.app if is_up else None)

        return served


async def test_connections_are_bounded_and_those_who_wait_get_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_http, "CONNECTIONS_MAX", 2)
    toy = Toy()
    async with listening(toy.app) as port, http_upstream(port) as upstream:
        await asyncio.gather(*(upstream.call("POST", "/slow", timeout_s=5) for _ in range(6)))
        assert toy.carried_out == 6
        slow = [asyncio.ensure_future(upstream.call("POST", "/slow", timeout_s=5)) for _ in range(2)]

        async def both_have_a_connection() -> bool:
            return not upstream._idle

        await eventually(both_have_a_connection)
        with pytest.raises(DependencyDown, match="busy") as refused:
            await upstream.call("GET", "/echo", timeout_s=0.05)
        assert not isinstance(refused.value, ReplyLost)
        await asyncio.gather(*slow)


async def test_a_service_that_comes_back_is_reached_again() -> None:
    toy = Toy()
    async with listening(toy.app) as port, http_upstream(port) as upstream:
        await upstream.call("GET", "/echo", timeout_s=5)
        upstream._idle[0].close()  # as the service's end of it would

        async def answers() -> bool:
            return (await upstream.call("GET", "/echo", timeout_s=5)).status == 200

        await eventually(answers)


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b""])
async def test_an_answer_that_is_none_is_a_lost_reply(answer: bytes) -> None:
    async with raw_server(answer, then_close=True) as port, http_upstream(port) as upstream:
        with pytest.raises(ReplyLost):
            await upstream.call("GET", "/", timeout_s=1)


async def test_more_than_was_asked_for_ends_the_connection_and_is_nobodys_reply() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    async with raw_server(answer + b"a" + answer + b"b") as port, http_upstream(port) as upstream:
        replies = [(await upstream.call("GET", "/", timeout_s=1)).body for _ in range(3)]
        assert replies == [b"a", b"a", b"a"]


async def test_a_connection_the_service_wants_closed_is_not_used_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"
    async with raw_server(answer, then_close=True) as port, http_upstream(port) as upstream:
        for _ in range(3):
            assert (await upstream.call("GET", "/", timeout_s=1)).body == b"a"


async def test_a_line_break_in_a_header_never_leaves_the_house() -> None:
    async with http_upstream(1) as upstream:
        for path, headers in (("/", {"X": "1\r\nY: 2"}), ("/ HTTP/1.1\r\nX: 1", {}), ("/", {"X": "1\n"})):
            with pytest.raises(ValueError, match="line break"):
                await upstream.call("GET", path, headers=headers, timeout_s=1)


@pytest.mark.parametrize("url", ["", "https://a", "http://", "http://a/b", "a:80"])
async def test_a_url_of_another_kind_is_refused_by_the_name_of_its_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="TOY_URL"):
        HttpUpstream("toy", url, SystemClock(), CommonMetrics("test"))
