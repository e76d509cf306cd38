"""A wallet that does not answer: when it is asked again, and when that would be of no use."""

import asyncio

from libs.common.events.reservation import PaymentRequested
from services.reservation.tests.scene import PRICE, Scene, in_scene


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
