"""Holds as clients see them: through two instances, on memory adapters, in virtual time."""

import asyncio
from collections import Counter

import pytest

from libs.common.events.catalog import SchedulePublished
from libs.common.events.catalogue import to_message
from libs.common.events.reservation import ReservationCancelled, ReservationExpired, SeatsHeld, SeatsReleased
from libs.common.messaging.ports import Message
from services.reservation.tests.scene import (
    CALLS,
    HOLD,
    ONE_BLOCK,
    OTHER_ROOM,
    PRICE,
    STATIC,
    TWO_BLOCKS,
    UNKNOWN,
    Scene,
    in_scene,
    visitor,
)


def test_a_hold_answers_with_the_reservation() -> None:
    async def play(scene: Scene) -> None:
        reply = await scene.hold(7, (2, 1), "key-1")
        assert reply.status == 201
        assert reply.json == {
            "id": reply.json["id"],
            "userId": 7,
            "concertScheduleId": ONE_BLOCK,
            "seatIds": [2, 1],
            "status": "HELD",
            "amount": 2 * PRICE,
            "expiresAt": "2027-01-15T08:05:00.000Z",
            "createdAt": "2027-01-15T08:00:00.000Z",
            "updatedAt": "2027-01-15T08:00:00.000Z",
        }
        assert await scene.reservation(reply.json["id"], visitor(7)) == reply.json
        assert await scene.seats() == {1: (1, "held"), 2: (1, "held")}
        await asyncio.sleep(0.1)
        assert [len(event.seats) for event in scene.heard_of(SeatsHeld)] == [2]

    in_scene(play)


def test_of_200_who_want_one_seat_at_once_exactly_one_gets_it_and_the_others_learn_which_is_taken() -> None:
    async def play(scene: Scene) -> None:
        replies = await asyncio.gather(
            *(scene.hold(user, (5,), at=scene.one if user % 2 else scene.two) for user in range(1, 201))
        )
        assert Counter(reply.status for reply in replies) == {201: 1, 409: 199}
        lost = [reply.json for reply in replies if reply.status == 409]
        assert {body["code"] for body in lost} == {"SEAT_TAKEN"}
        assert all([error["pointer"] for error in body["errors"]] == ["/seatIds/0"] for body in lost)
        assert await scene.seats() == {5: (1, "held")}

    in_scene(play)


def test_several_seats_are_taken_together_or_not_at_all() -> None:
    async def play(scene: Scene) -> None:
        await scene.held(7, (3,))
        reply = await scene.hold(8, (1, 3, 2))
        assert [error["pointer"] for error in reply.json["errors"]] == ["/seatIds/1"]
        assert await scene.seats() == {3: (1, "held")}

    in_scene(play)


def test_a_refused_hold_writes_nothing() -> None:
    async def play(scene: Scene) -> None:
        await scene.held(7)
        before = stored(scene)
        assert (await scene.hold(8)).code == "SEAT_TAKEN"
        assert stored(scene) == before

    in_scene(play)


def stored(scene: Scene) -> dict[str, dict[str, int]]:
    """Each document's version, by collection."""
    return {
        name: {id_: version for id_, (version, _) in collection._documents.items()}
        for name, collection in scene.store._collections.items()
    }


def test_the_same_key_gives_the_first_answer_again_whatever_became_of_it() -> None:
    async def play(scene: Scene) -> None:
        first = await scene.hold(key="key-1")
        await asyncio.sleep(5)
        for at in (scene.one, scene.two):
            again = await scene.hold(key="key-1", at=at)
            assert (again.status, again.json) == (201, first.json)
            assert again.headers["idempotent-replayed"] == "true"
        await scene.send("DELETE", f"{HOLD}/{first.json['id']}", by=visitor(7))
        await scene.held(8)
        assert (await scene.hold(key="key-1")).json == first.json
        assert (await scene.seats())[1] == (3, "held")  # taken, freed, taken by the other: the replay touched nothing

    in_scene(play)


def test_the_same_key_with_another_body_is_refused() -> None:
    async def play(scene: Scene) -> None:
        await scene.hold(key="key-1")
        reply = await scene.hold(seats=(3,), key="key-1")
        assert (reply.status, reply.code) == (422, "IDEMPOTENCY_MISMATCH")
        assert await scene.seats() == {1: (1, "held"), 2: (1, "held")}

    in_scene(play)


