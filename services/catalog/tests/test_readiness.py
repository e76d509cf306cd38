"""The catalog alone: when it is ready, and what goes on while a part is gone."""

import pytest

from libs.common.testing.app_client import AppClient
from libs.common.web.upstream import Reply
from services.catalog.tests.kit import (
    Scene,
    concert_body,
    held,
    in_scene,
    schedule_body,
)


def test_a_catalog_is_ready_once_its_caches_are_warm_and_a_snapshot_is_merged() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        scene.reservation.down = True
        async with AppClient(scene.instance("3")) as late:
            await scene.clock.sleep(5)  # several tries, each of which fails
            states = await scene.states(late)
            assert states["status"] == "not ready"
            assert states["dependencies"]["cache"] == "ok"
            assert states["dependencies"]["view"] != "ok"
            scene.reservation.down = False
            await scene.clock.sleep(2)
            assert (await scene.states(late))["status"] == "ready"

    in_scene(play)


def test_a_store_that_comes_late_delays_readiness_only() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        scene.store.down = True
        # The shared cache has copies, but not for ever, and one that is empty has none.
        scene.shared.copies.clear()
        async with AppClient(scene.instance("3")) as late:
            assert (await scene.states(late))["dependencies"]["cache"] != "ok"
            scene.store.down = False
            await scene.clock.sleep(6)
            assert (await scene.states(late))["status"] == "ready"
            assert await scene.free(1, late) == [1, 2, 3]

    in_scene(play)


def test_everything_is_warm_before_anyone_asks() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(*(schedule_body(n) for n in range(1, 201))))
        await scene.clock.sleep(3)
        scene.store.down = True
        loads = scene.store.loads
        for schedule in range(1, 201):
            assert (await scene.seats(schedule, scene.other)).status == 200
        assert (await scene.schedules(1, scene.other)).status == 200
        assert scene.store.loads == loads

    in_scene(play)


def test_a_catalog_is_not_ready_before_everything_is_in_memory() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(*(schedule_body(n) for n in range(1, 101))))
        scene.shared.copies.clear()
        scene.shared.delay_s = 0.04  # so that warming up takes a while
        async with AppClient(scene.instance("3")) as late:
            tries = 0
            while (await scene.states(late))["status"] != "ready":
                tries += 1
            assert tries > 0
            scene.store.down = scene.shared.down = True
            assert [(await scene.seats(schedule, late)).status for schedule in range(1, 101)] == [200] * 100

    in_scene(play)


def test_maps_that_do_not_fit_into_memory_are_loaded_when_asked_for() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(*(schedule_body(n) for n in range(1, 8))))
        await scene.clock.sleep(2)
        assert (await scene.states())["status"] == "ready"
        assert [await scene.free(schedule) for schedule in range(1, 8)] == [[1, 2, 3]] * 7

    in_scene(play, cached_seats_max=10)


def test_a_map_that_is_not_kept_warm_may_run_out_and_alarms_nobody() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(
            concert_body(schedule_body(1, seats=5), schedule_body(2, seats=6), schedule_body(3, seats=3))
        )
        assert await scene.free(3) == [1, 2, 3]  # fits beside the first, and is not kept warm
        for _ in range(12):
            await scene.clock.sleep(5)
            page = (await scene.client.call("GET", "/metrics")).body.decode()
            left = next(
                line
                for line in page.splitlines()
                if line.startswith('stagedoor_catalog_cache_ttl_left_seconds{kind="schedule"}')
            )
            assert float(left.split()[1]) > 0

    in_scene(play, cached_seats_max=10, schedule_ttl_s=30)


def test_nothing_expires_while_the_store_answers() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        for _ in range(40):
            await scene.clock.sleep(7)
            page = (await scene.client.call("GET", "/metrics")).body.decode()
            left = [line for line in page.splitlines() if line.startswith("stagedoor_catalog_cache_ttl_left_seconds{")]
            assert len(left) == 3
            assert all(float(line.split()[1]) > 0 for line in left)

    in_scene(play, concert_ttl_s=20, schedule_ttl_s=30)


def test_without_its_store_the_catalog_goes_on_telling_for_a_minute_and_stays_ready() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        await scene.clock.sleep(2)
        scene.store.down = scene.shared.down = True
        await scene.clock.sleep(55)
        await scene.tell(held(1))
        await scene.clock.sleep(0.1)
        assert await scene.free() == [2, 3]
        assert (await scene.schedules()).status == 200
        assert (await scene.states())["status"] == "ready"
        assert (await scene.publish(concert_body(schedule_body(2)))).status == 503

    in_scene(play, concert_ttl_s=20, schedule_ttl_s=20)


def test_keeping_warm_tries_a_store_that_is_down_once_a_second_for_each_thing() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(*(schedule_body(number) for number in range(1, 21))))
        await scene.clock.sleep(2)  # all of it is in memory and in the shared cache
        scene.store.down = True
        await scene.clock.sleep(25)  # past the time of all, with old copies in the shared cache
        before = scene.store.loads
        await scene.clock.sleep(10)
        assert 0 < scene.store.loads - before <= 2 * 21 * 10

    in_scene(play, concert_ttl_s=20, schedule_ttl_s=20)


def test_a_shared_cache_that_hangs_or_is_down_is_not_noticed_by_readers() -> None:
    async def play(scene: Scene) -> None:
        for delay_s, down in ((1e6, False), (0.0, True)):
            scene.shared.delay_s, scene.shared.down = delay_s, down
            schedule = 1 if down else 2
            assert (await scene.publish(concert_body(schedule_body(schedule), concert=schedule))).status == 200
            assert await scene.free(schedule) == [1, 2, 3]
            assert (await scene.states())["status"] == "ready"

    in_scene(play)


def test_ids_that_do_not_exist_cost_the_store_one_read_a_second() -> None:
    async def play(scene: Scene) -> None:
        await scene.seats(404)
        loads = scene.store.loads
        for _ in range(50):
            assert (await scene.seats(404)).status == 404
        assert scene.store.loads == loads

    in_scene(play)


@pytest.mark.parametrize(
    "reply", [Reply(503, {}, b'{"schedule":1,"seats":[]}'), Reply(200, {}, b"{}"), Reply(200, {}, b"no JSON")]
)
def test_an_account_of_seats_that_cannot_be_read_is_asked_for_again(reply: Reply) -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        scene.reservation.reply = reply
        async with AppClient(scene.instance("3")) as late:
            assert (await scene.states(late))["dependencies"]["view"] != "ok"
            scene.reservation.reply = None
            await scene.clock.sleep(5)
            assert (await scene.states(late))["dependencies"]["view"] == "ok"

    in_scene(play)
