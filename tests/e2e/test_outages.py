"""What stands below the services stops for a while: what goes on, what is refused and how fast, what is lost (nothing).

On BACKENDS=native only: Kafka is the real one; MongoDB is a stand-in, so what is seen of it is what our side does when
a store stops answering. Stopped means frozen: connections stay open and nobody answers, the worst way to be down.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from statistics import median

import aiohttp
import pytest

from libs.common.testing.app_client import Answered
from libs.common.testing.eventually import eventually
from tests.buyer import Buyer
from tests.e2e.conftest import HttpCaller
from tests.e2e.sale import Purchase, Sale
from tests.e2e.system import IS_NATIVE, RunningSystem, running_system

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not IS_NATIVE, reason="E2E_BACKENDS is not native: make test-real runs this"),
]

BROKER_DOWN_S = 30.0
STORE_DOWN_S = 15.0
MAX_SEATS_PER_USER = 8
PAY_WAIT_S = 2.0
FIGURES = {"DEMO_SCHEDULES": "60", "DEMO_USERS": "50"}

BREAKER_OPENS_S = 5.0
REFUSED_WITHIN_S = 0.05
SETTLED_AFTER_BROKER_S = 15.0
BACK_AFTER_STORE_S = 5.0


@asynccontextmanager
async def stopped(system: RunningSystem, name: str) -> AsyncIterator[None]:
    """`name` frozen for the time of a block."""
    await asyncio.to_thread(system.act, "pause", name)
    try:
        yield
    finally:
        await asyncio.to_thread(system.act, "resume", name)


def refuses(answer: Answered) -> bool:
    return answer.status == 503 and "retry-after" in answer.headers


async def test_a_broker_that_stops_for_30_s_delays_payments_and_loses_none(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with running_system(tmp_path, **FIGURES) as running:
        caller = HttpCaller(session, running.url)
        sale, over = Sale(caller, users=range(1, 9), schedules=range(2, 61)), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(sale.run(over))
            await sale.reach(20)
            async with stopped(running, "kafka"):
                down_s = time.monotonic()
                for seat in count(1):
                    if time.monotonic() > down_s + BROKER_DOWN_S:
                        break
                    buyer = Buyer(caller, user=20 + seat // MAX_SEATS_PER_USER)
                    held = await buyer.hold(1, [seat])
                    assert held.status == 201, held.body
                    paid = await buyer.pay(held.json["id"])
                    assert paid.status == 202 or refuses(paid), (paid.status, paid.body)
                    if paid.status == 202:
                        sale.purchases.append(Purchase(buyer, 1, seat, held.json["id"]))
                up_s = time.monotonic()
            over.set()
        await sale.audit(max(1.0, up_s + SETTLED_AFTER_BROKER_S - time.monotonic()))
        # What was in the wallet's hands when the broker stopped was still answered as usual.
        during = [answer for at_s, answer in sale.answers if down_s + PAY_WAIT_S + 1 < at_s < up_s]
        assert all(answer.status in (202, 409) or refuses(answer) for answer in during)


async def test_a_broker_that_is_killed_comes_back_with_all_it_had(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with running_system(tmp_path, **FIGURES) as running:
        sale, over = Sale(HttpCaller(session, running.url), range(1, 9), range(1, 61)), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(sale.run(over))
            await sale.reach(20)
            await asyncio.to_thread(running.act, "kill", "kafka")
            await sale.reach(20)
            over.set()
        await sale.audit(SETTLED_AFTER_BROKER_S)


async def test_a_store_that_stops_for_15_s_is_told_at_once_and_loses_nothing(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with running_system(tmp_path, **FIGURES) as running:
        caller = HttpCaller(session, running.url)
        sale, over = Sale(caller, users=range(1, 9), schedules=range(2, 61)), asyncio.Event()
        probing = Buyer(caller, user=40)
        async with asyncio.TaskGroup() as group:
            group.create_task(sale.run(over))
            await sale.reach(20)
            async with stopped(running, "mongo"):
                down_s = time.monotonic()
                took: list[float] = []
                while time.monotonic() < down_s + STORE_DOWN_S:
                    began_s = time.monotonic()
                    answer = await probing.hold(1, [1])
                    assert refuses(answer), (answer.status, answer.body)
                    if began_s > down_s + BREAKER_OPENS_S:
                        took.append(time.monotonic() - began_s)
                    await asyncio.sleep(0.05)
            await eventually(_succeeds(probing, seat=1), BACK_AFTER_STORE_S, "a hold after the store is back")
            await sale.reach(20)
            over.set()
        # Now and then one request tries whether the store is back, and waits for it.
        assert median(took) < REFUSED_WITHIN_S
        await sale.audit(SETTLED_AFTER_BROKER_S)


async def test_without_redis_everything_goes_on(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with running_system(tmp_path, **FIGURES) as running:
        caller = HttpCaller(session, running.url)
        sale, over = Sale(caller, users=range(1, 9), schedules=range(2, 61)), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(sale.run(over))
            await sale.reach(10)
            async with stopped(running, "redis"):
                down_s = time.monotonic()
                buyer = Buyer(caller, user=40)
                while time.monotonic() < down_s + STORE_DOWN_S:
                    assert await buyer.schedules()
                    assert await buyer.seats(1)
                    held = await buyer.hold(1, [1])
                    assert held.status == 201, held.body
                    assert (await buyer.cancel(held.json["id"])).status == 200
                assert all(answer.status == 200 for at_s, answer in sale.answers if at_s > down_s)
            over.set()
        await sale.audit(SETTLED_AFTER_BROKER_S)


def _succeeds(buyer: Buyer, seat: int) -> Callable[[], Awaitable[bool]]:
    async def hold() -> bool:
        return (await buyer.hold(1, [seat])).status == 201

    return hold
