"""What carries the events loses them, brings back old ones, stops for a long time, or tells all of them again."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from tests.e2e.system import IS_NATIVE
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


def _replace(data: Path, older: Path | None) -> None:
    """Delete what the folder has, and put the older copy in its place if there is one."""
    for path in data.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if older is not None:
        shutil.copytree(older, data, dirs_exist_ok=True)
