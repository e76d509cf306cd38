"""The token routes: join, ask, come in, leave, against a queue that plays by a script."""

import asyncio

import pytest

from libs.common.tickets import TicketCodec
from services.gateway.service.lines import ASK_AGAIN_S
from services.gateway.tests.scene import CODEC, Scene, lost, play, problem, refused, reply


def test_a_newcomer_is_told_the_place_in_line() -> None:
    async def part(scene: Scene) -> None:
        scene.queue.issued = 41
        joined = await scene.call("POST", "/token/create", json={"userId": 7, "room": 1})
        assert joined.status == 201
        assert joined.json == {
            "uuid": CODEC.sign(1, 42),
            "position": 42,
            "state": "WAITING",
            "room": 1,
            "pollAfterMs": joined.json["pollAfterMs"],
            "etaSeconds": None,
            "expiresAt": None,
        }
        assert 1_000 <= joined.json["pollAfterMs"] <= 20_000

    play(part)


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"userId":7}'])
def test_joining_needs_no_body(raw: bytes) -> None:
    async def part(scene: Scene) -> None:
        assert (await scene.call("POST", "/token/create", raw=raw)).status == 201

    play(part)


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"{", 400, "MALFORMED_REQUEST"),
        (b"[" * 2000, 400, "MALFORMED_REQUEST"),
        (b"[]", 422, "INVALID_FIELD"),
        (b'{"room":0}', 422, "INVALID_FIELD"),
        (b'{"room":65536}', 422, "INVALID_FIELD"),
        (b'{"room":"1"}', 422, "INVALID_FIELD"),
        (b'{"userId":true}', 422, "INVALID_FIELD"),
        (b'{"x":"' + b"y" * 17_000 + b'"}', 413, "BODY_TOO_LARGE"),
    ],
)
def test_a_join_that_cannot_be_read_takes_no_place(raw: bytes, status: int, code: str) -> None:
    async def part(scene: Scene) -> None:
        refusal = await scene.call("POST", "/token/create", raw=raw)
        assert (refusal.status, refusal.code) == (status, code)
        assert scene.queue.issued == 0

    play(part)


@pytest.mark.parametrize(("status", "code"), [(404, "ROOM_NOT_FOUND"), (409, "ROOM_CLOSED")])
def test_what_the_queue_refuses_is_refused_at_the_door_under_our_own_address(status: int, code: str) -> None:
    async def part(scene: Scene) -> None:
        scene.queue.script = [problem(status, code)]
        refusal = await scene.call("POST", "/token/create", json={"room": 9})
        assert (refusal.status, refusal.code) == (status, code)
        assert refusal.json["instance"] == "/api/v1/token/create"

    play(part)


def test_a_join_whose_reply_is_lost_is_sent_again_only_under_a_key_of_the_client() -> None:
    async def part(scene: Scene) -> None:
        scene.queue.script = [lost()]
        assert (await scene.call("POST", "/token/create")).code == "DEPENDENCY_DOWN"
        assert scene.queue.count("POST", "/internal/v1/joins") == 1
        scene.queue.sent.clear()
        scene.queue.script = [lost()]
        joined = await scene.call("POST", "/token/create", headers={"Idempotency-Key": "k1"})
        assert joined.status == 201
        assert [sent.headers["Idempotency-Key"] for sent in scene.queue.sent[:2]] == ["k1", "k1"]
        assert "X-Idempotency-Key-Made" not in scene.queue.sent[0].headers

    play(part)


def test_no_client_can_say_that_its_key_was_made_by_us() -> None:
    async def part(scene: Scene) -> None:
        forged = {"Idempotency-Key": "k1", "X-Idempotency-Key-Made": "1"}
        assert (await scene.call("POST", "/token/create", headers=forged)).status == 201
        assert dict(scene.queue.sent[0].headers) == {"Idempotency-Key": "k1"}

    play(part)


