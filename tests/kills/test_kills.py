"""Processes that die, stand still, or are replaced while people buy and wait."""

import asyncio
import time
from pathlib import Path

import pytest

from infra.local.settings import ROOMS
from tests.e2e.system import WARM_START_S
from tests.kills.stage import NAMES, under_way

pytestmark = pytest.mark.e2e

KILLS_BEYOND_ONE_EACH = 2
CRASHES = 2
OUTLASTED_S = 2.0
FREEZE_S = (OUTLASTED_S + 1.0, OUTLASTED_S + 2.5)


async def test_whatever_is_killed_comes_back_and_no_purchase_and_no_place_is_lost(tmp_path: Path, seed: int) -> None:
    async with under_way(tmp_path, "kills", seed) as stage:
        victims = [*NAMES, *stage.chance.choices(NAMES, k=KILLS_BEYOND_ONE_EACH)]
        stage.chance.shuffle(victims)
        for name in victims:
            await stage.ended("kill", name)
            await stage.some_purchases()


async def test_who_stands_still_for_longer_than_every_deadline_wakes_up_to_what_was_decided_meanwhile(
    tmp_path: Path, seed: int
) -> None:
    short = dict.fromkeys(("SESSION_S", "HOLD_S", "PAY_DEADLINE_S"), str(OUTLASTED_S))
    async with under_way(tmp_path, "freezes", seed, **short, PAY_WAIT_S="0.5") as stage:
        for name in stage.chance.sample(("reservation", "wallet", "queue"), k=3):
            began_s = time.monotonic()
            await stage.tell("pause", name)
            stage.seen.faults.append(f"freeze {name}")
            await asyncio.sleep(stage.chance.uniform(*FREEZE_S))
            await stage.tell("resume", name)
            await stage.ready_since(time.monotonic(), began_s, name)
            await stage.some_purchases()


async def test_a_system_that_loses_its_power_goes_on_where_it_was(tmp_path: Path, seed: int) -> None:
    async with under_way(tmp_path, "power", seed) as stage:
        for _ in range(CRASHES):
            began_s = time.monotonic()
            await asyncio.to_thread(stage.system.crash)
            stage.seen.faults.append("power")
            up_s = time.monotonic()
            await asyncio.to_thread(stage.system.start)
            assert time.monotonic() - up_s < WARM_START_S
            await stage.ready_since(time.monotonic(), began_s, "the whole system")
            await stage.some_purchases()


async def test_services_that_are_replaced_one_after_another_fail_nobody_who_asks_again(
    tmp_path: Path, seed: int
) -> None:
    async with under_way(tmp_path, "rolling", seed) as stage:
        for name in stage.chance.sample(ROOMS, k=len(ROOMS)):
            await stage.ended("restart", name)
            await stage.some_purchases()
    assert stage.seen.confirmed == stage.seen.purchases
