"""Payments as clients see them: through two instances, with a wallet that is slow, silent or without points."""

import asyncio
from collections import Counter

from libs.common.events.catalogue import to_message
from libs.common.events.reservation import (
    PaymentCancelled,
    ReservationConfirmed,
    SeatsReleased,
    SeatsSold,
)
from libs.common.events.topics import RESERVATION_OUTCOMES
from libs.common.events.wallet import PaymentCompleted
from services.reservation.tests.scene import HOLD, PAY, PRICE, TWO_BLOCKS, Scene, in_scene, visitor


def test_a_payment_sells_the_seats() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 2 * PRICE
        id_ = await scene.held(7)
        reply = await scene.pay(id_)
        assert reply.status == 200
        assert reply.json == {
            "id": f"{id_}-1",
            "userId": 7,
            "reservationId": id_,
            "amount": 2 * PRICE,
            "status": "COMPLETED",
            "createdAt": "2027-01-15T08:00:00.000Z",
        }
        await asyncio.sleep(1)
        assert scene.wallet.balance[7] == 0
        assert await scene.states() == ["sold"]
        assert await scene.status(id_) == "CONFIRMED"
        assert scene.heard_of(ReservationConfirmed)[0].ticket == "ticket-7"
        assert [len(event.seats) for event in scene.heard_of(SeatsSold)] == [2]
        read = await scene.send("GET", f"{PAY}/{id_}-1", by=visitor(7))
        assert (read.status, read.json) == (200, reply.json)

    in_scene(play)


def test_every_attempt_that_begins_is_counted_and_no_call_that_joins_one() -> None:
    async def play(scene: Scene) -> None:
        id_ = await scene.held(7)
        replies = await asyncio.gather(*(scene.pay(id_, "key-1") for _ in range(5)))
        assert {reply.status for reply in replies} == {402}
        scene.wallet.balance[7] = 2 * PRICE
        assert [(await scene.pay(id_, "key-1")).status for _ in range(2)] == [200, 200]
        page = (await scene.one.call("GET", "/metrics")).body.decode()
        assert 'stagedoor_reservation_status_entered_total{status="PAYING"} 2.0' in page

    in_scene(play, alone=True)


def test_seats_of_several_blocks_are_paid_together() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 2 * PRICE
        id_ = await scene.held(7, (1, 500), schedule=TWO_BLOCKS)
        assert (await scene.pay(id_)).status == 200
        await asyncio.sleep(1)
        assert await scene.seats(TWO_BLOCKS) == {1: (1, "sold"), 500: (1, "sold")}

    in_scene(play)


def test_twenty_payments_at_once_with_one_key_are_one_debit_and_one_answer() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 10 * PRICE
        id_ = await scene.held(7)
        replies = await asyncio.gather(*(scene.pay(id_, "key-1", at=(scene.one, scene.two)[n % 2]) for n in range(20)))
        assert {reply.status for reply in replies} == {200}
        assert len({reply.body for reply in replies}) == 1
        assert scene.wallet.charged == [(id_, 1)]
        again = await scene.pay(id_, "key-1")
        assert (again.json, again.headers["idempotent-replayed"]) == (replies[0].json, "true")

    in_scene(play)


def test_twenty_payments_at_once_with_their_own_keys_are_one_debit() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 10 * PRICE
        id_ = await scene.held(7)
        replies = await asyncio.gather(
            *(scene.pay(id_, f"key-{n}" if n % 3 else "", at=(scene.one, scene.two)[n % 2]) for n in range(20))
        )
        statuses = Counter(reply.status for reply in replies)
        assert statuses[200] >= 1
        assert set(statuses) <= {200, 202, 409}
        assert {reply.code for reply in replies if reply.status == 409} <= {"REQUEST_IN_PROGRESS"}
        assert len({reply.body for reply in replies if reply.status == 200}) == 1
        assert scene.wallet.charged == [(id_, 1)]
        assert scene.wallet.balance[7] == 8 * PRICE
        assert (await scene.pay(id_, "another-key")).json["id"] == f"{id_}-1"

    in_scene(play)


def test_a_decline_keeps_the_hold_and_paying_again_after_a_charge_works() -> None:
    async def play(scene: Scene) -> None:
        id_ = await scene.held(7)
        for attempt in (1, 2):
            reply = await scene.pay(id_, "key-1")
            assert (reply.status, reply.code) == (402, "NOT_ENOUGH_POINTS")
            read = await scene.send("GET", f"{PAY}/{id_}-{attempt}", by=visitor(7))
            assert read.json["status"] == "DECLINED"
        assert await scene.status(id_) == "HELD"
        assert (await scene.hold(8)).code == "SEAT_TAKEN"
        scene.wallet.balance[7] = 2 * PRICE
        assert (await scene.pay(id_, "key-1")).json["id"] == f"{id_}-3"
        assert scene.wallet.charged == [(id_, 3)]

    in_scene(play)