def test_twins_with_one_key_make_one_reservation() -> None:
    async def play(scene: Scene) -> None:
        replies = await asyncio.gather(
            *(scene.hold(key="key-1", at=at) for at in (scene.one, scene.two) for _ in range(10))
        )
        assert Counter(reply.status for reply in replies) == {201: 2, 409: 18}
        assert {reply.code for reply in replies if reply.status == 409} == {"REQUEST_IN_PROGRESS"}
        assert len({reply.json["id"] for reply in replies if reply.status == 201}) == 1
        assert await scene.seats() == {1: (1, "held"), 2: (1, "held")}

    in_scene(play)


def test_twins_with_one_key_and_different_bodies_hold_one_body_only() -> None:
    async def play(scene: Scene) -> None:
        replies = await asyncio.gather(
            scene.hold(seats=(1,), key="key-1", at=scene.one), scene.hold(seats=(2,), key="key-1", at=scene.two)
        )
        assert sorted(reply.status for reply in replies) == [201, 422]
        kept = next(reply.json["seatIds"] for reply in replies if reply.status == 201)
        states = await scene.seats()
        assert [seat for seat, (_, state) in states.items() if state == "held"] == kept

    in_scene(play)


def test_a_key_of_somebody_else_shows_nothing_of_theirs() -> None:
    async def play(scene: Scene) -> None:
        await scene.hold(7, key="key-1")
        assert (await scene.hold(7, key="key-1", by=visitor(66))).code == "NOT_YOURS"

    in_scene(play)


@pytest.mark.parametrize("schedule", [ONE_BLOCK, TWO_BLOCKS])
def test_the_cap_per_user_is_exact(schedule: int) -> None:
    async def play(scene: Scene) -> None:
        assert (await scene.hold(7, tuple(range(1, 10)), schedule=schedule)).code == "TOO_MANY_SEATS"
        replies = await asyncio.gather(
            *(scene.hold(7, (seat,), schedule=schedule, at=(scene.one, scene.two)[seat % 2]) for seat in range(1, 16))
        )
        codes = Counter(str(reply.status) for reply in replies)
        assert codes == {"201": 8, "422": 7}
        held = [seat for seat, (_, state) in (await scene.seats(schedule)).items() if state == "held"]
        assert len(held) == 8
        await scene.held(8, (16,), schedule=schedule)

    in_scene(play)


def test_what_lapsed_was_cancelled_or_is_elsewhere_does_not_count_for_the_cap() -> None:
    async def play(scene: Scene) -> None:
        for schedule in (ONE_BLOCK, TWO_BLOCKS):
            eight = tuple(range(1, 9))
            first = await scene.held(7, eight, schedule=schedule)
            assert (await scene.hold(7, (9,), schedule=schedule)).code == "TOO_MANY_SEATS"
            await scene.send("DELETE", f"{HOLD}/{first}", by=visitor(7))
            await scene.held(7, eight, schedule=schedule)
            await asyncio.sleep(301)
            await scene.held(7, eight, schedule=schedule)

    in_scene(play)


def test_bad_requests_are_named_and_have_no_effect() -> None:
    async def play(scene: Scene) -> None:
        reply = await scene.hold(7, (1, 99, 2, 98))
        assert (reply.status, reply.code) == (404, "SEAT_NOT_FOUND")
        assert [error["pointer"] for error in reply.json["errors"]] == ["/seatIds/1", "/seatIds/3"]
        reply = await scene.hold(7, (1, 2, 1))
        assert (reply.status, reply.code) == (422, "INVALID_FIELD")
        assert [error["pointer"] for error in reply.json["errors"]] == ["/seatIds/2"]
        for seats in ((), tuple(range(1, 52))):
            assert (await scene.hold(7, seats)).code == "INVALID_FIELD"
        assert (await scene.hold(7, schedule=UNKNOWN)).code == "SCHEDULE_NOT_FOUND"
        assert (await scene.hold(7, schedule=OTHER_ROOM)).code == "WRONG_ROOM"
        assert (await scene.hold(7, by=visitor(7, ended=True))).code == "SESSION_EXPIRED"
        assert await scene.seats() == {}

    in_scene(play)


def test_a_ticket_holds_for_the_first_user_it_held_for() -> None:
    async def play(scene: Scene) -> None:
        await scene.held(7, (1,), by=visitor(1))
        for at in (scene.one, scene.two):
            reply = await scene.hold(8, (2,), by=visitor(1), at=at)
            assert (reply.status, reply.code) == (403, "NOT_YOURS")
        await scene.held(7, (2,), by=visitor(1))

    in_scene(play)


