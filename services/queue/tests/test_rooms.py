"""Rooms: what operators change and see, what outlives a restart, and what is forgotten."""

from typing import Any

import pytest

from libs.common.errors import ConfigError
from services.queue.settings import QueueSettings
from services.queue.tests.scene import KEYS, People, Scene, play, ticket


def test_the_line_is_told_every_second_changed_or_not() -> None:
    async def act(scene: Scene, people: People) -> None:
        scene.heard.clear()
        await scene.ticks(10)
        ticks = [move.tick for move in scene.moves]
        assert 9 <= len(ticks) <= 11
        assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))

    play(act)


def test_a_paused_room_lets_nobody_in_but_those_offered_may_come_however_late() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(6)
        await scene.ticks()
        assert (await people.change(state="paused")).json["state"] == "paused"
        await people.join(1)
        await scene.clock.sleep(3_600)
        assert (await people.room())["watermark"] == 3
        assert scene.moves[-1].state == "paused"
        assert await people.claim(1) == "open"
        assert await people.claim(4) == "none"
        await people.change(state="open")
        await scene.clock.sleep(50)
        assert await people.claim(2) == "open"
        await scene.clock.sleep(12)
        assert await people.claim(3) == "returning"

    play(act, session_s=86_400)


def test_a_change_leaves_out_what_it_does_not_name() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.change(opensAt="2030-01-01T00:00:00Z", capacity=9)
        room = (await people.change(state="paused")).json
        assert (room["state"], room["capacity"], room["opensAt"]) == ("paused", 9, "2030-01-01T00:00:00.000Z")

    play(act)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"who": "", "why": "because"}, "/who"),
        ({"who": "x" * 81, "why": "because"}, "/who"),
        ({"who": "ops", "why": "no"}, "/why"),
        ({"why": "because"}, "/who"),
        ({"who": "ops", "why": "because", "capacity": -1}, "/capacity"),
        ({"who": "ops", "why": "because", "capacity": 10**6 + 1}, "/capacity"),
        ({"who": "ops", "why": "because", "state": "ajar"}, "/state"),
        ({"who": "ops", "why": "because", "opensAt": "tomorrow"}, "/opensAt"),
        ({"who": "ops", "why": "because", "opensAt": "2027-01-15T08:00:00"}, "/opensAt"),
        ({"who": "ops", "why": "because", "opensAt": "9999-12-31T23:59:59-12:00"}, "/opensAt"),
    ],
)
def test_a_change_that_is_wrong_is_refused_by_field(body: dict[str, Any], pointer: str) -> None:
    async def act(scene: Scene, people: People) -> None:
        refused = await people.client.call("PATCH", "/internal/v1/rooms/1", body)
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, pointer)
        assert (await people.room())["capacity"] == 3

    play(act)


def test_unknown_rooms_and_tickets_are_refused() -> None:
    async def act(scene: Scene, people: People) -> None:
        assert (await people.ask_to_join(room=2)).code == "ROOM_NOT_FOUND"
        assert (await people.change(2, capacity=1)).code == "ROOM_NOT_FOUND"
        elsewhere = ticket(1, room=2)
        assert (await people.client.call("GET", f"/internal/v1/sessions/{elsewhere}")).code == "ROOM_NOT_FOUND"
        forged = ticket(1)[:-1] + ("0" if ticket(1)[-1] != "0" else "1")
        for method, path, body in (
            ("POST", "/internal/v1/claims", {"ticket": forged}),
            ("GET", f"/internal/v1/sessions/{forged}", None),
            ("DELETE", f"/internal/v1/sessions/{forged}", None),
        ):
            refused = await people.client.call(method, path, body)
            assert (refused.status, refused.code) == (401, "TOKEN_INVALID")

    play(act)


def test_rooms_are_apart() -> None:
    async def act(scene: Scene, people: People) -> None:
        assert await people.join(2) == [1, 2]
        assert await people.join(1, room=7) == [1]
        await scene.ticks()
        assert (await people.room(7))["watermark"] == 1
        reply = await people.client.call("POST", "/internal/v1/claims", {"ticket": ticket(1, room=7)})
        assert reply.json["state"] == "open"
        assert await people.read(1) == ("none", None)

    play(act, rooms="1,7")


def test_old_sessions_are_purged_under_the_floor_and_their_tickets_stay_ended() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(5)
        await scene.ticks()
        for sequence in (1, 2, 3):
            await people.claim(sequence)
        await people.leave(1)
        await people.leave(3)
        await scene.clock.sleep(250)  # 2 is inside until 300 s, 4 and 5 were offered and lapsed
        room = await scene.store._collections["rooms"].load("1")
        assert room is not None
        assert room.body["floor"] == 1
        assert await people.read(1) == ("ended", None)
        assert await people.claim(1) == "ended"
        assert (await people.leave(1))["state"] == "ended"
        assert set(scene.store._collections["sessions"]._documents) == {"1:2", "1:3", "1:4", "1:5"}
        await scene.clock.sleep(300)
        assert scene.store._collections["sessions"]._documents == {}
        assert [await people.claim(sequence) for sequence in range(1, 6)] == ["ended"] * 5
        assert (await people.room())["openSessions"] == 0
        assert await people.join() == [6]

    play(act, session_s=300, session_keep_s=100)


