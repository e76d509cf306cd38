"""The whole system in one loop: what must hold across services, with hours passing in seconds."""

import asyncio
from collections import Counter

import pytest

from tests.buyer import SEAT_PRICE, Buyer
from tests.system.one_loop import OneLoop, play


async def come_in(system: OneLoop, buyer: Buyer, within_s: float = 30) -> None:
    async def is_inside() -> bool:
        return await buyer.position() == 0

    assert (await buyer.join()).status == 201
    await system.until(is_inside, within_s)


async def settled(system: OneLoop, buyer: Buyer, reservation: str, within_s: float = 120) -> str:
    """The status of a reservation once it is at rest."""
    status = ""

    async def is_at_rest() -> bool:
        nonlocal status
        status = (await buyer.reservation(reservation)).json["status"]
        return status not in ("PAYING", "CANCELLING")

    await system.until(is_at_rest, within_s)
    return status


def test_a_purchase_from_the_line_to_the_ticket() -> None:
    async def scene(system: OneLoop) -> None:
        buyer = system.buyer(7)
        await come_in(system, buyer)
        held = await buyer.hold(1, [1, 2])
        assert held.status == 201
        await buyer.charge(30_000)
        paid = await buyer.pay(held.json["id"])
        assert (paid.status, paid.json["amount"]) == (200, 2 * SEAT_PRICE)
        assert await buyer.balance() == 10_000
        assert (await buyer.reservation(held.json["id"])).json["status"] == "CONFIRMED"
        await system.clock.sleep(2)
        assert (await buyer.hold(1, [3])).code == "SESSION_EXPIRED"
        assert 1 not in await system.buyer(8).seats(1)

    play(scene)


def test_capacity_is_never_passed_and_everybody_comes_in_by_order_of_arrival() -> None:
    async def scene(system: OneLoop) -> None:
        crowd = [system.buyer(100 + n) for n in range(30)]
        for buyer in crowd:
            await buyer.join()
        came_in: list[int] = []
        waiting = dict(enumerate(crowd))
        positions = dict.fromkeys(waiting, 10**9)
        while waiting:
            inside = 0
            for number, buyer in list(waiting.items()):
                position = await buyer.position()
                assert position <= positions[number]
                positions[number] = position
                if position == 0:
                    inside += 1
                    came_in.append(number)
            assert inside <= 5
            for number in came_in[-inside:] if inside else []:
                await waiting.pop(number).leave()
            await system.clock.sleep(1)
        assert came_in == sorted(came_in)

    play(scene, room_capacity=5)


def test_who_does_not_come_when_called_returns_to_the_front_and_the_next_ones_are_called() -> None:
    async def scene(system: OneLoop) -> None:
        absent, present = system.buyer(1), system.buyer(2)
        await absent.join()
        await present.join()
        await system.clock.sleep(70)
        assert await present.position() == 0
        assert await absent.position() == 1
        await present.leave()

        async def is_inside() -> bool:
            return await absent.position() == 0

        await system.until(is_inside, 10)

    play(scene, room_capacity=1)


def test_a_visit_ends_by_itself_and_gives_its_place_to_the_next() -> None:
    async def scene(system: OneLoop) -> None:
        first, second = system.buyer(1), system.buyer(2)
        await come_in(system, first)
        await second.join()
        await system.clock.sleep(590)
        assert await second.position() == 1
        await system.clock.sleep(15)
        assert await second.position() == 0
        assert (await first.schedules_reply()).code == "SESSION_EXPIRED"

    play(scene, room_capacity=1)


def test_of_a_crowd_that_wants_the_same_seats_each_seat_has_one_buyer() -> None:
    async def scene(system: OneLoop) -> None:
        crowd = [system.buyer(100 + n) for n in range(60)]
        await asyncio.gather(*(buyer.charge(SEAT_PRICE * 2) for buyer in crowd))

        async def buy(number: int, buyer: Buyer) -> list[int]:
            held = await buyer.hold(1, [number % 20 + 1, (number * 7 + 3) % 20 + 1])
            if held.status != 201:
                assert held.code in ("SEAT_TAKEN", "INVALID_FIELD")
                return []
            assert (await buyer.pay(held.json["id"])).status == 200
            seats: list[int] = held.json["seatIds"]
            return seats

        bought = await asyncio.gather(*(buy(number, buyer) for number, buyer in enumerate(crowd)))
        owners = Counter(seat for seats in bought for seat in seats)
        assert max(owners.values()) == 1
        for buyer, seats in zip(crowd, bought, strict=True):
            assert await buyer.balance() == SEAT_PRICE * (2 - len(seats))
        await system.clock.sleep(1)
        assert set(await system.buyer(1).seats(1)) == set(range(1, 21)) - set(owners)

    play(scene)


def test_twenty_payments_at_once_and_a_double_click_later_are_one_debit() -> None:
    async def scene(system: OneLoop) -> None:
        buyer = system.buyer(7)
        await buyer.charge(100_000)
        held = (await buyer.hold(1, [1])).json["id"]
        replies = await asyncio.gather(*(buyer.pay(held, key=f"click-{n % 4}") for n in range(20)))
        assert {reply.status for reply in replies} <= {200, 202, 409}
        again = await buyer.pay(held)
        assert again.status == 200
        assert len(await buyer.debits()) == 1

    play(scene)