def test_a_ticket_that_holds_for_two_users_at_once_ends_with_one() -> None:
    async def play(scene: Scene) -> None:
        replies = await asyncio.gather(
            *(scene.hold(user, (user,), f"k-{user}", by=visitor(1), at=(scene.one, scene.two)[user % 2])
              for user in range(1, 11))
        )  # fmt: skip
        assert Counter(reply.status for reply in replies) == {201: 1, 403: 9}
        assert Counter(state for _, state in (await scene.seats()).values())["held"] == 1
        loser = next(user for user, reply in enumerate(replies, 1) if reply.status == 403)
        assert (await scene.hold(loser, (loser,), f"k-{loser}", by=visitor(1))).code == "NOT_YOURS"

    in_scene(play)


def test_static_tickets_bind_no_one_and_enter_every_room() -> None:
    async def play(scene: Scene) -> None:
        mine = await scene.held(7, (1,), by=STATIC)
        await scene.held(8, (2,), by=STATIC, schedule=OTHER_ROOM)
        assert (await scene.pay(mine, user=8, by=STATIC)).code == "NOT_YOURS"

    in_scene(play)


def test_cancelling_frees_the_seats_at_once_and_for_others() -> None:
    async def play(scene: Scene) -> None:
        id_ = await scene.held(7)
        for _ in range(2):
            reply = await scene.send("DELETE", f"{HOLD}/{id_}", by=visitor(7), at=scene.two)
            assert (reply.status, reply.json["status"]) == (200, "CANCELLED")
        await scene.held(8)
        assert (await scene.send("DELETE", f"{HOLD}/{id_}", by=visitor(8))).code == "NOT_YOURS"
        assert (await scene.send("DELETE", f"{HOLD}/{id_}", by=visitor(7, ended=True))).code == "SESSION_EXPIRED"
        assert (await scene.send("DELETE", f"{HOLD}/r-0", by=visitor(7))).code == "RESERVATION_NOT_FOUND"
        await asyncio.sleep(1)
        assert len(scene.heard_of(SeatsReleased)) == len(scene.heard_of(ReservationCancelled)) == 1

    in_scene(play)


def test_an_expired_hold_is_free_at_once_and_visible_within_a_second() -> None:
    async def play(scene: Scene) -> None:
        id_ = await scene.held(7)
        await asyncio.sleep(300)
        taken = await scene.hold(8, (1,))
        assert taken.status == 201
        await asyncio.sleep(1)
        assert await scene.seats() == {1: (2, "held"), 2: (2, "free")}
        assert await scene.status(id_) == "EXPIRED"
        assert len(scene.heard_of(SeatsReleased)) == len(scene.heard_of(ReservationExpired)) == 1

    in_scene(play)


def test_clock_skew_keeps_a_hold_until_it_has_passed_on_every_clock() -> None:
    async def play(scene: Scene) -> None:
        id_ = await scene.held(7)
        await asyncio.sleep(301.9)
        assert (await scene.hold(8)).code == "SEAT_TAKEN"
        assert await scene.status(id_) == "HELD"
        await asyncio.sleep(0.2)
        assert (await scene.hold(8)).status == 201

    in_scene(play, clock_skew_s=2.0)


def test_seats_whose_reservation_was_never_made_are_free_again_and_shown_so() -> None:
    async def play(scene: Scene) -> None:
        crash_before_filing(scene)
        assert (await scene.hold(7, key="key-1")).status == 500
        assert await scene.states() == ["held"]
        assert (await scene.hold(8)).code == "SEAT_TAKEN"
        await asyncio.sleep(301)
        assert await scene.states() == ["free"]
        assert len(scene.heard_of(SeatsReleased)) == 1

    in_scene(play)


def test_a_retry_after_a_crash_before_filing_goes_through_with_the_first_until() -> None:
    async def play(scene: Scene) -> None:
        for schedule in (ONE_BLOCK, TWO_BLOCKS):
            crash_before_filing(scene)
            assert (await scene.hold(7, (1, 20), f"key-{schedule}", schedule=schedule)).status == 500
            began_ms = scene.clock.now_ms()
            await asyncio.sleep(10)
            reply = await scene.hold(7, (1, 20), f"key-{schedule}", schedule=schedule, at=scene.two)
            assert reply.status == 201
            assert scene.stored("reservations")[reply.json["id"]]["expires_ms"] == began_ms + 300_000
            assert (await scene.seats(schedule))[1] == (1, "held")

    in_scene(play)


