"""Clients that are the fault, and the purchase of the steady state, at a gateway that answers as it is told."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from libs.common.errors import ConfigError
from loadtest.chaos import clients
from loadtest.chaos.probes import CALL_S, NotSteady, purchase_works

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
WITHIN_S = 0.5


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Whom clients and probes call."""
    return lambda url: monkeypatch.setenv("TARGET", url)


@asynccontextmanager
async def gateway(answer: Answer, at: Callable[[str], None]) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        at(str(server.make_url("")))
        yield


async def rush(answer: Answer, at: Callable[[str], None]) -> dict[str, int]:
    async with gateway(answer, at):
        answers: dict[str, int] = (await asyncio.to_thread(clients.rush, 20.0, 0.5))["answers"]
        return answers


async def test_a_join_may_get_a_place_or_a_refusal_that_says_when_to_come_again(at: Callable[[str], None]) -> None:
    numbers = count()

    async def answer(_: web.Request) -> web.Response:
        status = (201, 429, 503)[next(numbers) % 3]
        return web.Response(status=status, headers={} if status == 201 else {"Retry-After": "1"})

    assert await rush(answer, at) == {"201": 4, "429 with Retry-After": 3, "503 with Retry-After": 3}


async def test_a_refusal_that_does_not_say_when_to_come_again_is_wrong(at: Callable[[str], None]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503)

    with pytest.raises(ConfigError, match=r"answered \{'503': 10\}"):
        await rush(answer, at)


async def test_a_join_that_is_lost_is_wrong(at: Callable[[str], None]) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    with pytest.raises(ConfigError, match=r"answered \{'not at all': 10\}"):
        await rush(answer, at)


@pytest.mark.parametrize(("refused", "told"), [(0, None), (1, "1 of 3 connections were refused")])
async def test_nobody_who_is_slow_may_be_refused(refused: int, told: str | None, at: Callable[[str], None]) -> None:
    numbers = count()

    async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if next(numbers) >= refused:
            await asyncio.sleep(1.5 * clients.DRIP_S)
        writer.close()

    async with await asyncio.start_server(meet, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        at(f"http://{host}:{port}")
        if told is None:
            assert (await asyncio.to_thread(clients.slow, 1, 1, 1))["opened"] == 3
        else:
            with pytest.raises(ConfigError, match=told):
                await asyncio.to_thread(clients.slow, 1, 1, 1)


async def shop(answer: Answer, at: Callable[[str], None]) -> dict[str, int]:
    async with gateway(answer, at):
        return await asyncio.to_thread(clients.shop, 1.0)


async def test_a_charge_is_sent_until_it_is_answered_and_the_balance_is_what_was_charged(
    at: Callable[[str], None],
) -> None:
    keys: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response({"concertSchedules": []})
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            return web.Response(status=503)
        return web.json_response({"amount": len(set(keys))})

    told = await shop(answer, at)
    assert keys[0] == keys[1]
    assert len(set(keys)) == len(keys) - 1
    assert told["charged"] >= 2
    assert told["looked"] >= 2


async def test_a_charge_that_counts_twice_is_wrong(at: Callable[[str], None]) -> None:
    numbers = count()

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"amount": 2 * next(numbers)} if request.method == "PATCH" else {})

    with pytest.raises(ConfigError, match="a charge of one point made 0 points 2"):
        await shop(answer, at)


async def buy(at: Callable[[str], None], *, hold_takes_s: float = 0.0, drip_s: float = 0.0) -> None:
    """A purchase at a gateway at which a hold takes so long, so much time lies between any two bytes of the answer to
    a payment, and all else takes none."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/available-schedules"):
            return web.json_response({"concertSchedules": [{"id": 1}]})
        if request.path.endswith("/available-seats"):
            return web.json_response({"concertSeatInfo": {"concertSeat": [{"id": 1}]}})
        if request.path.endswith("/reservation"):
            await asyncio.sleep(hold_takes_s)
            return web.json_response({"id": "r-1"}, status=201)
        if request.path.endswith("/payment"):
            dripping = web.StreamResponse()
            await dripping.prepare(request)
            for byte in b"{}":
                await asyncio.sleep(drip_s)
                await dripping.write(bytes([byte]))
            return dripping
        return web.json_response({})

    async with gateway(answer, at):
        await asyncio.to_thread(purchase_works, WITHIN_S)


async def test_a_purchase_in_time_is_steady(at: Callable[[str], None]) -> None:
    await buy(at)


async def test_a_purchase_that_begins_in_time_and_ends_later_is_not_steady(at: Callable[[str], None]) -> None:
    with pytest.raises(NotSteady, match=r"a purchase: not within 0\.5 s"):
        await buy(at, drip_s=0.7 * WITHIN_S)


async def test_no_call_is_waited_for_beyond_that_time(at: Callable[[str], None]) -> None:
    began_s = time.monotonic()
    with pytest.raises(NotSteady):
        await buy(at, hold_takes_s=CALL_S - 1)
    assert time.monotonic() - began_s < CALL_S - 1
