"""Systems of their own: short holds, killed services, an orderly end."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import psutil
import pytest

from libs.common.testing.eventually import eventually
from tests.buyer import Buyer
from tests.e2e.conftest import HttpCaller
from tests.e2e.system import BACK_S, BACKEND_NAMES, WARM_START_S, running_system

pytestmark = pytest.mark.e2e

SERVICES = ("queue", "catalog", "reservation", "wallet", "gateway")


async def test_an_expired_hold_frees_its_seats_within_a_second_and_the_catalog_shows_it_within_two(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with running_system(tmp_path, HOLD_S="2", DEMO_SCHEDULES="2", DEMO_USERS="10") as running:
        first, second = (Buyer(HttpCaller(session, running.url), user=user) for user in (1, 2))
        held = await first.hold(1, [1, 2])
        ends_s = time.monotonic() + 2
        assert (await second.hold(1, [2])).code == "SEAT_TAKEN"

        async def is_free() -> bool:
            reply = await second.hold(1, [2])
            return reply.status == 201

        async def is_expired() -> bool:
            return await first.status_of(held.json["id"]) == "EXPIRED"

        async def is_shown() -> bool:
            return 1 in await first.seats(1)

        await eventually(is_free, within_s=ends_s + 1 - time.monotonic())
        await eventually(is_expired, within_s=ends_s + 1 - time.monotonic())
        await eventually(is_shown, within_s=ends_s + 2 - time.monotonic())
        assert (await first.pay(held.json["id"])).code == "HOLD_EXPIRED"


async def test_every_service_comes_back_after_a_kill_and_the_sale_goes_on(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with running_system(tmp_path, DEMO_SCHEDULES="2", DEMO_USERS="10") as running:
        caller = HttpCaller(session, running.url)
        waiting = Buyer(caller, user=9)
        await waiting.join()
        buyer = Buyer(caller, user=1)
        held = await buyer.hold(1, [1])
        assert held.status == 201
        for service in (*SERVICES, *BACKEND_NAMES):
            pid = (await asyncio.to_thread(running.status))[service]["pid"]
            await asyncio.to_thread(running.act, "kill", service)

            async def is_back(service: str = service, pid: int = pid) -> bool:
                status = await asyncio.to_thread(running.status)
                if status[service]["pid"] in (pid, None):
                    return False
                try:
                    return (await caller.call("GET", "/readyz")).status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(is_back, BACK_S, f"{service} back")
        # What was told before the kills still holds.
        assert (await Buyer(caller, user=2).hold(1, [1])).code == "SEAT_TAKEN"

        async def is_inside() -> bool:
            return await waiting.position() == 0

        await eventually(is_inside, within_s=10)
        paid = await buyer.pay(held.json["id"])
        assert paid.status in (200, 202)

        async def is_confirmed() -> bool:
            return await buyer.status_of(held.json["id"]) == "CONFIRMED"

        await eventually(is_confirmed, within_s=10)
        assert len(await buyer.debits()) == 1


async def test_a_payment_asked_for_while_the_wallet_is_down_settles_when_it_is_back(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with running_system(tmp_path, DEMO_SCHEDULES="1", DEMO_USERS="10", PAY_WAIT_S="0.5") as running:
        buyer = Buyer(HttpCaller(session, running.url))
        held = await buyer.hold(1, [1])
        await asyncio.to_thread(running.act, "pause", "wallet")
        paid = await buyer.pay(held.json["id"])
        assert (paid.status, paid.json["status"]) == (202, "PENDING")
        assert paid.headers["location"] == f"/api/v1/payment/{paid.json['id']}"
        await asyncio.to_thread(running.act, "resume", "wallet")

        async def is_completed() -> bool:
            reply = await buyer.payment(paid.json["id"])
            return bool(reply.json["status"] == "COMPLETED")

        await eventually(is_completed, within_s=10)
        assert len(await buyer.debits()) == 1


async def test_everything_is_still_there_after_a_stop_and_a_quick_warm_start(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    figures = {"DEMO_SCHEDULES": "2", "DEMO_USERS": "10"}
    async with running_system(tmp_path, **figures) as running:
        buyer = Buyer(HttpCaller(session, running.url))
        held = await buyer.hold(1, [1])
        assert (await buyer.pay(held.json["id"])).status == 200
        pids = [row["pid"] for row in (await asyncio.to_thread(running.status)).values()]
        assert await asyncio.to_thread(running.stop) == 0
        assert await asyncio.to_thread(_are_gone, pids)

    started_s = time.monotonic()
    async with running_system(tmp_path, **figures) as running:
        assert time.monotonic() - started_s < WARM_START_S
        buyer = Buyer(HttpCaller(session, running.url))
        assert (await buyer.reservation(held.json["id"])).json["status"] == "CONFIRMED"
        assert 1 not in await buyer.seats(1)


async def test_a_supervisor_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    async with running_system(tmp_path, DEMO_SCHEDULES="1", DEMO_USERS="1") as running:
        pids = [row["pid"] for row in (await asyncio.to_thread(running.status)).values()]
        assert len(pids) == len(SERVICES) + len(BACKEND_NAMES)
        await asyncio.to_thread(running.kill)

        async def all_gone() -> bool:
            return await asyncio.to_thread(_are_gone, pids)

        await eventually(all_gone, within_s=10)


def _are_gone(pids: Sequence[int]) -> bool:
    """Whether none of the processes is left. Blocks: psutil lists all of /proc for one that ends while it looks."""
    return not any(psutil.pid_exists(pid) for pid in pids)
