"""The catalog alone: what is on sale, in the shapes the contract promises."""

from libs.common.contract.catalog import (
    LIST_CONCERTS,
    LIST_SCHEDULES,
    LIST_SEATS,
    PUBLISH_CONCERT,
    READ_SCHEDULE,
)
from libs.common.web.admission import Admission
from services.catalog.tests.kit import (
    STARTS_AT,
    Scene,
    concert_body,
    fits,
    in_scene,
    schedule_body,
)

OTHER_ROOM = Admission("ticket-2", room=2, sequence=1).headers()
STATIC = Admission("test-token").headers()


def test_a_published_concert_is_on_sale_in_every_copy() -> None:
    async def play(scene: Scene) -> None:
        reply = await scene.publish(concert_body(schedule_body(1, seats=3), schedule_body(2, seats=2)))
        assert (reply.status, reply.json) == (200, {"id": 1, "schedules": 2, "seats": 5})
        assert fits(reply, PUBLISH_CONCERT)
        await scene.clock.sleep(2)
        for client in (scene.client, scene.other):
            concerts = await client.call("GET", "/api/v1/concert")
            assert concerts.json == {"concerts": [{"id": 1, "title": "Live", "venue": "Hall", "room": 1}]}
            assert fits(concerts, LIST_CONCERTS)
            assert await scene.free(1, client) == [1, 2, 3]

    in_scene(play)


def test_who_published_sees_it_at_once() -> None:
    async def play(scene: Scene) -> None:
        await scene.schedules()
        await scene.seats()
        await scene.publish()
        assert len((await scene.client.call("GET", "/api/v1/concert")).json["concerts"]) == 1
        assert (await scene.schedules()).status == 200
        assert await scene.free() == [1, 2, 3]
        await scene.publish(concert_body(schedule_body(1), schedule_body(2)))
        assert len((await scene.schedules()).json["concertSchedules"]) == 2

    in_scene(play)


def test_the_answers_have_the_public_shapes() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(schedule_body(5, seats=2, price=700)))
        summary = {
            "id": 5,
            "concertId": 1,
            "startsAt": STARTS_AT,
            "availableSeats": 2,
            "totalSeats": 2,
            "price": 700,
        }
        schedules, seats = await scene.schedules(), await scene.seats(5)
        assert schedules.json == {"concertSchedules": [summary]}
        place = {"section": "A", "row": "1"}
        free = [{"id": 1, **place, "number": "1", "price": 700}, {"id": 2, **place, "number": "2", "price": 701}]
        assert seats.json == {"concertSeatInfo": {"concertSchedule": summary, "concertSeat": free}}
        assert fits(schedules, LIST_SCHEDULES)
        assert fits(seats, LIST_SEATS)
        for reply in (schedules, seats, await scene.client.call("GET", "/api/v1/concert")):
            assert reply.headers["cache-control"] == "no-store"
            assert reply.headers["content-type"] == "application/json"

    in_scene(play)


def test_names_are_told_as_they_were_given() -> None:
    async def play(scene: Scene) -> None:
        named = schedule_body(1, seats=1)
        name = 'R "1" \\ %d 오케스트라\n'
        named["sections"][0] |= {"name": name}
        named["sections"][0]["rows"][0] |= {"name": name}
        named["sections"][0]["rows"][0]["seats"][0] |= {"number": name}
        await scene.publish({**concert_body(named), "title": name})
        (seat,) = (await scene.seats()).json["concertSeatInfo"]["concertSeat"]
        assert [seat["section"], seat["row"], seat["number"]] == [name] * 3
        assert (await scene.client.call("GET", "/api/v1/concert")).json["concerts"][0]["title"] == name

    in_scene(play)


def test_concerts_are_listed_by_id_and_schedules_by_start() -> None:
    async def play(scene: Scene) -> None:
        late, early = schedule_body(1), schedule_body(2, starts_at="2027-02-01T19:00:00+09:00")
        await scene.publish(concert_body(late, early, concert=30))
        await scene.publish(concert_body(schedule_body(3), concert=4))
        concerts = (await scene.client.call("GET", "/api/v1/concert")).json["concerts"]
        assert [concert["id"] for concert in concerts] == [4, 30]
        schedules = (await scene.schedules(30)).json["concertSchedules"]
        assert [(one["id"], one["startsAt"]) for one in schedules] == [(2, "2027-02-01T10:00:00.000Z"), (1, STARTS_AT)]

    in_scene(play)


def test_nothing_on_sale_is_an_empty_list() -> None:
    async def play(scene: Scene) -> None:
        assert (await scene.client.call("GET", "/api/v1/concert")).json == {"concerts": []}

    in_scene(play)


def test_what_is_not_there_is_named_as_missing() -> None:
    async def play(scene: Scene) -> None:
        replies = [
            await scene.schedules(9),
            await scene.seats(9),
            await scene.client.call("GET", "/internal/v1/schedules/9"),
        ]
        assert [(reply.status, reply.code) for reply in replies] == [
            (404, "CONCERT_NOT_FOUND"),
            (404, "SCHEDULE_NOT_FOUND"),
            (404, "SCHEDULE_NOT_FOUND"),
        ]
        assert (await scene.seats("x")).code == "INVALID_FIELD"  # type: ignore[arg-type]  # no number at all

    in_scene(play)


def test_a_ticket_of_another_room_stays_outside_and_a_static_one_enters_everywhere() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish()
        for ask in (scene.schedules, scene.seats):
            refused = await ask(1, None, **OTHER_ROOM)
            assert (refused.status, refused.code) == (403, "WRONG_ROOM")
            assert (await ask(1, None, **STATIC)).status == 200
            assert (await ask(1, None, **{"X-Nothing": "1"})).code == "TOKEN_MISSING"

    in_scene(play)


def test_the_reservation_service_reads_seats_and_prices_that_never_change() -> None:
    async def play(scene: Scene) -> None:
        await scene.publish(concert_body(schedule_body(5, seats=2)))
        reply = await scene.client.call("GET", "/internal/v1/schedules/5")
        assert reply.json == {
            "id": 5,
            "concertId": 1,
            "room": 1,
            "startsAt": STARTS_AT,
            "sections": [{"name": "A", "seats": [{"id": 1, "price": 10_000}, {"id": 2, "price": 10_001}]}],
        }
        assert fits(reply, READ_SCHEDULE)
        assert "immutable" in reply.headers["cache-control"]
        same = await scene.other.call("GET", "/internal/v1/schedules/5")
        assert reply.headers["etag"] == same.headers["etag"]
        assert reply.headers["etag"].startswith('"')

    in_scene(play)
