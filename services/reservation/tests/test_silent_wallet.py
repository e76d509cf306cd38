"""A wallet that does not answer: when it is asked again, when that is of no use, and when nothing new is begun."""

import asyncio

import pytest

from libs.common.events.catalogue import to_message
from libs.common.events.reservation import (
    PaymentRequested,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationPaymentDeclined,
)
from services.reservation.tests.scene import PRICE, Scene, in_scene

DEADLINE_S = 8.0

ANSWERED_WITHIN_S = 6.0
"""A payment that is called off is asked about again after 5 s."""


def test_a_silent_wallet_is_asked_again_until_it_answers() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7], scene.wallet.deaf = 2 * PRICE, True
        id_ = await scene.held(7)
        assert (await scene.pay(id_)).status == 202
        await asyncio.sleep(6)
        scene.wallet.deaf = False
        await asyncio.sleep(6)
        assert await scene.status(id_) == "CONFIRMED"
        assert 2 <= len(scene.heard_of(PaymentRequested)) <= 4
        assert scene.wallet.charged == [(id_, 1)]

    in_scene(play)


def test_while_the_broker_is_away_a_question_that_waits_is_not_asked_again() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 2 * PRICE
        id_ = await scene.held(7)
        scene.broker.down = True
        assert (await scene.pay(id_)).status == 202
        await asyncio.sleep(25)
        scene.broker.down = False
        await asyncio.sleep(10)
        assert await scene.status(id_) == "CONFIRMED"
        assert len(scene.heard_of(PaymentRequested)) == 1

    in_scene(play, alone=True)


def test_a_wallet_that_stays_silent_shows_in_what_is_due_asked_again_and_called_off() -> None:
    async def play(scene: Scene) -> None:
        async def shown(name: str) -> float:
            page = (await scene.one.call("GET", "/metrics")).body.decode()
            return float(page.partition(f"\nstagedoor_reservation_{name} ")[2].partition("\n")[0])

        scene.wallet.balance[7], scene.wallet.deaf = 2 * PRICE, True
        await scene.pay(await scene.held(7))
        due = []
        for _ in range(100):
            await asyncio.sleep(0.4)
            due.append(await shown("due_reservations"))
        assert max(due) == 1
        assert await shown("resends_total") >= 2
        assert await shown('status_entered_total{status="CANCELLING"}') == 1

    in_scene(play, alone=True)


def test_after_a_whole_deadline_without_a_word_payments_are_refused_and_the_seats_stay_held() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = scene.wallet.balance[8] = 2 * PRICE
        scene.wallet.deaf = True
        assert (await scene.pay(await scene.held(7), "first")).status == 202
        await asyncio.sleep(DEADLINE_S)
        id_ = await scene.held(8, (3, 4))
        refused = await scene.pay(id_, "second", 8)
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "DEPENDENCY_DOWN", "2")
        assert await scene.status(id_, 8) == "HELD"
        scene.wallet.deaf = False
        await asyncio.sleep(ANSWERED_WITHIN_S)  # the first payment is called off; that is an answer
        assert (await scene.pay(id_, "second", 8)).status == 200
        assert scene.wallet.charged == [(id_, 1)]

    in_scene(play, alone=True, pay_deadline_s=DEADLINE_S)


def test_while_the_wallet_is_silent_one_payment_in_five_seconds_finds_out() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.deaf = True
        await scene.pay(await scene.held(7))
        await asyncio.sleep(DEADLINE_S)
        holds = [await scene.held(user, (user,)) for user in range(8, 18)]
        told = []
        for user, id_ in enumerate(holds, start=8):
            told.append((await scene.pay(id_, user=user)).status)
            await asyncio.sleep(1)
        # Each of the two that are let through waits 2 s for its outcome.
        assert told.count(202) in (2, 3)
        assert told.count(202) + told.count(503) == len(holds)

    in_scene(play, alone=True, pay_deadline_s=DEADLINE_S)


def test_what_runs_already_is_joined_while_the_wallet_is_silent() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7], scene.wallet.deaf = 4 * PRICE, True
        await scene.pay(await scene.held(7), "first")
        await asyncio.sleep(DEADLINE_S - 3)
        late = await scene.held(7, (3,))
        assert (await scene.pay(late, "late")).status == 202
        assert (await scene.pay(late, "late")).status == 202
        assert (await scene.pay(await scene.held(7, (4,)), "new")).status == 503

    in_scene(play, alone=True, pay_deadline_s=DEADLINE_S)


def test_one_payment_that_is_not_answered_among_others_closes_nothing() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance = dict.fromkeys(range(7, 20), PRICE)
        lost = await scene.held(7)
        scene.wallet.deaf_to.add(lost)
        await scene.pay(lost)
        for user in range(8, 20):
            assert (await scene.pay(await scene.held(user, (user,)), user=user)).status == 200
            await asyncio.sleep(1)
        assert await scene.status(lost) == "CANCELLING"

    in_scene(play, alone=True, pay_deadline_s=DEADLINE_S)


@pytest.mark.parametrize(
    ("news", "status"),
    [
        (ReservationConfirmed("r", 1, 9, "ticket-9", room=1, sequence=9, at_ms=1), 202),
        (ReservationPaymentDeclined("r", 1, 9, 1), 202),
        (ReservationExpired("r", 0, 9, 1), 503),
        (ReservationCancelled("r", 0, 9, 1), 503),
    ],
)
def test_what_another_instance_heard_of_the_wallet_ends_its_silence_here(news: object, status: int) -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.deaf = True
        await scene.pay(await scene.held(7))
        await asyncio.sleep(DEADLINE_S)
        await scene.wallet.bus.publish([to_message(news, "elsewhere-1", "reservation")])
        await asyncio.sleep(1)
        assert (await scene.pay(await scene.held(8, (3,)), user=8)).status == status

    in_scene(play, alone=True, pay_deadline_s=DEADLINE_S)
