"""The Upstream contract over sockets and in memory, and what only a socket can do wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from libs.common.errors import ConfigError, DependencyDown
from libs.common.metrics import CommonMetrics
from libs.common.system import SystemClock
from libs.common.testing.eventually import eventually
from libs.common.testing.upstream_contract import Serve, Toy, UpstreamContract
from libs.common.web import connections
from libs.common.web.connections import Address, Connections
from libs.common.web.upstream import ReplyLost, Upstream
from libs.common.web.upstream_http import HttpUpstream
from libs.common.web.upstream_memory import MemoryUpstream


@asynccontextmanager
async def upstream_at(urls: str) -> AsyncIterator[HttpUpstream]:
    upstream = HttpUpstream("toy", urls, SystemClock(), CommonMetrics("test"))
    await upstream.start()
    yield upstream
    await upstream.stop()


@asynccontextmanager
async def http_upstream(*ports: int) -> AsyncIterator[HttpUpstream]:
    async with upstream_at(",".join(f"http://127.0.0.1:{port}" for port in ports)) as upstream:
        yield upstream


@asynccontextmanager
async def listening(app: web.Application, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """The port of an app that listens on the loopback."""
    runner = web.AppRunner(app, keepalive_timeout=75)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
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


def pool(upstream: HttpUpstream) -> Connections:
    """The connections to the only copy."""
    (only,) = upstream._copies.values()
    return only


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


class TestUnixSocket(UpstreamContract):
    @pytest.fixture
    def serve(self, tmp_path: Path) -> Serve:
        @asynccontextmanager
        async def served(toy: Toy, *, is_up: bool = True) -> AsyncIterator[Upstream]:
            socket = tmp_path / "toy.sock"
            runner = web.AppRunner(toy.app)
            await runner.setup()
            if is_up:
                await web.UnixSite(runner, str(socket)).start()
            async with upstream_at(f"unix://{socket}") as upstream:
                yield upstream
            await runner.cleanup()

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
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)
    toy = Toy()
    async with listening(toy.app) as port, http_upstream(port) as upstream:
        await asyncio.gather(*(upstream.call("POST", "/slow", timeout_s=5) for _ in range(6)))
        assert toy.carried_out == 6
        slow = [asyncio.ensure_future(upstream.call("POST", "/slow", timeout_s=5)) for _ in range(2)]

        async def both_have_a_connection() -> bool:
            return not pool(upstream)._idle

        await eventually(both_have_a_connection)
        with pytest.raises(DependencyDown, match="busy") as refused:
            await upstream.call("GET", "/echo", timeout_s=0.05)
        assert not isinstance(refused.value, ReplyLost)
        await asyncio.gather(*slow)


async def test_a_turn_that_comes_to_one_who_gives_up_is_passed_on() -> None:
    pool = Connections("toy", Address("127.0.0.1", 1), SystemClock())
    leaving, staying = (asyncio.create_task(pool._wait_turn(1)) for _ in range(2))
    await eventually(lambda: len(pool._waiting) == 2)
    pool._wake_one()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await staying


async def test_who_gives_up_does_not_move_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 0)
    pool = Connections("toy", Address("127.0.0.1", 1), SystemClock())
    line = pool._waiting
    ends_s = SystemClock().monotonic_s() + 0.01
    refusals = await asyncio.gather(*(pool.exchange(b"", ends_s) for _ in range(100)), return_exceptions=True)
    assert {type(refusal) for refusal in refusals} == {DependencyDown}
    assert pool._waiting is line  # one made anew for each: thousands who give up at once would hold everything up
    assert not line


async def test_a_service_that_comes_back_is_reached_again() -> None:
    toy = Toy()
    async with listening(toy.app) as port, http_upstream(port) as upstream:
        await upstream.call("GET", "/echo", timeout_s=5)
        pool(upstream)._idle[0].close()  # as the service's end of it would

        async def answers() -> bool:
            return (await upstream.call("GET", "/echo", timeout_s=5)).status == 200

        await eventually(answers)


async def test_connections_that_a_busy_moment_opened_are_closed_though_calls_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "KEEPALIVE_S", 0.2)
    toy = Toy()
    async with listening(toy.app) as port, http_upstream(port) as upstream:
        await asyncio.gather(*(upstream.call("POST", "/slow", timeout_s=5) for _ in range(4)))
        *surplus, _ = pool(upstream)._idle
        assert len(surplus) == 3

        async def one_is_left() -> bool:
            await upstream.call("GET", "/echo", timeout_s=5)
            return pool(upstream)._open_count == 1

        await eventually(one_is_left)
        assert all(connection.closed for connection in surplus)
        await eventually(lambda: pool(upstream)._open_count == 0, message="the last one, once nobody calls")


class StoppedClock(SystemClock):
    """For it nothing ever grows old."""

    def monotonic_s(self) -> float:
        return 0.0


async def test_a_connection_that_the_service_closed_is_not_counted_though_nobody_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "KEEPALIVE_S", 0.05)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
    async with raw_server(answer, then_close=True) as leaving, raw_server(answer) as staying:
        left, kept = (Connections("toy", Address("127.0.0.1", port), StoppedClock()) for port in (leaving, staying))
        for each in (left, kept):
            assert (await each.exchange(b"GET / HTTP/1.1\r\n\r\n", ends_s=5)).body == b"a"
        await eventually(lambda: left._open_count == 0)
        assert kept._open_count == 1
        for each in (left, kept):
            each.close()
        assert kept._open_count == 0
        assert kept._tidying is not None
        assert kept._tidying.cancelled()


async def test_copies_share_the_calls_and_one_that_ends_is_passed_over() -> None:
    staying, leaving = Toy(), Toy()
    async with listening(staying.app) as first:
        async with listening(leaving.app) as second, http_upstream(first, second) as upstream:
            await asyncio.gather(*(upstream.call("POST", "/slow", timeout_s=5) for _ in range(10)))
            assert (staying.carried_out, leaving.carried_out) == (5, 5)
        async with http_upstream(second, first) as upstream:
            await asyncio.gather(*(upstream.call("POST", "/slow", timeout_s=5) for _ in range(10)))
            assert staying.carried_out == 15


async def test_a_copy_that_stands_still_is_asked_by_one_call_at_a_time_until_it_replies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "SILENT_REST_S", 0.2)
    frozen, working = Toy(), Toy()
    goes_on = asyncio.Event()

    @web.middleware
    async def stands_still(request: web.Request, handler: Handler) -> web.StreamResponse:
        await goes_on.wait()
        return await handler(request)

    frozen.app.middlewares.append(stands_still)

    async def ask(timeout_s: float) -> bool:
        try:
            await upstream.call("POST", "/echo", timeout_s=timeout_s)
        except ReplyLost:
            return False
        return True

    async with (
        listening(frozen.app) as first,
        listening(working.app) as second,
        http_upstream(first, second) as upstream,
    ):
        assert await asyncio.gather(*(ask(0.1) for _ in range(4))) == [False, True, False, True]
        assert all(await asyncio.gather(*(ask(5) for _ in range(10)))), "it was silent a moment ago"
        await asyncio.sleep(0.2)
        one_looks = await asyncio.gather(*(ask(0.1) for _ in range(10)))
        assert one_looks.count(False) == 1
        goes_on.set()
        await asyncio.sleep(0.2)
        await ask(5)
        await asyncio.gather(*(upstream.call("POST", "/slow", timeout_s=5) for _ in range(4)))
        assert frozen.carried_out == 2, "it replies again, and has its share"


async def test_a_host_is_asked_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    toys = Toy(), Toy()
    async with listening(toys[0].app) as first, listening(toys[1].app, "127.0.0.2", first):
        resolved = [(0, 0, 0, "", (host, first)) for host in ("127.0.0.1", "127.0.0.2")]

        async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
            assert (host, port) == ("toys", first)
            return list(resolved)

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        async with upstream_at(f"http://toys:{first}") as upstream:
            await asyncio.gather(*(upstream.call("POST", "/slow", timeout_s=5) for _ in range(4)))
            assert [toy.carried_out for toy in toys] == [2, 2]
            del resolved[0]
            await upstream._resolve()
            await asyncio.gather(*(upstream.call("POST", "/slow", timeout_s=5) for _ in range(4)))
            assert [toy.carried_out for toy in toys] == [2, 6]


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


@pytest.mark.parametrize("url", ["", "https://a", "http://", "http://a/b", "a:80", "unix://", "http://a,"])
async def test_a_url_of_another_kind_is_refused_by_the_name_of_its_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="TOY_URL"):
        HttpUpstream("toy", url, SystemClock(), CommonMetrics("test"))
