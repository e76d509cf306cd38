"""The catalog alone: a whole venue or nothing, once."""

import asyncio
from typing import Any

import orjson
import pytest

from libs.common.events.catalogue import from_message
from libs.common.events.topics import CATALOG_SCHEDULES
from libs.common.messaging.ports import Message
from services.catalog.tests.kit import (
    Scene,
    concert_body,
    in_scene,
    schedule_body,
)


def wrong_body(**changes: Any) -> dict[str, Any]:
    return {**concert_body(), **changes}


def with_seat(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(orjson.dumps(concert_body()))
    body["schedules"][0]["sections"][0]["rows"][0]["seats"][1] |= changes
    return body


SEAT = "/schedules/0/sections/0/rows/0/seats/1"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"id": 1}, ["/title", "/venue", "/room", "/schedules"]),
        (wrong_body(id="1", title="", venue=7, room=0), ["/id", "/title", "/venue", "/room"]),
        (wrong_body(room=2**16, schedules=[]), ["/room", "/schedules"]),
        (wrong_body(schedules=[schedule_body(0, starts_at="soon")]), ["/schedules/0/id", "/schedules/0/startsAt"]),
        (wrong_body(schedules=[schedule_body(starts_at="2027-03-01")]), ["/schedules/0/startsAt"]),
        (wrong_body(schedules=[schedule_body(starts_at="9999-12-31T23:59:59-23:00")]), ["/schedules/0/startsAt"]),
        (wrong_body(schedules=[schedule_body(seats=0)]), ["/schedules/0/sections/0/rows/0/seats"]),
        (with_seat(id=True, number=2, price=0), [f"{SEAT}/id", f"{SEAT}/number", f"{SEAT}/price"]),
        (with_seat(id=2.0, price=10**9 + 1), [f"{SEAT}/id", f"{SEAT}/price"]),
        (with_seat(id=1), [f"{SEAT}/id"]),
        (with_seat(number="1"), [f"{SEAT}/number"]),
        (wrong_body(schedules=[schedule_body(1), schedule_body(1)]), ["/schedules/1/id"]),
    ],
)
def test_every_wrong_field_of_a_venue_is_named_and_nothing_is_published(body: Any, pointers: list[str]) -> None:
    async def play(scene: Scene) -> None:
        reply = await scene.publish(body, concert=1)
        assert (reply.status, reply.code) == (422, "INVALID_FIELD")
        assert [error["pointer"] for error in reply.json["errors"]] == pointers
        assert (await scene.schedules()).code == "CONCERT_NOT_FOUND"
        assert scene.store.outbox == {}

    in_scene(play)


def test_the_path_and_the_body_name_the_same_concert() -> None:
    async def play(scene: Scene) -> None:
        reply = await scene.publish(concert_body(), concert=2)
        assert (reply.status, reply.json["errors"][0]["pointer"]) == (422, "/id")

    in_scene(play)


def test_no_more_than_100_wrong_fields_are_named() -> None:
    async def play(scene: Scene) -> None:
        reply = await scene.publish(concert_body(schedule_body(seats=500, price=-1_000)))
        assert (reply.status, len(reply.json["errors"])) == (422, 100)

    in_scene(play)


def test_a_body_of_megabytes_is_taken() -> None:
    async def play(scene: Scene) -> None:
        body = concert_body(*(schedule_body(n, seats=2_000) for n in range(1, 11)))
        assert len(orjson.dumps(body)) > 600_000
        assert (await scene.publish(body)).json == {"id": 1, "schedules": 10, "seats": 20_000}

    in_scene(play)


def test_the_same_again_is_no_change_and_another_layout_is_refused() -> None:
    async def play(scene: Scene) -> None:
        body = concert_body(schedule_body(1), schedule_body(2))
        first = await scene.publish(body)
        assert (await scene.publish(body)).json == first.json
        changed = await scene.publish(concert_body(schedule_body(3), schedule_body(2, price=5)))
        assert (changed.status, changed.code) == (409, "SCHEDULE_PUBLISHED")
        assert [error["pointer"] for error in changed.json["errors"]] == ["/schedules/1"]
        assert (await scene.seats(3)).code == "SCHEDULE_NOT_FOUND"
        assert (await scene.schedules()).json["concertSchedules"][1]["price"] == 10_000

    in_scene(play)