def test_a_join_that_never_arrived_is_sent_again_and_its_made_key_is_marked() -> None:
    async def part(scene: Scene) -> None:
        scene.queue.script = [refused()]
        assert (await scene.call("POST", "/token/create")).status == 201
        first, second = scene.queue.sent[:2]
        assert first.headers["X-Idempotency-Key-Made"]
        assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]

    play(part)


def test_who_joins_an_empty_line_is_inside_at_once() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(10)
        joined = await scene.call("POST", "/token/create")
        assert (joined.json["position"], joined.json["state"]) == (0, "INSIDE")

    play(part)


def test_a_place_that_was_given_is_told_even_when_coming_in_fails() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(10)
        scene.queue.script = [reply(201, {"ticket": CODEC.sign(1, 3), "room": 1, "sequence": 3}), *[lost()] * 3]
        joined = await scene.call("POST", "/token/create")
        assert (joined.status, joined.json["position"], joined.json["state"]) == (201, 1, "WAITING")

    play(part)


def test_who_is_inside_and_joins_again_under_the_key_is_never_told_to_wait_while_the_queue_is_away() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(10)
        given = reply(201, {"ticket": CODEC.sign(1, 3), "room": 1, "sequence": 3})
        scene.queue.script = [given, *[lost()] * 3]
        refusal = await scene.call("POST", "/token/create", headers={"Idempotency-Key": "k1"})
        assert (refusal.status, refusal.code) == (503, "DEPENDENCY_DOWN")
        scene.queue.script = [given]
        joined = await scene.call("POST", "/token/create", headers={"Idempotency-Key": "k1"})
        assert (joined.json["position"], joined.json["state"]) == (0, "INSIDE")

    play(part)


def test_polls_are_answered_from_memory_and_positions_follow_the_line() -> None:
    async def part(scene: Scene) -> None:
        ticket = CODEC.sign(1, 100)
        for tick, (watermark, position) in enumerate([(0, 100), (40, 60), (99, 1)], start=2):
            await scene.move_line(watermark, tick)
            assert (await scene.poll(ticket))["position"] == position
        assert scene.queue.sent == []

    play(part)


def test_a_tick_of_a_leader_that_was_replaced_does_not_move_anyone_back() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(50, tick=9)
        await scene.move_line(20, tick=3)
        assert (await scene.poll(CODEC.sign(1, 60)))["position"] == 10

    play(part)


def test_polls_go_on_while_the_queue_is_away() -> None:
    async def part(scene: Scene) -> None:
        scene.queue.is_down = True
        await scene.clock.sleep(60)
        assert (await scene.poll(CODEC.sign(1, 5)))["position"] == 5

    play(part)


def test_the_poll_that_first_sees_the_turn_comes_in_and_later_ones_do_not_ask_again() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(3)
        for _ in range(3):
            told = await scene.poll(CODEC.sign(1, 3))
            assert (told["position"], told["state"], told["expiresAt"]) == (0, "INSIDE", "2027-01-15T08:10:00.101Z")
        assert scene.queue.claims == 1

    play(part)


def test_a_hundred_polls_at_once_make_one_claim() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(3)
        scene.queue.answer_s = 0.2
        told = await asyncio.gather(*(scene.poll(CODEC.sign(1, 3)) for _ in range(100)))
        assert {each["state"] for each in told} == {"INSIDE"}
        assert scene.queue.claims == 1

    play(part)


def test_who_came_too_late_is_first_in_line_and_asks_at_every_poll() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(3)
        scene.queue.states[2] = "returning"
        for _ in range(2):
            told = await scene.poll(CODEC.sign(1, 2))
            assert (told["position"], told["state"]) == (1, "WAITING")
        assert scene.queue.claims == 2
        scene.queue.states[2] = "open"
        assert (await scene.poll(CODEC.sign(1, 2)))["state"] == "INSIDE"

    play(part)


