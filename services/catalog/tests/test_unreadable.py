"""What stands in the store and cannot be read: it takes away itself, and nothing else."""

from typing import Any

import pytest

from libs.common.testing.app_client import AppClient
from services.catalog.service.unreadable import LOOK_AGAIN_S
from services.catalog.tests.kit import Scene, concert_body, in_scene, schedule_body

BROKEN: dict[str, Any] = {"schedule": 2}
WITHOUT_LAYOUT: dict[str, Any] = {"schedule": 2, "concert": 1, "layouts": []}


async def publish_three(scene: Scene) -> None:
    """Schedules 1 to 3, which both running copies have read."""
    await scene.publish(concert_body(*(schedule_body(number) for number in (1, 2, 3))))
    await scene.clock.sleep(2)


async def sample(client: AppClient, series: str) -> float:
    page = (await client.call("GET", "/metrics")).body.decode()
    return float(next(line for line in page.splitlines() if line.startswith(series)).split()[-1])


@pytest.mark.parametrize(("broken", "status"), [(BROKEN, 503), (WITHOUT_LAYOUT, 404)], ids=["unreadable", "missing"])
def test_a_new_copy_gets_ready_for_all_maps_but_the_one_that_cannot_be_read(
    broken: dict[str, Any], status: int
) -> None:
    async def play(scene: Scene) -> None:
        await publish_three(scene)
        await scene.rewrite(2, broken)
        async with AppClient(scene.instance("3")) as late:
            await scene.clock.sleep(3)
            assert (await scene.states(late))["status"] == "ready"
            assert (await scene.seats(2, late)).status == status
            assert [await scene.free(schedule, late) for schedule in (1, 3)] == [[1, 2, 3]] * 2
            assert (await scene.schedules(1, late)).status == 200

    in_scene(play)


def test_a_map_that_cannot_be_read_is_logged_once_and_counted_and_fails_no_job(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def play(scene: Scene) -> None:
        await publish_three(scene)
        await scene.rewrite(2, BROKEN)
        async with AppClient(scene.instance("3")) as late:
            await scene.clock.sleep(10 * LOOK_AGAIN_S)
            told = await scene.seats(2, late)
            assert (told.status, told.json["code"]) == (503, "DEPENDENCY_DOWN")
            assert int(told.headers["retry-after"]) == LOOK_AGAIN_S
            failed = await sample(late, 'stagedoor_catalog_cache_loads_failed_total{kind="schedule"}')
            assert 8 <= failed <= 12
            assert await sample(late, 'stagedoor_job_runs_total{job="catalog_keep_warm",outcome="failed"}') == 0

    in_scene(play)
    logged = capsys.readouterr().out
    assert logged.count("backup") == logged.count("KeyError") == 1
    assert "part of a job failed" not in logged


def test_readers_of_a_map_that_cannot_be_read_cost_the_store_nothing() -> None:
    async def play(scene: Scene) -> None:
        await publish_three(scene)
        await scene.rewrite(2, BROKEN)
        async with AppClient(scene.instance("3")) as late:
            await scene.clock.sleep(3)
            loads = scene.store.loads
            for _ in range(50):
                assert (await scene.seats(2, late)).status == 503
            assert scene.store.loads == loads

    in_scene(play)


def test_a_map_that_was_mended_is_told_soon() -> None:
    async def play(scene: Scene) -> None:
        await publish_three(scene)
        whole = await scene.rewrite(2, BROKEN)
        async with AppClient(scene.instance("3")) as late:
            await scene.clock.sleep(3)
            await scene.rewrite(2, whole)
            await scene.clock.sleep(LOOK_AGAIN_S + 1)
            assert await scene.free(2, late) == [1, 2, 3]

    in_scene(play)


def test_a_shared_copy_that_cannot_be_read_is_not_believed_again() -> None:
    async def play(scene: Scene) -> None:
        await publish_three(scene)
        stamp = scene.clock.now_ms().to_bytes(8, "big")
        scene.shared.copies["stagedoor:catalog:v1:schedule:2"] = stamp + b"{}"
        async with AppClient(scene.instance("3")) as late:
            await scene.clock.sleep(3)
            assert (await scene.states(late))["status"] == "ready"
            await scene.clock.sleep(LOOK_AGAIN_S)
            assert await scene.free(2, late) == [1, 2, 3]

    in_scene(play)


def test_a_release_that_can_read_none_of_the_maps_takes_nobodys_place() -> None:
    async def play(scene: Scene) -> None:
        await publish_three(scene)
        for schedule in (1, 2, 3):
            await scene.rewrite(schedule, BROKEN)
        async with AppClient(scene.instance("3")) as late:
            await scene.clock.sleep(30)
            assert (await scene.states(late))["dependencies"]["cache"] != "ok"

    in_scene(play)


def test_what_a_copy_has_in_memory_is_told_for_its_time_when_the_store_has_it_broken() -> None:
    async def play(scene: Scene) -> None:
        await publish_three(scene)
        await scene.rewrite(2, BROKEN)
        await scene.clock.sleep(30)
        assert await scene.free(2) == [1, 2, 3]
        await scene.clock.sleep(60)
        assert (await scene.seats(2)).status == 503
        assert (await scene.states())["status"] == "ready"

    in_scene(play, schedule_ttl_s=20)
