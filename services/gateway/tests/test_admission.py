"""Who may come in: the check that every forwarded request with a ticket passes."""

import asyncio

import pytest

from libs.common.events.topics import QUEUE_LINE, QUEUE_SESSION
from services.gateway.domain import Standing
from services.gateway.service.sessions import NEGATIVE_S, SWEEP_COUNT, SessionTable
from services.gateway.service.visits import BELIEVED_S
from services.gateway.tests.scene import CODEC, Scene, play

INSIDE_ROUTE = ("GET", "/concert/1/available-schedules")
LOOKING_BACK_ROUTE = ("GET", "/concert/reservation/r-1")


def test_who_is_inside_comes_through_without_a_call_and_is_introduced() -> None:
    async def part(scene: Scene) -> None:
        ticket = await scene.open_visit(3)
        assert (await scene.call(*INSIDE_ROUTE, ticket)).json == {"from": "catalog"}
        introduced = {name: value for name, value in scene.catalog.sent[0].headers.items() if name.startswith("X-Tick")}
        until = introduced.pop("X-Ticket-Until")
        assert int(until) > scene.clock.now_ms()
        assert introduced == {"X-Ticket": ticket, "X-Ticket-Room": "1", "X-Ticket-Sequence": "3"}
        assert scene.queue.sent == []

    play(part)


def test_a_static_token_is_introduced_without_a_room() -> None:
    async def part(scene: Scene) -> None:
        await scene.call(*INSIDE_ROUTE, "test-token")
        headers = scene.catalog.sent[0].headers
        assert headers["X-Ticket"] == "test-token"
        assert "X-Ticket-Room" not in headers

    play(part)


def test_no_ticket_is_asked_for_where_none_is_needed() -> None:
    async def part(scene: Scene) -> None:
        assert (await scene.call("GET", "/concert")).status == 200
        assert (await scene.call("GET", "/users/7/wallet")).status == 200
        assert (await scene.call("PATCH", "/users/charge/point", json={})).status == 200

    play(part)


def test_nobody_introduces_themselves() -> None:
    async def part(scene: Scene) -> None:
        forged = {"X-Ticket": "t", "X-Ticket-Room": "1", "X-Ticket-Sequence": "1", "X-Ticket-Ended": "1"}
        assert (await scene.call(*INSIDE_ROUTE, headers=forged)).code == "TOKEN_MISSING"
        await scene.call("GET", "/users/7/wallet", headers=forged)
        await scene.call(*INSIDE_ROUTE, "test-token", headers=forged)
        assert "X-Ticket" not in scene.wallet.sent[0].headers
        assert scene.catalog.sent[0].headers == {"X-Ticket": "test-token"}

    play(part)


def test_who_waits_is_told_the_position_and_the_queue_is_asked_once_a_second() -> None:
    async def part(scene: Scene) -> None:
        ticket = CODEC.sign(1, 7)
        await scene.move_line(5)
        for _ in range(5):
            answered = await scene.call(*INSIDE_ROUTE, ticket)
            assert (answered.status, answered.code, answered.json["position"]) == (403, "STILL_WAITING", 2)
        assert scene.queue.lookups == 1
        await scene.clock.sleep(NEGATIVE_S + 0.1)
        await scene.call(*INSIDE_ROUTE, ticket)
        assert scene.queue.lookups == 2

    play(part)


def test_an_opening_is_believed_at_once_even_after_the_queue_has_said_no() -> None:
    async def part(scene: Scene) -> None:
        ticket = CODEC.sign(1, 7)
        assert (await scene.call(*INSIDE_ROUTE, ticket)).code == "STILL_WAITING"
        await scene.open_visit(7)
        assert (await scene.call(*INSIDE_ROUTE, ticket)).status == 200

    play(part)