def crash_before_filing(scene: Scene) -> None:
    """The next insert of a reservation does not happen: whoever was about to do it has died."""
    collection = scene.store._collections["reservations"]
    swap = collection.swap

    async def die(*_: object) -> None:
        collection.swap = swap  # type: ignore[method-assign]
        raise RuntimeError("crash")

    collection.swap = die  # type: ignore[method-assign,assignment]


def test_a_hold_over_two_blocks_that_meets_a_taken_seat_is_undone_and_its_key_stays_refused() -> None:
    async def play(scene: Scene) -> None:
        await scene.held(8, (500,), schedule=TWO_BLOCKS)
        first = await scene.hold(7, (1, 500), "key-1", schedule=TWO_BLOCKS)
        assert (first.status, first.code) == (409, "SEAT_TAKEN")
        assert [error["pointer"] for error in first.json["errors"]] == ["/seatIds/1"]
        assert (await scene.seats(TWO_BLOCKS))[1] == (2, "free")
        await asyncio.sleep(301)
        again = await scene.hold(7, (1, 500), "key-1", schedule=TWO_BLOCKS, at=scene.two)
        assert (again.code, again.json["errors"]) == ("SEAT_TAKEN", first.json["errors"])
        assert len(await scene.held(7, (1, 500, *range(2, 8)), schedule=TWO_BLOCKS)) > 0

    in_scene(play)


def test_twins_over_two_blocks_agree_on_one_answer_and_leave_no_seat_behind() -> None:
    async def play(scene: Scene) -> None:
        rival = scene.hold(8, (500,), schedule=TWO_BLOCKS)
        twins = [scene.hold(7, (1, 500), "key-1", schedule=TWO_BLOCKS, at=at) for at in (scene.one, scene.two)]
        won, *replies = await asyncio.gather(rival, *twins)
        states = await scene.seats(TWO_BLOCKS)
        if won.status == 201:
            assert {reply.status for reply in replies} == {409}
            assert states[1][1] == "free"
        else:
            assert {reply.status for reply in replies} == {201}
            assert {state for _, state in states.values()} == {"held"}

    in_scene(play)


def test_a_place_under_the_cap_whose_hold_crashed_does_not_count_for_ever() -> None:
    async def play(scene: Scene) -> None:
        crash_before_filing(scene)
        await scene.hold(7, tuple(range(1, 9)), schedule=TWO_BLOCKS)
        assert (await scene.hold(7, (401,), schedule=TWO_BLOCKS)).code == "TOO_MANY_SEATS"
        await asyncio.sleep(301)
        await scene.held(7, tuple(range(1, 9)), schedule=TWO_BLOCKS)

    in_scene(play)


def test_a_place_under_the_cap_ends_with_its_reservation_even_before_it_is_given_up() -> None:
    async def play(scene: Scene) -> None:
        first = await scene.held(7, tuple(range(1, 9)), schedule=TWO_BLOCKS)
        await scene.send("DELETE", f"{HOLD}/{first}", by=visitor(7))
        assert scene.stored("places")[f"{TWO_BLOCKS}:7"] == {"places": []}

        second = await scene.held(7, tuple(range(1, 9)), schedule=TWO_BLOCKS)
        await scene.rewrite("reservations", second, status="CANCELLED", owes="free")
        await scene.held(7, tuple(range(11, 19)), schedule=TWO_BLOCKS)

    in_scene(play)


def test_the_catalog_is_asked_once_per_schedule_and_its_absence_is_said() -> None:
    async def play(scene: Scene) -> None:
        app, scene.catalog.app = scene.catalog.app, None
        assert app is not None
        reply = await scene.hold(7)
        assert (reply.status, reply.code) == (503, "DEPENDENCY_DOWN")
        scene.catalog.app = app
        await asyncio.gather(*(scene.hold(user, (user,)) for user in range(1, 11)))
        assert app[CALLS] == [ONE_BLOCK]
        scene.catalog.app = None
        await scene.held(12, (12,))

    in_scene(play)


def test_a_schedule_that_is_published_is_known_before_its_first_hold() -> None:
    async def play(scene: Scene) -> None:
        for schedule in (TWO_BLOCKS, UNKNOWN):
            told = SchedulePublished(schedule, concert=1, room=1, seat_count=800, at_ms=1)
            messages: list[Message] = [to_message(told, f"published-{schedule}", "test")]
            await scene.ear.publish(messages)
        await asyncio.sleep(1)
        assert scene.catalog.app is not None
        calls = scene.catalog.app[CALLS]
        assert set(calls) == {TWO_BLOCKS, UNKNOWN}
        assert (await scene.one.call("GET", "/readyz")).status == 200

    in_scene(play)
