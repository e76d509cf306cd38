"""The catalog alone: seats that are held, released and sold, told in any order and missed at times."""

from libs.common.contract.catalog import (
    LIST_SEATS,
)
from libs.common.events.topics import RESERVATION_SEATS
from libs.common.testing.app_client import AppClient
from libs.common.testing.virtual import START_MS
from services.catalog.tests.kit import (
    Scene,
    concert_body,
    fits,
    held,
    in_scene,
    released,
    schedule_body,
    sold,
)


def test_a_held_seat_is_unavailable_and_a_released_one_free_within_a_tenth_of_a_second() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        for event, free in (
            (held(2), [1, 3]),
            (released(2), [1, 2, 3]),
            (held(1, n=3), [2, 3]),
            (sold(1, n=3), [2, 3]),
        ):
            await scene.tell(event)
            await scene.clock.sleep(0.1)
            assert await scene.free() == free
            assert (await scene.schedules()).json["concertSchedules"][0]["availableSeats"] == len(free)

    in_scene(play)


def test_late_and_repeated_events_change_nothing() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        await scene.tell(sold(1, n=3), held(1, n=3), released(1, n=2), held(1, n=1), held(2), released(2), held(2))
        await scene.clock.sleep(0.1)
        assert await scene.free() == [2, 3]

    in_scene(play)


def test_sold_out_is_an_empty_list_and_not_among_the_schedules() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(schedule_body(1), schedule_body(2)))
        await scene.tell(sold(1, 2), held(3))
        seats, schedules = await scene.seats(1), await scene.schedules()
        assert seats.json == {"concertSeatInfo": []}
        assert fits(seats, LIST_SEATS)
        assert [one["id"] for one in schedules.json["concertSchedules"]] == [2]
        await scene.tell(held(1, 2, 3, schedule=2))
        await scene.clock.sleep(0.1)
        assert (await scene.schedules()).json == {"concertSchedules": []}

    in_scene(play)


def test_events_of_a_schedule_that_is_not_known_yet_count_once_it_is() -> None:
    async def play(scene: Scene) -> None:
        await scene.tell(held(2), sold(77, schedule=99))
        await scene.publish()
        assert await scene.free() == [1, 3]

    in_scene(play)


def test_an_answer_is_encoded_again_at_most_every_tenth_of_a_second() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(schedule_body(1, seats=50)))
        before = await scene.free()
        await scene.tell(held(1))
        assert await scene.free() == before
        for seat in range(2, 51):
            await scene.tell(held(seat))
            await scene.free()
            await scene.clock.sleep(0.01)
        page = (await scene.client.call("GET", "/metrics")).body.decode()
        count = next(
            line for line in page.splitlines() if line.startswith('stagedoor_catalog_encodings_total{answer="seats')
        )
        assert 5 <= float(count.split()[1]) <= 8
        await scene.clock.sleep(0.1)
        assert await scene.free() == []

    in_scene(play)


def test_a_catalog_that_starts_late_learns_from_the_snapshot() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        scene.reservation.seats[1] = [(1, 1, "held"), (2, 4, "free"), (3, 2, "paying")]
        async with AppClient(scene.instance("3")) as late:
            assert (await scene.states(late))["status"] == "ready"
            assert await scene.free(1, late) == [2]

    in_scene(play)


def test_a_snapshot_that_is_older_than_an_event_does_not_undo_it() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        await scene.tell(released(1, n=2), held(2, n=5))
        scene.reservation.seats[1] = [(1, 1, "held"), (2, 4, "free")]
        await scene.clock.sleep(35)
        assert scene.reservation.asked
        assert await scene.free() == [1, 3]

    in_scene(play)


def test_after_a_gap_the_truth_is_read_at_once() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(*(schedule_body(n) for n in range(1, 81))))
        await scene.clock.sleep(31)
        for schedule in range(1, 81):
            scene.reservation.seats[schedule] = [(3, 1, "sold")]
        scene.reservation.asked.clear()
        scene.broker.forget(RESERVATION_SEATS)
        await scene.clock.sleep(1)
        assert sorted(scene.reservation.asked) == sorted([*range(1, 81)] * 2)  # two copies
        assert await scene.free(80) == [1, 2]

    in_scene(play)


def test_the_truth_is_read_every_30_s_even_when_nothing_seems_lost() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        scene.reservation.seats[1] = [(3, 1, "sold")]
        await scene.clock.sleep(31)
        assert await scene.free() == [1, 2]
        asked = len(scene.reservation.asked)
        await scene.clock.sleep(60)
        assert len(scene.reservation.asked) == asked + 4  # two rounds in each of two copies

    in_scene(play)


def test_a_schedule_whose_truth_cannot_be_read_keeps_the_others_from_theirs_no_longer_than_a_round() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(schedule_body(1), schedule_body(2)))
        scene.reservation.broken = {1}
        await scene.clock.sleep(40)
        scene.reservation.seats[2] = [(3, 1, "sold")]
        await scene.clock.sleep(40)
        assert await scene.free(2) == [1, 2]
        page = (await scene.client.call("GET", "/metrics")).body.decode()
        age = next(line for line in page.splitlines() if line.startswith("stagedoor_catalog_snapshot_age_seconds "))
        assert float(age.split()[1]) > 60  # and that one of them is not checked is told

    in_scene(play)


def test_a_regular_round_is_spread_over_its_period() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(*(schedule_body(n, seats=1) for n in range(1, 241))))
        await scene.clock.sleep(31)
        asked, most_in_a_second = scene.reservation.asked, 0
        asked.clear()
        for _ in range(30):
            before = len(asked)
            await scene.clock.sleep(1)
            most_in_a_second = max(most_in_a_second, len(asked) - before)
        # Two copies ask for 240 schedules each in 30 s: 16 a second, and up to one bite of each at the edges.
        assert most_in_a_second <= 20
        assert set(asked) == set(range(1, 241))

    in_scene(play)


def test_an_unreadable_event_is_a_gap_and_no_crash() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        scene.reservation.seats[1] = [(1, 1, "held")]
        await scene.tell(held(2))
        entries = scene.broker.log(RESERVATION_SEATS).entries
        broken = entries[-1][1].__class__(RESERVATION_SEATS, "1", "broken", "SeatsHeld", "test", START_MS, b"{}")
        scene.broker.append([broken])
        await scene.clock.sleep(1)
        assert await scene.free() == [3]

    in_scene(play)