def test_a_returning_one_holds_the_floor_back() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(3)
        await scene.clock.sleep(63)
        await people.change(capacity=0)
        assert await people.claim(2) == "returning"
        await scene.clock.sleep(400)
        room = await scene.store._collections["rooms"].load("1")
        assert room is not None
        assert room.body["floor"] == 1
        await people.change(capacity=1)
        await scene.ticks()
        assert await people.claim(2) == "open"

    play(act, session_keep_s=100)


def test_a_restart_keeps_every_place_and_the_first_tick_follows_at_once() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(5)
        await scene.ticks()
        await people.claim(1)
        before = await people.room()
        await people.client.__aexit__(None, None, None)
        scene.broker.forget("queue.line.v1")
        await scene.clock.sleep(1_000)  # longer than any offer waits: but nobody could come
        client, _ = scene.instance(room_capacity=99)
        async with client:
            again = People(client)
            await scene.ticks()
            after = await again.room()
            assert (after["watermark"], after["issued"], after["capacity"]) == (3, 5, 3)
            assert after["fence"] == before["fence"] + 1
            assert await again.claim(2) == "open"
            assert await again.claim(4) == "none"
            assert await again.join() == [6]
        await people.client.__aenter__()

    play(act, session_s=86_400)


def test_the_rate_follows_what_the_line_does() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(400)
        for sequence in range(1, 101):
            await people.leave(sequence)
            await scene.clock.sleep(0.5)
        assert 1.5 < (await people.room())["rate"] < 3

    play(act, room_capacity=1)


def test_what_operators_watch_is_exported() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(5)
        await scene.ticks()
        await people.claim(1)
        await people.leave(1)
        await scene.ticks()
        page = (await people.client.call("GET", "/metrics")).body.decode()
        for line in (
            'stagedoor_queue_joins_total{room="1"} 5.0',
            'stagedoor_queue_admitted_total{room="1"} 4.0',
            'stagedoor_queue_waiting_people{room="1"} 1.0',
            'stagedoor_queue_unclaimed_offers{room="1"} 3.0',
            'stagedoor_queue_sessions_opened_total{room="1"} 1.0',
            'stagedoor_queue_sessions_ended_total{reason="left",room="1"} 1.0',
            'stagedoor_queue_claim_wait_seconds_count{room="1"} 1.0',
            'stagedoor_queue_leader{room="1"} 1.0',
            'stagedoor_queue_fence{room="1"} 1.0',
        ):
            assert line in page, line
        age = next(line for line in page.splitlines() if line.startswith("stagedoor_queue_tick_age_seconds{"))
        assert 0 <= float(age.split()[-1]) <= 1

    play(act)


def test_how_long_the_next_one_in_line_has_waited_is_exported_and_whether_the_line_is_held() -> None:
    async def figures(people: People) -> tuple[float, float]:
        page = (await people.client.call("GET", "/metrics")).body.decode()
        shown = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
        names = ("stagedoor_queue_head_wait_seconds", "stagedoor_queue_held_back")
        wait_s, held = (float(shown[f'{name}{{room="1"}}']) for name in names)
        return wait_s, held

    async def act(scene: Scene, people: People) -> None:
        await people.join(3)
        await scene.ticks()
        assert await figures(people) == (0, 0)
        await people.join(1)
        await scene.ticks(20)
        await people.join(1)
        await scene.ticks(10)
        wait_s, held = await figures(people)
        assert (29 <= wait_s <= 31, held) == (True, 0)
        await people.change(state="paused", capacity=4)
        await scene.ticks(2)
        assert (await figures(people))[1] == 1
        await people.change(state="open")
        await scene.ticks(2)
        wait_s, held = await figures(people)
        assert (11 <= wait_s <= 15, held) == (True, 0)

    play(act, claim_window_s=3_600)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"rooms": "0"}, "ROOMS"),
        ({"rooms": "1,x"}, "ROOMS"),
        ({"rooms": "65536"}, "ROOMS"),
        ({"rooms": ",".join(str(id_) for id_ in range(1, 258))}, "ROOMS"),
        ({"tick_s": 2.0}, "LEADER_LEASE_S"),
        ({"request_deadline_s": 31.0}, "PURGE_S"),
        ({"session_s": 0}, "SESSION_S"),
    ],
)
def test_a_setting_that_cannot_work_is_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}: "):
        QueueSettings.from_environment(ticket_keys=KEYS, **given)


def test_a_closed_room_takes_no_joins_and_serves_its_line() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(2)
        await people.change(state="closed")
        refused = await people.ask_to_join()
        assert (refused.status, refused.code) == (409, "ROOM_CLOSED")
        await scene.ticks()
        assert await people.claim(2) == "open"

    play(act)


def test_before_it_opens_a_room_takes_joins_and_lets_nobody_in() -> None:
    async def act(scene: Scene, people: People) -> None:
        reply = await people.change(opensAt="2027-01-15T17:01:00+09:00")
        assert reply.json["opensAt"] == "2027-01-15T08:01:00.000Z"
        await people.join(2)
        await scene.clock.sleep(50)
        assert await people.claim(1) == "none"
        await scene.clock.sleep(12)
        assert await people.claim(1) == "open"
        assert (await people.change(opensAt=None)).json["opensAt"] is None

    play(act)
