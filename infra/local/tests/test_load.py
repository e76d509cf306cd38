"""The loader's calls, against a server that plays catalog and wallet."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.local.demo import demo_concert
from infra.local.load import CALLS_MAX, Loader
from infra.local.settings import DemoFigures
from libs.common.contract.catalog import ConcertDraft
from libs.common.errors import ConfigError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rooms:
    """Notes every PUT; `answers` are given first, then 200."""

    def __init__(self) -> None:
        self.puts: dict[str, Any] = {}
        self.calls = 0
        self.together_max = 0
        self.connections: set[object] = set()
        self.answers: list[web.Response] = []
        self._together = 0

    async def put(self, request: web.Request) -> web.Response:
        self._together += 1
        self.calls += 1
        self.together_max = max(self.together_max, self._together)
        self.connections.add(request.transport)
        self.puts[request.path] = await request.json()
        await asyncio.sleep(0)
        self._together -= 1
        return self.answers.pop(0) if self.answers else web.json_response({})


@pytest.fixture
def rooms() -> Rooms:
    return Rooms()


@pytest.fixture
async def url(rooms: Rooms) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_put("/{path:.*}", rooms.put)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_every_wallet_is_opened_over_few_connections(rooms: Rooms, url: str) -> None:
    async with Loader() as loader:
        await loader.put_wallets(url, 200, 7)
    assert rooms.puts == {f"/internal/v1/wallets/{user}": {"amount": 7} for user in range(1, 201)}
    assert rooms.calls == 200
    assert len(rooms.connections) <= CALLS_MAX
    assert rooms.together_max <= CALLS_MAX


async def test_a_concert_is_put_whole_under_its_id(rooms: Rooms, url: str) -> None:
    concert = demo_concert(DemoFigures(schedules=2, seats=60))
    async with Loader() as loader:
        await loader.put_concert(url, concert)
    assert rooms.puts == {"/internal/v1/concerts/1": concert}


async def test_a_busy_service_is_asked_again(rooms: Rooms, url: str) -> None:
    rooms.answers = [web.Response(status=503), web.Response(status=429)]
    async with Loader() as loader:
        await loader.put_wallets(url, 1, 7)
    assert rooms.calls == 3


async def test_a_refusal_is_told_with_the_fields_that_are_wrong(rooms: Rooms, url: str) -> None:
    problem = {"detail": "Some fields are wrong", "errors": [{"pointer": "/amount", "detail": "too large"}]}
    rooms.answers = [web.json_response(problem, status=422)]
    async with Loader() as loader:
        with pytest.raises(ConfigError, match=r"/wallets/1: 422 Some fields are wrong; /amount: too large"):
            await loader.put_wallets(url, 1, 7)
    assert rooms.calls == 1


async def test_a_service_that_is_not_there_is_given_up_after_the_deadline() -> None:
    async with Loader(give_up_s=0.2) as loader:
        with pytest.raises(ConfigError, match=r"loading stopped: PUT http://127\.0\.0\.1:1/internal/v1/wallets/1"):
            await loader.put_wallets("http://127.0.0.1:1", 1, 7)


def test_the_demo_has_sections_of_250_in_rows_of_25() -> None:
    concert = demo_concert(DemoFigures(schedules=3, seats=530))
    assert ConcertDraft.model_validate_json(json.dumps(concert)).id == 1
    assert [night["id"] for night in concert["schedules"]] == [1, 2, 3]
    assert [night["startsAt"] for night in concert["schedules"]][:2] == ["2027-03-01T19:00:00Z", "2027-03-02T19:00:00Z"]
    sections = concert["schedules"][0]["sections"]
    assert [(part["name"], [len(row["seats"]) for row in part["rows"]]) for part in sections] == [
        ("A", [25] * 10),
        ("B", [25] * 10),
        ("C", [25, 5]),
    ]
    seats = [seat for part in sections for row in part["rows"] for seat in row["seats"]]
    assert [seat["id"] for seat in seats] == list(range(1, 531))
    assert seats[25] == {"id": 26, "number": "1", "price": 10_000}