def test_a_no_that_was_on_its_way_does_not_undo_an_opening() -> None:
    async def part(scene: Scene) -> None:
        scene.queue.answer_s = 0.5
        asking = asyncio.create_task(scene.call(*INSIDE_ROUTE, CODEC.sign(1, 7)))
        await scene.clock.sleep(0.1)
        ticket = await scene.open_visit(7)
        assert (await asking).status == 200
        assert (await scene.call(*INSIDE_ROUTE, ticket)).status == 200

    play(part)


def test_a_yes_that_was_on_its_way_does_not_undo_a_closing() -> None:
    async def part(scene: Scene) -> None:
        scene.queue.states[7] = "open"
        scene.queue.answer_s = 0.5
        asking = asyncio.create_task(scene.call(*INSIDE_ROUTE, CODEC.sign(1, 7)))
        await scene.clock.sleep(0.1)
        await scene.close_visit(7)
        assert (await asking).code == "SESSION_EXPIRED"

    play(part)


def test_a_hundred_requests_of_an_unknown_ticket_ask_once() -> None:
    async def part(scene: Scene) -> None:
        scene.queue.states[7] = "open"
        scene.queue.answer_s = 0.2
        answers = await asyncio.gather(*(scene.call(*INSIDE_ROUTE, CODEC.sign(1, 7)) for _ in range(100)))
        assert {answer.status for answer in answers} == {200}
        assert scene.queue.lookups == 1

    play(part)


def test_who_cannot_be_looked_up_stays_outside() -> None:
    async def part(scene: Scene) -> None:
        inside = await scene.open_visit(3)
        scene.queue.is_down = True
        refusal = await scene.call(*INSIDE_ROUTE, CODEC.sign(1, 7))
        assert (refusal.status, refusal.code) == (503, "DEPENDENCY_DOWN")
        assert scene.catalog.sent == []
        assert (await scene.call(*INSIDE_ROUTE, inside)).status == 200

    play(part)


def test_who_has_been_inside_may_look_back_and_nothing_else() -> None:
    async def part(scene: Scene) -> None:
        ticket = await scene.open_visit(3)
        await scene.close_visit(3)
        assert (await scene.call(*INSIDE_ROUTE, ticket)).code == "SESSION_EXPIRED"
        assert (await scene.call("POST", "/concert/reservation", ticket, {})).code == "SESSION_EXPIRED"
        for method, path in (LOOKING_BACK_ROUTE, ("GET", "/payment/p"), ("POST", "/payment")):
            assert (await scene.call(method, path, ticket, {})).status == 200
        assert {sent.headers["X-Ticket-Ended"] for sent in scene.reservation.sent} == {"1"}

    play(part)


@pytest.mark.parametrize("skew_s", [0.0, 2.0])
def test_a_visit_ends_by_itself_when_every_clock_is_past_its_end(skew_s: float) -> None:
    async def part(scene: Scene) -> None:
        ticket = await scene.open_visit(3, visit_s=10)
        await scene.clock.sleep(9.9 + skew_s)
        assert (await scene.call(*INSIDE_ROUTE, ticket)).status == 200
        await scene.clock.sleep(0.2)
        scene.queue.states[3] = "ended"
        assert (await scene.call(*INSIDE_ROUTE, ticket)).code == "SESSION_EXPIRED"

    play(part, clock_skew_s=skew_s)


def test_a_clock_that_is_wrong_turns_nobody_away_whom_the_queue_has_inside() -> None:
    async def part(scene: Scene) -> None:
        ticket = await scene.open_visit(3)
        scene.queue.states[3] = "open"
        scene.queue.visit_ms = -3_600_000  # to a gateway that is an hour ahead every visit is over long since
        await scene.clock.sleep(601)
        for _ in range(3):
            assert (await scene.call(*INSIDE_ROUTE, ticket)).status == 200
            assert (await scene.poll(ticket))["state"] == "INSIDE"
            await scene.clock.sleep(BELIEVED_S / 4)
        assert scene.queue.lookups == 1  # and not for every request of everybody inside
        scene.queue.states[3] = "ended"
        await scene.clock.sleep(BELIEVED_S)
        await scene.move_line(5)
        assert (await scene.poll(ticket))["state"] == "ENDED"
        assert (await scene.call(*INSIDE_ROUTE, ticket)).code == "SESSION_EXPIRED"

    play(part)


