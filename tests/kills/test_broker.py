"""What carries the events loses them, brings back old ones, stops for a long time, or tells all of them again."""

import asyncio
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from libs.common.testing.eventually import eventually
from tests.buyer import Buyer
from tests.e2e.conftest import HttpCaller
from tests.e2e.system import BACK_S, IS_NATIVE, RunningSystem, running_system
from tests.kills.replaying import Replay
from tests.kills.stage import under_way

pytestmark = pytest.mark.e2e

BROKER_DOWN_S = 60.0
SESSION_S = "15"
"""A visit ends at the latest after this, also where the word that its seats were paid for is lost."""


async def test_a_redis_that_lost_its_data_or_has_that_of_long_ago_costs_nobody_anything(
    tmp_path: Path, seed: int
) -> None:
    older = tmp_path.with_name(f"{tmp_path.name}-older")
    async with under_way(tmp_path, "redis data", seed, SESSION_S=SESSION_S) as stage:
        await stage.tell("pause", "redis")
        await asyncio.to_thread(shutil.copytree, tmp_path / "redis", older)
        await stage.tell("resume", "redis")
        await stage.some_purchases()
        for fault in stage.chance.sample(("delete", "roll back"), k=2):
            # Not one byte more is written between the change of the files and the end of the process.
            await stage.tell("pause", "redis")
            await asyncio.to_thread(_replace, tmp_path / "redis", older if fault == "roll back" else None)
            stage.seen.faults.append(f"{fault} redis")
            await stage.ended("kill", "redis")
            await stage.some_purchases()


@pytest.mark.skipif(IS_NATIVE, reason="E2E_BACKENDS is native: Kafka keeps what it took, and Redis is no broker there")
async def test_what_the_broker_lost_can_be_told_again(tmp_path: Path) -> None:
    async with running_system(tmp_path) as system, aiohttp.ClientSession() as session:

        async def act(*words: str) -> str:
            return await asyncio.to_thread(system.act, *words)

        async def is_(person: Buyer, state: str) -> bool:
            told = await person.call("GET", "/token")
            return bool(told.json["waitingQueueWithPositionResult"]["state"] == state)

        first, second = (Buyer(HttpCaller(session, system.url), user=user) for user in (1, 2))
        for person in (first, second):
            await person.join()
            await eventually(partial(is_, person, "INSIDE"), message="in from the line")
        held = [await person.hold(1, [seat]) for seat, person in enumerate((first, second), start=1)]
        # What the first one pays is the answer to the call that the frozen queue had already made; nobody asks again.
        await act("pause", "queue")
        for person, reply in zip((first, second), held, strict=True):
            assert (await person.pay(reply.json["id"])).status == 200
        await eventually(lambda: _is_all_published(tmp_path), message="the word that somebody has paid is out")
        await act("pause", "redis")
        await asyncio.to_thread(_replace, tmp_path / "redis", None)
        await act("kill", "redis")
        await act("resume", "queue")
        await eventually(lambda: _are_all_ready(system), BACK_S, "ready again, and the queue has not heard of it")
        assert await is_(second, "INSIDE")
        await act("with-env", "--", sys.executable, "-m", "libs.common.messaging.retell", "--since-s", "60")
        await eventually(partial(is_, second, "ENDED"), BACK_S, "out, as it was told again")


async def test_a_topic_that_is_told_again_from_its_beginning_changes_nothing(tmp_path: Path, seed: int) -> None:
    async with under_way(tmp_path, "replay", seed) as stage:
        replay = await asyncio.to_thread(Replay, stage)
        await replay.told_again()
        await stage.some_purchases()
        stage.at_rest = replay.changes_nothing


@pytest.mark.skipif(not IS_NATIVE, reason="E2E_BACKENDS is not native: embedded, the broker is Redis, killed elsewhere")
async def test_a_broker_that_stops_for_a_minute_delays_and_loses_nothing(tmp_path: Path, seed: int) -> None:
    async with under_way(tmp_path, "broker", seed) as stage:
        began_s = time.monotonic()
        await stage.tell("pause", "kafka")
        stage.seen.faults.append(f"freeze kafka for {BROKER_DOWN_S:g} s")
        await asyncio.sleep(BROKER_DOWN_S)
        if stage.chance.random() < 0.5:
            await stage.ended("kill", "kafka")
        else:
            await stage.tell("resume", "kafka")
            await stage.ready_since(time.monotonic(), began_s, "kafka")
        await stage.some_purchases()


async def _is_all_published(state_dir: Path) -> bool:
    def unpublished() -> list[object]:
        with closing(sqlite3.connect(f"file:{state_dir}/store/reservation.db?mode=ro", uri=True)) as store:
            return store.execute("SELECT id FROM outbox WHERE published = 0").fetchall()

    return not await asyncio.to_thread(unpublished)


async def _are_all_ready(system: RunningSystem) -> bool:
    rows = await asyncio.to_thread(system.status)
    return all(row["state"] == "ready" for row in rows.values())


def _replace(data: Path, older: Path | None) -> None:
    """Delete what the folder has, and put the older copy in its place if there is one."""
    for path in data.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if older is not None:
        shutil.copytree(older, data, dirs_exist_ok=True)