def test_a_schedule_of_another_concert_is_refused_before_anything_is_written() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(schedule_body(1), concert=1))
        refused = await scene.publish(concert_body(schedule_body(2), schedule_body(1), concert=2))
        assert (refused.status, refused.code) == (409, "SCHEDULE_PUBLISHED")
        assert [error["pointer"] for error in refused.json["errors"]] == ["/schedules/1/id"]
        assert (await scene.publish(concert_body(schedule_body(2), concert=3))).status == 200

    in_scene(play)


def test_two_who_publish_a_schedule_in_different_layouts_at_once_get_one_winner() -> None:
    async def play(scene: Scene) -> None:
        paths = "/internal/v1/concerts/1"
        cheap, dear = concert_body(schedule_body(price=1)), concert_body(schedule_body(price=500))
        replies = await asyncio.gather(
            scene.client.call("PUT", paths, cheap),
            scene.other.call("PUT", paths, dear),
        )
        assert sorted(reply.status for reply in replies) == [200, 409]
        won = 1 if replies[0].status == 200 else 500
        await scene.clock.sleep(2)
        for client in (scene.client, scene.other):
            assert (await scene.schedules(1, client)).json["concertSchedules"][0]["price"] == won

    in_scene(play)


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_a_publication_that_is_cut_off_shows_nothing_and_a_retry_completes_it(writes: int) -> None:
    async def play(scene: Scene) -> None:
        body = concert_body(schedule_body(1), schedule_body(2), schedule_body(3))
        scene.store.writes_left = writes
        assert (await scene.publish(body)).status == 503
        scene.store.writes_left = None
        await scene.clock.sleep(5)
        assert (await scene.client.call("GET", "/api/v1/concert")).json == {"concerts": []}
        assert [(await scene.seats(schedule)).status for schedule in (1, 2, 3)] == [404] * 3
        assert (await scene.publish(body)).status == 200
        assert len((await scene.schedules()).json["concertSchedules"]) == 3

    in_scene(play)


def test_what_was_cut_off_may_be_published_with_other_prices() -> None:
    async def play(scene: Scene) -> None:
        scene.store.writes_left = 1
        await scene.publish(concert_body(schedule_body(1, price=1)))
        scene.store.writes_left = None
        assert (await scene.publish(concert_body(schedule_body(1, price=7)))).status == 200
        assert (await scene.schedules()).json["concertSchedules"][0]["price"] == 7

    in_scene(play)


def test_who_published_sees_it_at_once_even_when_no_event_comes_through() -> None:
    async def play(scene: Scene) -> None:
        assert (await scene.seats()).status == 404
        assert (await scene.schedules()).status == 404
        scene.broker.down = True
        await scene.publish()
        assert await scene.free() == [1, 2, 3]
        assert (await scene.schedules()).status == 200

    in_scene(play)


def test_a_copy_that_missed_the_news_of_a_publication_looks_again() -> None:
    async def play(scene: Scene) -> None:
        async def lose(instance: str, group: str | None, message: Message) -> int:
            return 0 if group is None and instance == "2" else 1

        scene.broker.on_delivery = lose  # type: ignore[method-assign]  # the fault this test is about
        await scene.publish(concert_body(concert=5))
        await scene.clock.sleep(1)
        assert [one["id"] for one in (await scene.other.call("GET", "/api/v1/concert")).json["concerts"]] == [5]

    in_scene(play)


def test_each_schedule_is_told_once() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(schedule_body(1, seats=4)))
        await scene.publish(concert_body(schedule_body(1, seats=4), schedule_body(2)))
        await scene.clock.sleep(1)
        told = [from_message(message) for _, message in scene.broker.log(CATALOG_SCHEDULES).entries]
        assert [(event.schedule, event.concert, event.room, event.seat_count) for event in told] == [
            (1, 1, 1, 4),
            (2, 1, 1, 3),
        ]

    in_scene(play)