def test_who_may_not_come_in_yet_is_never_told_0() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(3)
        scene.queue.watermark = 0
        told = await scene.poll(CODEC.sign(1, 3))
        assert (told["position"], told["state"]) == (1, "WAITING")

    play(part)


def test_when_the_turn_has_come_and_the_queue_is_away_the_poll_says_so() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(3)
        scene.queue.is_down = True
        answered = await scene.call("GET", "/token", CODEC.sign(1, 3))
        assert (answered.status, answered.code) == (503, "DEPENDENCY_DOWN")
        assert answered.headers["retry-after"] == "1"

    play(part)


def test_a_visit_that_is_over_stays_over_whatever_is_heard_later() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(3)
        await scene.close_visit(3)
        await scene.open_visit(3)
        assert (await scene.poll(CODEC.sign(1, 3)))["state"] == "ENDED"
        assert scene.queue.sent == []

    play(part)


def test_an_estimate_is_told_when_the_line_moves() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(10, rate=4.0)
        assert (await scene.poll(CODEC.sign(1, 50)))["etaSeconds"] == 10

    play(part)


def test_leaving_ends_the_visit_at_once() -> None:
    async def part(scene: Scene) -> None:
        ticket = await scene.open_visit(3)
        left = await scene.call("DELETE", "/token", ticket)
        assert (left.status, left.body) == (204, b"")
        assert (await scene.poll(ticket))["state"] == "ENDED"
        assert (await scene.call("GET", "/concert/1/available-schedules", ticket)).code == "SESSION_EXPIRED"

    play(part)


def test_leaving_is_refused_what_every_write_is_refused_and_nobody_has_left() -> None:
    async def part(scene: Scene) -> None:
        ticket = await scene.open_visit(3)
        for status, wrong in (
            (422, {"headers": {"Idempotency-Key": "a b"}}),
            (415, {"headers": {"Content-Encoding": "gzip"}, "raw": b"x"}),
            (413, {"raw": b"x" * (16 * 1024 + 1)}),
        ):
            assert (await scene.call("DELETE", "/token", ticket, **wrong)).status == status
        assert (await scene.poll(ticket))["state"] == "INSIDE"

    play(part)


def test_a_static_token_is_always_inside_and_never_used_up() -> None:
    async def part(scene: Scene) -> None:
        assert (await scene.call("DELETE", "/token", "test-token")).status == 204
        told = await scene.poll("test-token")
        assert (told["uuid"], told["position"], told["state"], told["expiresAt"]) == ("test-token", 0, "INSIDE", None)
        assert scene.queue.sent == []

    play(part)


def test_without_the_setting_no_token_is_static() -> None:
    async def part(scene: Scene) -> None:
        assert (await scene.call("GET", "/token", "test-token")).code == "TOKEN_INVALID"

    play(part, static_tokens="")


OTHERS = TicketCodec.from_settings("1:" + "cd" * 16, 1)


@pytest.mark.parametrize(
    "token", ["", "x", "TEST-TOKEN", OTHERS.sign(1, 3), CODEC.sign(1, 3).upper(), CODEC.sign(1, 3) + "0"]
)
def test_a_token_that_does_not_verify(token: str) -> None:
    async def part(scene: Scene) -> None:
        for method, path in (("GET", "/token"), ("DELETE", "/token"), ("GET", "/concert/1/available-seats")):
            answered = await scene.call(method, path, token)
            assert (answered.status, answered.code) == (401, "TOKEN_INVALID")

    play(part)


def test_a_ticket_of_a_room_that_is_not_there_is_looked_for_once_a_second() -> None:
    async def part(scene: Scene) -> None:
        await scene.clock.sleep(ASK_AGAIN_S)
        for _ in range(3):
            assert (await scene.call("GET", "/token", CODEC.sign(9, 1))).code == "ROOM_NOT_FOUND"
        assert scene.queue.count("GET", "/internal/v1/rooms") == 1

    play(part)