def test_an_end_that_is_told_is_believed_at_once_by_a_clock_that_is_wrong() -> None:
    async def part(scene: Scene) -> None:
        ticket = await scene.open_visit(3)
        scene.queue.states[3] = "open"
        scene.queue.visit_ms = -3_600_000
        await scene.clock.sleep(601)
        assert (await scene.call(*INSIDE_ROUTE, ticket)).status == 200
        await scene.close_visit(3)
        assert (await scene.call(*INSIDE_ROUTE, ticket)).code == "SESSION_EXPIRED"

    play(part)


def test_a_visit_past_its_end_is_over_although_the_queue_has_lost_it_or_is_away() -> None:
    async def part(scene: Scene) -> None:
        ticket = await scene.open_visit(3, visit_s=0.01)
        await scene.clock.sleep(0.02)
        scene.queue.is_down = True
        assert (await scene.call(*INSIDE_ROUTE, ticket)).code == "DEPENDENCY_DOWN"
        scene.queue.is_down = False
        scene.queue.states[3] = "none"
        assert (await scene.call(*INSIDE_ROUTE, ticket)).code == "SESSION_EXPIRED"
        assert (await scene.poll(ticket))["state"] == "ENDED"

    play(part)


def test_after_a_gap_open_visits_are_asked_for_again_and_closed_ones_stay_closed() -> None:
    async def part(scene: Scene) -> None:
        opened, closed = await scene.open_visit(3), await scene.open_visit(4)
        await scene.close_visit(4)
        scene.queue.states[3] = "ended"
        scene.broker.forget(QUEUE_SESSION)
        await scene.clock.sleep(0.1)
        assert (await scene.call(*INSIDE_ROUTE, closed)).code == "SESSION_EXPIRED"
        assert scene.queue.lookups == 0
        assert (await scene.call(*INSIDE_ROUTE, opened)).code == "SESSION_EXPIRED"
        assert scene.queue.lookups == 1

    play(part)


def test_after_a_gap_the_rooms_are_read_again() -> None:
    async def part(scene: Scene) -> None:
        scene.queue.watermark = 8
        scene.broker.forget(QUEUE_LINE)
        await scene.clock.sleep(0.1)
        assert (await scene.poll(CODEC.sign(1, 10)))["position"] == 2

    play(part)


def test_a_long_sale_leaves_nothing_behind_in_the_table() -> None:
    async def part(scene: Scene) -> None:
        for sequence in range(1, 50):
            await scene.open_visit(sequence, visit_s=10)
        assert scene.sample("known_sessions") == 49
        await scene.clock.sleep(15)
        assert scene.sample("known_sessions") == 0

    play(part)


def test_the_sweep_works_in_bounded_bites_and_a_full_table_drops_the_oldest() -> None:
    async def part(scene: Scene) -> None:
        table = SessionTable(scene.clock, 0, entries_max=SWEEP_COUNT + 10)
        for sequence in range(SWEEP_COUNT + 30):
            table.hear(1, sequence, Standing(False, scene.clock.now_ms() - 1))
        assert len(table) == SWEEP_COUNT + 10
        assert [table.sweep(), table.sweep(), len(table)] == [True, False, 0]

    play(part)


def test_entries_that_are_still_needed_do_not_hide_the_ones_behind_them() -> None:
    async def part(scene: Scene) -> None:
        table = SessionTable(scene.clock, 0, entries_max=10_000)
        for sequence in range(SWEEP_COUNT):
            table.hear(1, sequence, Standing(False, scene.clock.now_ms() + 10**6))
        table.hear(1, 9_999, Standing(False, scene.clock.now_ms() - 1))
        assert not any(table.sweep() for _ in range(2))
        assert len(table) == SWEEP_COUNT

    play(part)
