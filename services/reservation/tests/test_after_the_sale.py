"""Who may look at what, and what is left when the sale is over."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from libs.common.events.reservation import PaymentCancelled
from services.reservation.app import _books
from services.reservation.metrics import ReservationMetrics
from services.reservation.service.duties import Duties
from services.reservation.service.waiting import Waiters
from services.reservation.settings import ReservationSettings
from services.reservation.tests.scene import HOLD, ONE_BLOCK, PAY, PRICE, STATIC, Scene, in_scene, visitor


def test_objects_of_others_are_neither_shown_nor_touched() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = scene.wallet.balance[8] = 10 * PRICE
        id_ = await scene.held(7)
        await scene.pay(id_)
        by_others = (
            await scene.pay(id_, user=8),
            await scene.pay(id_, user=7, by=visitor(8)),
            await scene.pay(id_, user=8, by=visitor(7)),
            await scene.send("GET", f"{HOLD}/{id_}", by=visitor(8)),
            await scene.send("GET", f"{PAY}/{id_}-1", by=visitor(8)),
            await scene.send("GET", f"{HOLD}/{id_}", by=STATIC),
        )
        assert {(reply.status, reply.code) for reply in by_others} == {(403, "NOT_YOURS")}
        for payment in ("", "-0", "-2", "-01x", "-999999", "-¹"):
            reply = await scene.send("GET", f"{PAY}/{id_}{payment}", by=visitor(7))
            assert (reply.status, reply.code) == (404, "RESERVATION_NOT_FOUND")

    in_scene(play)


def test_a_request_that_outlasted_its_visit_in_a_process_that_stood_still_begins_nothing() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 2 * PRICE
        late_ms = 2 * ReservationSettings().clock_skew_ms
        just = replace(visitor(7), until_ms=scene.clock.now_ms() - late_ms)
        id_ = await scene.held(7, by=just)
        over = replace(just, until_ms=scene.clock.now_ms() - late_ms - 1)
        assert (await scene.hold(7, (3,), by=over)).code == "SESSION_EXPIRED"
        assert (await scene.pay(id_, by=over)).code == "SESSION_EXPIRED"
        assert (await scene.send("DELETE", f"{HOLD}/{id_}", by=over)).code == "SESSION_EXPIRED"
        assert await scene.states() == ["held"]
        assert (await scene.pay(id_, by=just)).status == 200

    in_scene(play)


def test_a_ticket_that_has_bought_may_look_back_and_repeat_for_a_day_and_nothing_else() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 10 * PRICE
        id_ = await scene.held(7)
        await scene.held(7, (3,), at=scene.two)  # now both instances remember whom the ticket holds for
        first = await scene.pay(id_)
        await asyncio.sleep(1)
        for at in (scene.one, scene.two):
            assert (await scene.hold(7, (9,), at=at)).code == "SESSION_EXPIRED"
        ended = visitor(7, ended=True)
        assert (await scene.pay(id_, by=ended)).json == first.json
        assert (await scene.send("GET", f"{PAY}/{id_}-1", by=ended)).json == first.json
        assert (await scene.reservation(id_, ended))["status"] == "CONFIRMED"
        assert (await scene.hold(7, (9,), by=ended)).code == "SESSION_EXPIRED"
        assert (await scene.send("GET", f"{HOLD}/{id_}", by=visitor(8, ended=True))).code == "SESSION_EXPIRED"
        assert (await scene.send("DELETE", f"{HOLD}/{id_}", by=visitor(7))).code == "ALREADY_PAID"
        scene.days_pass(1)
        for reply in (await scene.pay(id_, by=ended), await scene.send("GET", f"{HOLD}/{id_}", by=ended)):
            assert (reply.status, reply.code) == (403, "SESSION_EXPIRED")

    in_scene(play)


def test_a_refund_gives_the_points_back_once_and_the_seats_to_others() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = scene.wallet.balance[8] = 2 * PRICE
        id_ = await scene.held(7)
        paid = await scene.pay(id_, "pay-1")
        await asyncio.sleep(1)
        assert (await scene.refund(id_)).json["status"] == "REFUNDING"
        assert await scene.states() == ["free"]
        second = await scene.held(8)
        await asyncio.sleep(1)
        assert (await scene.refund(id_, at=scene.two)).json["status"] == "REFUNDED"
        assert (scene.wallet.balance[7], scene.wallet.ledger) == (2 * PRICE, {(id_, 1): "refund"})
        assert (await scene.pay(second, user=8)).status == 200
        again = await scene.pay(id_, "pay-1", by=visitor(7, ended=True))
        assert (again.status, again.json) == (200, paid.json)
        assert (await scene.pay(id_, "pay-2")).code == "HOLD_EXPIRED"

    in_scene(play)


def test_a_key_that_was_answered_with_another_keys_payment_is_answered_with_it_after_the_refund_too() -> None:
    async def play(scene: Scene) -> None:
        id_ = await scene.held(7)
        assert (await scene.pay(id_, "declined")).status == 402
        scene.wallet.balance[7] = 10 * PRICE
        other = await scene.held(7, (3,))
        keys = [*(f"key-{n}" for n in range(18)), "declined"]
        at_once = await asyncio.gather(
            *(scene.pay(id_, key, at=(scene.one, scene.two)[n % 2]) for n, key in enumerate(keys))
        )
        assert {reply.status for reply in at_once} <= {200, 409}
        keys.append("late")
        paid = [await scene.pay(id_, key) for key in keys]
        assert {reply.status for reply in paid} == {200}
        await asyncio.sleep(1)
        scene.wallet.deaf = True
        await scene.refund(id_)
        for status in ("REFUNDING", "REFUNDED"):
            assert await scene.status(id_) == status
            for key in keys:
                again = await scene.pay(id_, key, at=scene.two, by=visitor(7, ended=True))
                assert (again.status, again.json) == (200, paid[0].json)
                assert again.headers["idempotent-replayed"] == "true"
            for key in ("", "new", "new"):
                assert (await scene.pay(id_, key)).code == "HOLD_EXPIRED"
            scene.wallet.deaf = False
            await asyncio.sleep(6)
        body = {"userId": 7, "reservationId": id_, "token": "another"}
        for reply in [await scene.send("POST", PAY, body, key, by=visitor(7)) for key in keys]:
            assert (reply.status, reply.code) == (422, "IDEMPOTENCY_MISMATCH")
        assert (await scene.pay(other, "new")).status == 200  # what was refused has not used it up
        assert (scene.wallet.ledger[id_, 2], len(scene.wallet.charged)) == ("refund", 1)

    in_scene(play)


def test_a_refund_is_asked_for_again_until_the_wallet_answers() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 2 * PRICE
        id_ = await scene.held(7)
        await scene.pay(id_)
        await asyncio.sleep(1)
        scene.wallet.deaf = True
        await scene.refund(id_)
        await asyncio.sleep(12)
        assert await scene.status(id_) == "REFUNDING"
        assert len([event for event in scene.heard_of(PaymentCancelled) if event.reservation == id_]) >= 3
        scene.wallet.deaf = False
        await asyncio.sleep(9)
        assert await scene.status(id_) == "REFUNDED"
        assert scene.wallet.balance[7] == 2 * PRICE

    in_scene(play)


def test_what_is_not_paid_is_not_refunded() -> None:
    async def play(scene: Scene) -> None:
        id_ = await scene.held(7)
        assert (await scene.refund(id_)).code == "NOT_PAID"
        assert (await scene.refund("r-unknown")).code == "RESERVATION_NOT_FOUND"
        assert await scene.states() == ["held"]

    in_scene(play)


def test_a_ticket_that_has_bought_is_known_after_a_restart() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 10 * PRICE
        await scene.pay(await scene.held(7))
        await asyncio.sleep(1)
        async with scene.instance("3", scene.clock) as restarted:
            assert (await scene.hold(7, (9,), at=restarted)).code == "SESSION_EXPIRED"

    in_scene(play)


def test_a_static_ticket_buys_again_and_again() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 10 * PRICE
        for seat in (1, 2, 3):
            id_ = await scene.held(7, (seat,), by=STATIC)
            assert (await scene.pay(id_, by=STATIC)).status == 200

    in_scene(play)


def test_a_visit_that_is_over_begins_no_payment_but_joins_the_one_that_runs() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7], scene.wallet.delay_s = 2 * PRICE, 3.0
        id_ = await scene.held(7)
        ended = visitor(7, ended=True)
        assert (await scene.pay(id_, "key-1", by=ended)).code == "SESSION_EXPIRED"
        assert (await scene.pay(id_, "key-1")).status == 202
        assert (await scene.pay(id_, "key-1", by=ended)).status == 200

    in_scene(play)


def test_everything_is_told_in_seat_events_that_lead_to_what_is() -> None:
    async def play(scene: Scene) -> None:
        for user in range(1, 11):
            scene.wallet.balance[user] = PRICE * (user % 3)
        replies = await asyncio.gather(*(scene.hold(user, (user, 11)) for user in range(1, 11)))
        assert Counter(reply.status for reply in replies) == {201: 1, 409: 9}
        ids = {user: await scene.held(user, (user + 8,)) for user in (1, 2, 4, 5, 7, 8)}
        await asyncio.gather(*(scene.pay(id_, user=user) for user, id_ in ids.items() if user != 8))
        await asyncio.sleep(302)
        view: dict[int, tuple[int, int]] = {}
        ranks = {"SeatsReleased": 0, "SeatsHeld": 1, "SeatsSold": 2}
        for event in reversed(scene.heard):
            for seat in getattr(event, "seats", ()):
                view[seat.seat] = max(view.get(seat.seat, (0, 0)), (seat.n, ranks[type(event).__name__]))
        is_now = {
            seat: (n, ("free", "held", "sold").index(state)) for seat, (n, state) in (await scene.seats()).items()
        }
        assert view == is_now

    in_scene(play)


def test_keys_nobody_can_ask_for_any_more_are_forgotten() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 10 * PRICE
        await scene.pay(await scene.held(7, schedule=ONE_BLOCK), "key-1")
        for days, keys, tickets in ((0, 1, 1), (1, 0, 1), (6, 0, 0)):
            scene.days_pass(days)
            await asyncio.sleep(61)
            assert (len(scene.stored("payment_keys")), len(scene.stored("tickets"))) == (keys, tickets)

    in_scene(play)


def test_a_document_that_always_fails_keeps_no_other_from_the_sweeper(capsys: pytest.CaptureFixture[str]) -> None:
    async def play(scene: Scene) -> None:
        broken = await scene.held(20, (20,))
        await scene.rewrite("reservations", broken, status="REFUNDING", due_ms=0)  # and nothing was ever paid
        made = []
        for user in range(1, 16):
            made.append(await scene.held(user, (user,)))
            await asyncio.sleep(1)
        # The first of them end the long pauses of a job that had nothing to do but to fail.
        for id_ in made[6:]:
            await asyncio.sleep(1)
            assert scene.stored("reservations")[id_]["status"] == "EXPIRED"

    in_scene(play, alone=True, hold_s=7.5, clock_skew_s=0)
    assert "part of a job failed" in capsys.readouterr().out


def test_paid_seats_that_are_gone_are_an_alarm_unless_another_sold_them_and_they_were_refunded() -> None:
    async def play(scene: Scene) -> None:
        metrics = ReservationMetrics()
        books = _books(scene.store, metrics, lambda _: None, scene.catalog)
        late = Duties(books, Waiters(metrics), metrics)
        scene.wallet.balance[7] = 2 * PRICE
        id_ = await scene.held(7)
        await scene.pay(id_)
        await asyncio.sleep(1)
        await scene.rewrite("reservations", id_, owes="sell")
        owing = await books.reservations.get(id_)
        assert owing is not None
        await late.discharge(owing, scene.clock.now_ms())
        await scene.refund(id_)
        await asyncio.sleep(1)
        assert await scene.states() == ["free"]
        await late.discharge(owing, scene.clock.now_ms())
        assert unsold(metrics) == 0
        await scene.rewrite("reservations", id_, status="CONFIRMED", owes="sell")
        await late.discharge(owing, scene.clock.now_ms())
        assert unsold(metrics) == 2

    in_scene(play)


def unsold(metrics: ReservationMetrics) -> float | None:
    return metrics.registry.get_sample_value("stagedoor_reservation_unsold_seats_total")
