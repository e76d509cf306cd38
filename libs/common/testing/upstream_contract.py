"""What every adapter of `Upstream` must do, on a toy service that the suite brings along."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest
from aiohttp import web

from libs.common import trace
from libs.common.errors import DependencyDown
from libs.common.web.upstream import ReplyLost, Upstream

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LARGE_BYTES = 300_000


class Toy:
    """A service that echoes, is slow, or answers whatever it is told to; `carried_out` counts finished writes."""

    def __init__(self) -> None:
        self.carried_out = 0
        self.app = web.Application(client_max_size=2**20)
        self.app.router.add_route("*", "/echo", self._echo)
        self.app.router.add_post("/slow", self._slow)
        self.app.router.add_get("/status/{status}", self._status)
        self.app.router.add_get("/large", self._large)

    async def _echo(self, request: web.Request) -> web.Response:
        told = {"method": request.method, "query": request.query_string, "body": (await request.read()).decode()}
        told |= {name: request.headers.get(name, "-") for name in ("X-One", "traceparent", "Content-Type")}
        return web.json_response(told, headers={"X-Answer": "yes"})

    async def _slow(self, _: web.Request) -> web.Response:
        await asyncio.sleep(0.3)
        self.carried_out += 1
        return web.Response()

    async def _status(self, request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]), text="told")

    async def _large(self, _: web.Request) -> web.Response:
        return web.Response(body=b"x" * LARGE_BYTES)


class Serve(Protocol):
    """An upstream onto a toy service that runs; `is_up` False: onto one that does not."""

    def __call__(self, toy: Toy, *, is_up: bool = True) -> AbstractAsyncContextManager[Upstream]: ...


class UpstreamContract:
    """Subclasses provide the fixture `serve`."""

    @pytest.fixture
    def toy(self) -> Toy:
        return Toy()

    @pytest.fixture
    async def upstream(self, serve: Serve, toy: Toy) -> AsyncIterator[Upstream]:
        async with serve(toy) as upstream:
            yield upstream

    async def test_a_request_arrives_as_it_was_sent_with_its_trace(self, upstream: Upstream) -> None:
        trace.current.set(TRACE)
        reply = await upstream.call("POST", "/echo?a=1&b=2", headers={"X-One": "1"}, body=b'{"x":1}', timeout_s=5)
        assert (reply.status, reply.headers["x-answer"]) == (200, "yes")
        for part in ('"POST"', '"a=1&b=2"', '"X-One": "1"', TRACE, "application/json", '{\\"x\\":1}'):
            assert part.encode() in reply.body

    async def test_any_status_is_a_reply(self, upstream: Upstream) -> None:
        for status in (200, 201, 404, 409, 500, 503):
            reply = await upstream.call("GET", f"/status/{status}", timeout_s=5)
            assert (reply.status, reply.body) == (status, b"told")

    async def test_a_large_reply_comes_whole(self, upstream: Upstream) -> None:
        assert len((await upstream.call("GET", "/large", timeout_s=5)).body) == LARGE_BYTES

    async def test_many_calls_at_once_each_get_their_own_reply(self, upstream: Upstream) -> None:
        replies = await asyncio.gather(
            *(upstream.call("GET", f"/echo?n={number}", timeout_s=10) for number in range(300))
        )
        assert all(f'"n={number}"'.encode() in reply.body for number, reply in enumerate(replies))

    async def test_a_reply_that_takes_too_long_is_lost_and_the_work_goes_on(self, upstream: Upstream, toy: Toy) -> None:
        with pytest.raises(ReplyLost):
            await upstream.call("POST", "/slow", timeout_s=0.05)
        await upstream.call("POST", "/slow", timeout_s=5)
        assert toy.carried_out == 2

    async def test_a_caller_that_gives_up_leaves_the_next_one_its_own_reply(self, upstream: Upstream) -> None:
        leaving = asyncio.ensure_future(upstream.call("POST", "/slow", timeout_s=5))
        await asyncio.sleep(0.05)
        leaving.cancel()
        assert b'"n=7"' in (await upstream.call("GET", "/echo?n=7", timeout_s=5)).body

    async def test_a_service_that_is_not_there_carried_nothing_out(self, serve: Serve, toy: Toy) -> None:
        async with serve(toy, is_up=False) as upstream:
            with pytest.raises(DependencyDown) as refused:
                await upstream.call("GET", "/echo", timeout_s=1)
        assert not isinstance(refused.value, ReplyLost)
