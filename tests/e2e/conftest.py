"""One running system for all end-to-end tests that do not stop it; each test uses schedules and users of its own."""

from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import count
from json import dumps  # orjson refuses integers beyond 64 bits, which a client may send
from typing import Any

import aiohttp
import pytest

from libs.common.system import SystemClock
from libs.common.testing.app_client import Answered
from tests.buyer import Buyer
from tests.e2e.system import HISTORIES, IS_NATIVE, RunningSystem

# The stand-in for MongoDB takes about a thousand operations a second: 1,200 people who come in at once are too many.
CROWDED = {"DEMO_SCHEDULES": "80", "ROOM_CAPACITY": "100" if IS_NATIVE else "2000"}

_numbers = count(1)
now_ms = SystemClock().now_ms


class HttpCaller:
    """`tests.buyer.Caller` over real HTTP. What it sees is written down for the audit of the system."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._history = HISTORIES[url]

    async def call(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, raw: bytes = b""
    ) -> Answered:
        body = raw if json is None else dumps(json).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        sent_ms = now_ms()
        async with self._session.request(method, self._url + path, data=body or None, headers=sent) as response:
            answered = {name.lower(): value for name, value in response.headers.items()}
            reply = Answered(response.status, answered, await response.read())
        self._history.add(method, path, json, sent, (sent_ms, now_ms()), reply)
        return reply


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    running = RunningSystem(tmp_path_factory.mktemp("system"), **CROWDED).start()
    yield running
    running.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=15)) as session:
        yield session


@pytest.fixture
def caller(system: RunningSystem, session: aiohttp.ClientSession) -> HttpCaller:
    return HttpCaller(session, system.url)


@pytest.fixture
def number() -> int:
    """A number of this test's own: its schedule, and a user without a wallet at 100,000 + number."""
    return next(_numbers)


@pytest.fixture
def buyer(caller: HttpCaller, number: int) -> Buyer:
    """A demo user with points, inside by the static token."""
    return Buyer(caller, user=number)


@pytest.fixture
def newcomer(caller: HttpCaller, number: int) -> Buyer:
    """Somebody without a wallet."""
    return Buyer(caller, user=100_000 + number)