def test_a_declined_hold_still_ends_at_its_first_expiry() -> None:
    async def play(scene: Scene) -> None:
        id_ = await scene.held(7)
        await asyncio.sleep(290)
        await scene.pay(id_)
        await asyncio.sleep(11)
        assert await scene.status(id_) == "EXPIRED"
        assert await scene.states() == ["free"]
        assert (await scene.pay(id_)).code == "HOLD_EXPIRED"

    in_scene(play)


def test_a_slow_wallet_gives_202_and_a_place_to_ask() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7], scene.wallet.delay_s = 2 * PRICE, 4.0
        id_ = await scene.held(7)
        began_s = scene.clock.monotonic_s()
        reply = await scene.pay(id_, "key-1")
        assert (reply.status, reply.json["status"]) == (202, "PENDING")
        assert reply.headers["location"] == f"{PAY}/{id_}-1"
        assert reply.headers["retry-after"] == "1"
        assert scene.clock.monotonic_s() - began_s == 2.0
        assert (await scene.send("DELETE", f"{HOLD}/{id_}", by=visitor(7))).code == "REQUEST_IN_PROGRESS"
        joined = await scene.pay(id_, "key-1", at=scene.two)  # runs on until the outcome is there
        assert joined.status == 202
        await asyncio.sleep(1)
        read = await scene.send("GET", reply.headers["location"], by=visitor(7), at=scene.two)
        assert read.json["status"] == "COMPLETED"
        assert "retry-after" not in read.headers
        assert (await scene.pay(id_, "key-1")).status == 200
        assert scene.wallet.charged == [(id_, 1)]

    in_scene(play)


def test_a_caller_is_woken_by_whichever_instance_settles() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.delay_s = 0.5
        for user in range(1, 5):
            scene.wallet.balance[user] = PRICE
        ids = {user: await scene.held(user, (user,)) for user in range(1, 9)}
        replies = await asyncio.gather(
            *(scene.pay(id_, user=user, at=(scene.one, scene.two)[user % 2]) for user, id_ in ids.items())
        )
        assert [reply.status for reply in replies] == [200] * 4 + [402] * 4
        assert scene.clock.monotonic_s() < 1.0

    in_scene(play)


def test_the_instance_that_settles_wakes_its_callers_without_the_broker() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 2 * PRICE
        scene.broker.lost.add(RESERVATION_OUTCOMES)
        assert (await scene.pay(await scene.held(7))).status == 200
        assert scene.clock.monotonic_s() < 1.0

    in_scene(play, alone=True)


def test_a_caller_nobody_wakes_reads_the_outcome_when_its_time_is_over() -> None:
    async def play(scene: Scene) -> None:
        for user in range(1, 9):
            scene.wallet.balance[user] = PRICE
        scene.broker.lost.add(RESERVATION_OUTCOMES)
        ids = {user: await scene.held(user, (user,)) for user in range(1, 9)}
        replies = await asyncio.gather(
            *(scene.pay(id_, user=user, at=(scene.one, scene.two)[user % 2]) for user, id_ in ids.items())
        )
        assert {reply.status for reply in replies} == {200}

    in_scene(play)


def test_a_payment_of_a_lapsed_hold_is_refused_and_charges_nothing() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 2 * PRICE
        id_ = await scene.held(7)
        await asyncio.sleep(300)
        reply = await scene.pay(id_)
        assert (reply.status, reply.code) == (409, "HOLD_EXPIRED")
        await asyncio.sleep(2)
        assert (await scene.pay(id_)).code == "HOLD_EXPIRED"
        assert scene.wallet.ledger == {}

    in_scene(play)


def test_a_hold_that_is_being_paid_does_not_lapse() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7], scene.wallet.delay_s = 2 * PRICE, 20.0
        id_ = await scene.held(7)
        await asyncio.sleep(295)
        assert (await scene.pay(id_)).status == 202
        await asyncio.sleep(15)
        assert (await scene.hold(8)).code == "SEAT_TAKEN"
        await asyncio.sleep(10)
        assert await scene.status(id_) == "CONFIRMED"

    in_scene(play)


def test_a_payment_past_its_deadline_is_called_off_and_what_was_charged_comes_back() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7], scene.wallet.mute = 2 * PRICE, True
        id_ = await scene.held(7)
        assert (await scene.pay(id_, "key-1")).status == 202
        assert scene.wallet.charged == [(id_, 1)]
        await asyncio.sleep(30)
        assert await scene.status(id_) == "CANCELLING"
        assert await scene.states() == ["free"]
        assert (await scene.pay(id_, "key-1")).code == "HOLD_EXPIRED"
        scene.wallet.mute = False
        await asyncio.sleep(6)
        assert await scene.status(id_) == "CANCELLED"
        assert scene.wallet.balance[7] == 2 * PRICE
        read = await scene.send("GET", f"{PAY}/{id_}-1", by=visitor(7))
        assert read.json["status"] == "CANCELLED"
        assert len(scene.heard_of(PaymentCancelled)) >= 2
        assert len(scene.heard_of(SeatsReleased)) == 1

    in_scene(play)


