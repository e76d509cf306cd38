"""Two of every service behind two gateways: all that one of each promises, and only one that leads.

A person in line stays with one gateway, as the connection of a browser does; all others go to both in turn.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import count, cycle
from typing import Any

import aiohttp
import pytest

from infra.local.settings import PORTS_PER_COPY
from libs.common.testing.app_client import Answered
from libs.common.testing.eventually import eventually
from tests.buyer import STATIC_TOKEN, Buyer
from tests.e2e import test_purchase, test_races
from tests.e2e.conftest import CROWDED, HttpCaller
from tests.e2e.sale import Sale
from tests.e2e.system import RunningSystem

pytestmark = pytest.mark.e2e

LEADS_AGAIN_S = 10.0
SETTLED_S = 15.0
QUEUE_PORT_OFFSET = 11

_numbers = count(1)


class EitherGateway:
    """`tests.buyer.Caller` over all gateways."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str]) -> None:
        self.each = [HttpCaller(session, url) for url in urls]
        self._in_turn = cycle(self.each)

    async def call(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, raw: bytes = b""
    ) -> Answered:
        token = (headers or {}).get("X-Waiting-Token", STATIC_TOKEN)
        gateway = next(self._in_turn) if token == STATIC_TOKEN else self.each[sum(token.encode()) % len(self.each)]
        return await gateway.call(method, path, json, headers=headers, raw=raw)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    folder = tmp_path_factory.mktemp("copies")
    running = RunningSystem(folder, COPIES="2", **CROWDED).start()
    yield running
    running.stop()


@pytest.fixture
def caller(system: RunningSystem, session: aiohttp.ClientSession) -> EitherGateway:
    return EitherGateway(session, system.urls)


@pytest.fixture
def number() -> int:
    return next(_numbers)


@pytest.fixture
async def scraper() -> AsyncIterator[aiohttp.ClientSession]:
    """On a connection each: a copy that was killed must not be asked over the old one."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=2)) as session:
        yield session


async def leaders(system: RunningSystem, scraper: aiohttp.ClientSession) -> list[int]:
    """The copies of the queue that say they lead room 1, counted from 1; one that does not answer leads nothing."""
    found = []
    for copy in range(system.copies):
        port = system.port + copy * PORTS_PER_COPY + QUEUE_PORT_OFFSET
        try:
            async with scraper.get(f"http://127.0.0.1:{port}/metrics") as reply:
                text = await reply.text()
        except (aiohttp.ClientError, TimeoutError):
            continue
        if re.search(r'^stagedoor_queue_leader\{room="1"\} 1\.0$', text, re.MULTILINE):
            found.append(copy + 1)
    return found


async def test_one_copy_leads_the_line_and_when_it_is_killed_the_other_one_does(
    system: RunningSystem, scraper: aiohttp.ClientSession, newcomer: Buyer
) -> None:
    (leader,) = await leaders(system, scraper)
    other = 3 - leader
    await asyncio.to_thread(system.act, "pause", _queue(leader))

    async def the_other_one_leads() -> bool:
        return other in await leaders(system, scraper)

    await eventually(the_other_one_leads, LEADS_AGAIN_S)
    await asyncio.to_thread(system.act, "resume", _queue(leader))

    # The one that was frozen still thinks it leads, until its next compare-and-set tells it.
    async def only_one_leads() -> bool:
        return await leaders(system, scraper) == [other]

    await eventually(only_one_leads, 5)
    await asyncio.to_thread(system.act, "kill", _queue(other))
    await newcomer.join()

    async def is_inside() -> bool:
        return await newcomer.position() == 0

    await eventually(is_inside, LEADS_AGAIN_S)
    assert len(await leaders(system, scraper)) == 1


async def test_what_one_gateway_was_told_the_other_one_knows_within_a_second(
    caller: EitherGateway, newcomer: Buyer
) -> None:
    await newcomer.join()
    first, second = (Buyer(gateway, newcomer.user, newcomer.token) for gateway in caller.each)
    assert (await first.leave()).status == 204

    async def has_ended() -> bool:
        reply = await second.call("GET", "/token")
        return bool(reply.json["waitingQueueWithPositionResult"]["state"] == "ENDED")

    await eventually(has_ended, within_s=1)


async def test_a_wallet_and_a_reservation_killed_in_the_middle_of_a_sale_lose_and_double_nothing(
    system: RunningSystem, caller: EitherGateway
) -> None:
    sale, over = Sale(caller, users=range(31, 39), schedules=range(41, 81)), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(sale.run(over))
        for service in ("wallet", "reservation-2", "wallet-2", "reservation"):
            await sale.reach(10)
            restarts = (await asyncio.to_thread(system.status))[service]["restarts"]
            await asyncio.to_thread(system.act, "kill", service)
            await _ready_again(system, service, restarts)
        await sale.reach(20)
        over.set()
    await sale.audit(SETTLED_S)


async def _ready_again(system: RunningSystem, service: str, restarts: int) -> None:
    async def is_ready() -> bool:
        row = (await asyncio.to_thread(system.status))[service]
        return bool(row["restarts"] > restarts and row["state"] == "ready")

    await eventually(is_ready, SETTLED_S, f"{service} ready again")


def _queue(copy: int) -> str:
    return "queue" if copy == 1 else f"queue-{copy}"


# The claims about one of each, on the system above. Last, because a crowd of 1,200 may still be leaving at its end.
for module in (test_purchase, test_races):
    globals().update({name: test for name, test in vars(module).items() if name.startswith("test_")})