def test_declined_then_topped_up_then_paid() -> None:
    async def scene(system: OneLoop) -> None:
        buyer = system.buyer(7)
        await come_in(system, buyer)
        held = (await buyer.hold(1, [1])).json["id"]
        assert (await buyer.pay(held, key="p")).code == "NOT_ENOUGH_POINTS"
        await buyer.charge(SEAT_PRICE)
        assert (await buyer.pay(held, key="p")).status == 200
        assert len(await buyer.debits()) == 1

    play(scene)


def test_an_expired_hold_is_shown_free_within_two_seconds_and_cannot_be_paid() -> None:
    async def scene(system: OneLoop) -> None:
        buyer = system.buyer(7)
        await buyer.charge(SEAT_PRICE)
        held = (await buyer.hold(1, [1])).json["id"]
        await system.clock.sleep(0.5)
        assert 1 not in await buyer.seats(1)
        await system.clock.sleep(300)
        assert (await buyer.reservation(held)).json["status"] == "EXPIRED"
        await system.clock.sleep(1)
        assert 1 in await buyer.seats(1)
        assert (await buyer.pay(held)).code == "HOLD_EXPIRED"
        assert await buyer.balance() == SEAT_PRICE

    play(scene)


@pytest.mark.parametrize("victim", ["reservation", "wallet", "queue", "catalog"])
def test_a_crash_in_the_middle_of_payments_loses_and_doubles_nothing(victim: str) -> None:
    async def scene(system: OneLoop) -> None:
        crowd = [system.buyer(100 + n) for n in range(15)]
        await asyncio.gather(*(buyer.charge(SEAT_PRICE) for buyer in crowd))
        held = [(await buyer.hold(1, [number + 1])).json["id"] for number, buyer in enumerate(crowd)]
        paying = [asyncio.create_task(buyer.pay(id_)) for buyer, id_ in zip(crowd, held, strict=True)]
        await asyncio.sleep(0)
        await system.crash(victim)
        await system.clock.sleep(3)
        await system.start(victim)
        await asyncio.gather(*paying)
        for buyer, id_ in zip(crowd, held, strict=True):
            await system.until(lambda buyer=buyer, id_=id_: answers(buyer, id_), 60)  # type: ignore[misc]
            status = await settled(system, buyer, id_)
            if status == "HELD":
                assert (await buyer.pay(id_)).status == 200
                status = "CONFIRMED"
            assert (status, await buyer.balance()) in (("CONFIRMED", 0), ("CANCELLED", SEAT_PRICE))

    play(scene)


async def answers(buyer: Buyer, reservation: str) -> bool:
    return (await buyer.reservation(reservation)).status == 200


def test_a_wallet_that_stays_away_past_the_deadline_leaves_nobody_charged_without_a_ticket() -> None:
    async def scene(system: OneLoop) -> None:
        buyer = system.buyer(7)
        await buyer.charge(SEAT_PRICE)
        held = (await buyer.hold(1, [1])).json["id"]
        await system.crash("wallet")
        paid = await buyer.pay(held)
        assert (paid.status, paid.json["status"]) == (202, "PENDING")
        await system.clock.sleep(45)
        assert (await buyer.reservation(held)).json["status"] == "CANCELLING"
        # The seat is free for others while the money is being called off.
        assert (await system.buyer(8).hold(1, [1])).status == 201
        await system.start("wallet")
        assert await settled(system, buyer, held) == "CANCELLED"
        await system.clock.sleep(60)
        assert await buyer.balance() == SEAT_PRICE
        assert (await buyer.payment(paid.json["id"])).json["status"] == "CANCELLED"

    play(scene)


def test_losing_everything_the_broker_held_costs_time_and_no_facts() -> None:
    async def scene(system: OneLoop) -> None:
        buyer = system.buyer(7)
        await buyer.charge(SEAT_PRICE)
        held = (await buyer.hold(1, [1])).json["id"]
        await system.crash("wallet")
        await buyer.pay(held)
        for topic in list(system.broker.logs):
            system.broker.forget(topic)
        await system.start("wallet")
        assert await settled(system, buyer, held) == "CONFIRMED"
        assert len(await buyer.debits()) == 1
        await system.clock.sleep(35)
        assert 1 not in await buyer.seats(1)

    play(scene)


def test_the_place_in_line_survives_a_restart_of_queue_and_gateway() -> None:
    async def scene(system: OneLoop) -> None:
        crowd = [system.buyer(100 + n) for n in range(10)]
        for buyer in crowd:
            await buyer.join()
        await system.clock.sleep(2)
        before = [await buyer.position() for buyer in crowd]
        await system.crash("queue")
        await system.clock.sleep(1)
        assert [await buyer.position() for buyer in crowd[3:]] == before[3:]
        await system.start("queue")
        await system.stop("gateway")
        await system.start("gateway")
        await system.clock.sleep(10)
        after = [await buyer.position() for buyer in crowd]
        assert all(now <= then for now, then in zip(after, before, strict=True))

    play(scene, room_capacity=3)


def test_a_ticket_of_another_room_opens_nothing_here() -> None:
    async def scene(system: OneLoop) -> None:
        await system.publish_concert(1, schedules=3, seats=20)
        stranger = system.buyer(7)
        assert (await stranger.join(room=2)).status == 201
        await system.clock.sleep(3)
        assert await stranger.position() == 0
        assert (await stranger.schedules_reply()).code == "WRONG_ROOM"
        assert (await stranger.hold(1, [1])).code == "WRONG_ROOM"

    play(scene, rooms="1,2")