def test_a_charge_that_arrives_after_the_end_is_called_off() -> None:
    async def play(scene: Scene) -> None:
        id_ = await scene.held(7)
        await scene.send("DELETE", f"{HOLD}/{id_}", by=visitor(7))
        stray = PaymentCompleted(id_, 1, 7, 2 * PRICE, at_ms=1)
        await scene.wallet.bus.publish([to_message(stray, "stray", "test")])
        await asyncio.sleep(1)
        assert [(event.reservation, event.attempt) for event in scene.heard_of(PaymentCancelled)] == [(id_, 1)]
        assert await scene.status(id_) == "CANCELLED"

    in_scene(play)


def test_an_outcome_told_often_is_taken_once() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 2 * PRICE
        id_ = await scene.held(7)
        await scene.pay(id_)
        for _ in range(20):
            await scene.wallet.answer(id_, 1, user=7, amount=2 * PRICE, at_ms=1)
        await asyncio.sleep(2)
        assert len(scene.heard_of(ReservationConfirmed)) == len(scene.heard_of(SeatsSold)) == 1
        assert scene.heard_of(PaymentCancelled) == []

    in_scene(play)


def test_an_answer_for_a_reservation_that_never_was_goes_to_the_dead_letters() -> None:
    async def play(scene: Scene) -> None:
        stray = PaymentCompleted("r-unknown", 1, 7, 100, at_ms=1)
        await scene.wallet.bus.publish([to_message(stray, "stray", "test")])
        await asyncio.sleep(1)
        letters = await scene.ear.dead_letters("wallet.payments.v1", "reservation", 10)
        assert [letter.message.id for letter in letters] == ["stray"]
        assert (await scene.one.call("GET", "/readyz")).status == 200

    in_scene(play)


def test_a_key_pays_one_reservation_only() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 10 * PRICE
        first, second = await scene.held(7, (1,)), await scene.held(7, (2,))
        assert (await scene.pay(first, "key-1")).status == 200
        reply = await scene.pay(second, "key-1", at=scene.two)
        assert (reply.status, reply.code) == (422, "IDEMPOTENCY_MISMATCH")
        assert scene.wallet.charged == [(first, 1)]

    in_scene(play)


def test_a_key_that_paid_what_was_paid_already_is_used_up_too() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 10 * PRICE
        first, second = await scene.held(7, (1,)), await scene.held(7, (2,))
        paid = await scene.pay(first, "key-1")
        for _ in range(2):
            again = await scene.pay(first, "key-2")
            assert (again.status, again.json) == (200, paid.json)
            assert again.headers["idempotent-replayed"] == "true"
        other_body = {"userId": 7, "reservationId": first, "token": "another"}
        for reply in (
            await scene.pay(second, "key-2", at=scene.two),
            await scene.send("POST", PAY, other_body, "key-2", by=visitor(7)),
        ):
            assert (reply.status, reply.code) == (422, "IDEMPOTENCY_MISMATCH")
        assert scene.wallet.charged == [(first, 1)]

    in_scene(play)


def test_a_sale_that_a_crash_interrupted_is_finished_by_a_sweeper() -> None:
    async def play(scene: Scene) -> None:
        scene.wallet.balance[7] = 2 * PRICE
        id_ = await scene.held(7)
        blocks = scene.store._collections["blocks"]
        swap, writes = blocks.swap, 0

        async def pin_and_then_die(*args: object) -> None:
            nonlocal writes
            writes += 1
            if writes == 2:  # the pin is written, the sale is not
                raise RuntimeError("crash")
            await swap(*args)  # type: ignore[arg-type]

        blocks.swap = pin_and_then_die  # type: ignore[method-assign,assignment]
        assert (await scene.pay(id_)).status == 200
        assert await scene.status(id_) == "CONFIRMED"
        assert await scene.states() == ["paying"]
        await asyncio.sleep(2)
        assert await scene.states() == ["sold"]
        assert scene.stored("reservations")[id_]["owes"] is None

    in_scene(play)


def test_a_pin_does_not_outlive_a_reservation_that_died_meanwhile() -> None:
    async def play(scene: Scene) -> None:
        id_ = await scene.held(7)
        blocks = scene.store._collections["blocks"]
        swap = blocks.swap

        async def pin_while_it_is_cancelled(*args: object) -> None:
            blocks.swap = swap  # type: ignore[method-assign]
            await swap(*args)  # type: ignore[arg-type]
            # Cancelled by an instance that died before it freed the seats.
            await scene.rewrite("reservations", id_, status="CANCELLED", owes="free")

        blocks.swap = pin_while_it_is_cancelled  # type: ignore[method-assign,assignment]
        assert (await scene.pay(id_)).code == "HOLD_EXPIRED"
        assert await scene.states() == ["free"]
        assert scene.wallet.ledger == {}

    in_scene(play)
