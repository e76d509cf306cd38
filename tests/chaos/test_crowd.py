"""The crowd against a gateway that answers as it is told: who insists, who gives up, whose place was lost."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtest.buying import client as client_module
from loadtest.buying import crowd as crowd_module
from loadtest.buying.client import Client, GaveUp
from loadtest.buying.crowd import Crowd, Scene
from loadtest.chaos.load import Load

HOLD = ("POST", "/concert/reservation")
Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]
Script = Callable[[web.Request], Answer]


def problem(code: str) -> dict[str, str]:
    return {"code": code}


@asynccontextmanager
async def gateway(script: Script) -> AsyncIterator[Client]:
    """A client of a gateway that answers as the script says."""

    async def answer(request: web.Request) -> web.Response:
        status, body, *headers = script(request)
        return web.json_response(body, status=status, headers=headers[0] if headers else None)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Client([str(server.make_url("")).rstrip("/")], "static", random.Random(1), session)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAUSES_S", (0.01, 0.02))
    monkeypatch.setattr(client_module, "AT_WORK_PAUSE_S", 0.01)


async def test_an_app_asks_three_times_under_one_key_and_then_tells_its_user() -> None:
    keys = []

    def always_down(request: web.Request) -> Answer:
        keys.append(request.headers["Idempotency-Key"])
        return 503, problem("DEPENDENCY_DOWN")

    async with gateway(always_down) as client:
        with pytest.raises(GaveUp, match="hold: 503 DEPENDENCY_DOWN"):
            await client.insist("hold", HOLD, {"userId": 1}, key="k")
    assert keys == ["k"] * 3
    assert [(call.told, call.is_error) for call in client.seen] == [("503 DEPENDENCY_DOWN", True)] * 3


async def test_a_crowd_after_another_one_sends_keys_of_its_own_and_wants_seats_that_are_left() -> None:
    sent = []

    def sold(request: web.Request) -> Answer:
        sent.append(request.headers["Idempotency-Key"])
        return (201, {"id": "r-1"}) if request.path.endswith("/reservation") else (200, {"id": "p-1"})

    async with gateway(sold) as client:
        client.prefix = "later-"
        scene = Scene(users=10, schedules=6, seats=3, taken=frozenset({(1, 1), (1, 2)}))
        crowd = Crowd(client, scene, random.Random(1))
        assert await crowd._buy() == ""
        assert await crowd._buy() == "sold out: give the system more schedules"
    assert sent == ["later-b1-hold", "later-b1-pay"]


def test_two_loads_of_one_seed_send_different_keys() -> None:
    prefixes = set()
    for _ in range(2):
        load = Load(["http://127.0.0.1:1"], "static", Scene(users=10, schedules=6, seats=3), seed=0)
        load.start()
        prefixes.add(load.end().client.prefix)
    assert len(prefixes - {""}) == 2


async def test_it_waits_as_long_as_it_is_asked_to() -> None:
    asked_s = []

    def down_once(_: web.Request) -> Answer:
        asked_s.append(time.monotonic())
        return (503, problem("OVERLOADED"), {"Retry-After": "1"}) if len(asked_s) == 1 else (201, {"id": "r-1"})

    async with gateway(down_once) as client:
        assert (await client.insist("hold", HOLD, {}, key="k")).status == 201
    assert asked_s[1] - asked_s[0] >= 1.0


async def test_a_request_that_is_still_at_work_is_waited_for_and_is_no_failed_try() -> None:
    answers = iter([*[(409, problem("REQUEST_IN_PROGRESS"))] * 5, (201, {"id": "r-1"})])
    async with gateway(lambda _: next(answers)) as client:
        assert (await client.insist("hold", HOLD, {}, key="k")).json == {"id": "r-1"}
    assert not [call for call in client.seen if call.is_error]


async def test_a_refusal_is_an_answer_and_is_not_asked_again() -> None:
    async with gateway(lambda _: (409, problem("SEAT_TAKEN"))) as client:
        told = await client.insist("hold", HOLD, {}, key="k")
    assert (told.code, len(client.seen), len(client.history.lines)) == ("SEAT_TAKEN", 1, 1)


async def test_the_auditor_is_told_when_a_key_was_first_sent_since_its_effect_may_be_that_old() -> None:
    answers = iter([(503, problem("DEPENDENCY_DOWN")), (201, {"uuid": "t-1"})])
    async with gateway(lambda _: next(answers)) as client:
        await client.insist("join", ("POST", "/token/create"), {}, key="k")
    first, second = (orjson.loads(line) for line in client.history.lines)
    assert first["sent_ms"] == second["sent_ms"] < second["answered_ms"]


async def test_a_call_that_is_lost_is_an_error_and_nothing_that_the_auditor_is_told() -> None:
    async with aiohttp.ClientSession() as session:
        client = Client(["http://127.0.0.1:1"], "static", random.Random(1), session)
        with pytest.raises(GaveUp, match="hold: connection lost"):
            await client.insist("hold", HOLD, {}, key="k")
    assert (len(client.seen), client.history.lines) == (3, [])


def place(position: int, state: str = "WAITING") -> Answer:
    told = {"position": position, "state": state, "pollAfterMs": 1}
    return 200, {"waitingQueueWithPositionResult": told}


async def walked(*polls: Answer) -> Crowd:
    """One person who joins at position 5 and polls; the crowd goes home when the answers are out."""
    until, left = asyncio.Event(), list(polls)

    def script(request: web.Request) -> Answer:
        if request.method == "DELETE":
            return 204, None
        if request.path.endswith("/create"):
            return 201, {"uuid": "t-1", "position": 5}
        if request.path.endswith("/token"):
            if len(left) == 1:
                until.set()
            return left.pop(0)
        return 201, {"id": "r-1"} if request.path.endswith("/reservation") else {"id": "p-1"}

    async with gateway(script) as client:
        scene = Scene(users=10, schedules=10, seats=10, buyers_per_s=0, rivals=0, walkers_per_s=1000.0, line_max=1)
        crowd = Crowd(client, scene, random.Random(1))
        async with asyncio.timeout(10):
            await crowd.run(until)
    return crowd


async def test_a_place_that_moves_up_is_not_lost() -> None:
    assert (await walked(place(5), place(3), place(3), place(1), (503, {}, {"Retry-After": "0"}))).lost_places == []


async def test_a_place_that_moves_back_or_is_gone_is_lost() -> None:
    assert (await walked(place(3), place(4))).lost_places == ["ticket t-1 went from position 3 to 4"]
    assert (await walked(place(0, "ENDED"))).lost_places == ["ticket t-1 at position 5 has ended"]
    (lost,) = (await walked((401, problem("TOKEN_INVALID")))).lost_places
    assert "401 TOKEN_INVALID" in lost


async def test_who_came_in_is_noted_and_who_is_never_let_in_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    came_in = await walked(place(0, "INSIDE"), place(0, "INSIDE"))
    assert len(came_in.let_in_s) == 2
    monkeypatch.setattr(crowd_module, "LINE_MAX_S", 0.05)
    kept_waiting = await walked(*[place(4)] * 100)
    assert kept_waiting.let_in_s == []
    assert kept_waiting.visits[0].why == "gave up: line: not let in within 0.05 s"


async def test_who_waits_for_an_outcome_asks_again_when_told_to() -> None:
    asked_s = []

    def script(request: web.Request) -> Answer:
        if request.method == "GET":
            asked_s.append(time.monotonic())
            status = "COMPLETED" if len(asked_s) == 2 else "PENDING"
            return 200, {"status": status}, {"Retry-After": "1"}
        return (202, {"id": "p-1"}) if request.path.endswith("/payment") else (201, {"id": "r-1"})

    async with gateway(script) as client:
        crowd = Crowd(client, Scene(users=10, schedules=10, seats=10), random.Random(1))
        assert await crowd._buy() == ""
    assert asked_s[1] - asked_s[0] >= 1.0


async def test_who_comes_back_to_the_head_of_the_line_has_lost_nothing() -> None:
    assert (await walked(place(0, "WAITING"), place(1))).lost_places == []
