"""The purchase, over the processes that `make run` starts, as a newcomer and as the load test make it."""

import asyncio

import pytest

from libs.common.testing.eventually import eventually
from tests.buyer import SEAT_PRICE, Buyer
from tests.e2e.conftest import HttpCaller

pytestmark = pytest.mark.e2e


async def test_a_newcomer_waits_in_line_comes_in_picks_pays_and_sees_the_ticket(newcomer: Buyer, number: int) -> None:
    joined = await newcomer.join()
    assert joined.status == 201
    assert joined.json["state"] == "WAITING"
    assert (await newcomer.schedules_reply()).code == "STILL_WAITING"

    async def is_inside() -> bool:
        return await newcomer.position() == 0

    await eventually(is_inside, within_s=10)
    assert number in [schedule["id"] for schedule in await newcomer.schedules()]
    seats = (await newcomer.seats(number))[:2]
    held = await newcomer.hold(number, seats)
    assert (held.status, held.json["status"], held.json["amount"]) == (201, "HELD", 2 * SEAT_PRICE)
    assert held.json["seatIds"] == seats
    assert (await newcomer.charge(3 * SEAT_PRICE)).status == 200
    paid = await newcomer.pay(held.json["id"])
    assert (paid.status, paid.json["status"], paid.json["amount"]) == (200, "COMPLETED", 2 * SEAT_PRICE)
    assert await newcomer.balance() == SEAT_PRICE

    # The ticket is used up, but it still shows what it bought, and nothing else.
    ticket = await newcomer.reservation(held.json["id"])
    assert (ticket.status, ticket.json["status"]) == (200, "CONFIRMED")
    assert (await newcomer.payment(paid.json["id"])).json == paid.json
    again = await newcomer.pay(held.json["id"])
    assert (again.status, again.json["id"]) == (200, paid.json["id"])

    async def is_used_up() -> bool:
        return (await newcomer.hold(number, [9])).code == "SESSION_EXPIRED"

    await eventually(is_used_up, within_s=5)
    assert len(await newcomer.debits()) == 1


async def test_the_load_tests_steps_answer_as_its_script_checks(buyer: Buyer, number: int) -> None:
    assert await buyer.schedules()
    seats = (await buyer.seats(number))[:1]
    held = await buyer.hold(number, seats)
    assert held.status == 201
    before = await buyer.balance()
    assert (await buyer.charge(100)).status == 200
    paid = await buyer.pay(held.json["id"])
    assert paid.status == 200
    assert await buyer.balance() == before + 100 - SEAT_PRICE

    async def is_gone() -> bool:
        return seats[0] not in await buyer.seats(number)

    await eventually(is_gone, within_s=2)
    # A static token is never used up.
    assert (await buyer.hold(number, [seats[0] + 1])).status == 201


async def test_a_cancelled_hold_frees_its_seats_at_once(buyer: Buyer, number: int) -> None:
    held = await buyer.hold(number, [1, 2])
    cancelled = await buyer.cancel(held.json["id"])
    assert (cancelled.status, cancelled.json["status"]) == (200, "CANCELLED")
    assert (await buyer.cancel(held.json["id"])).json == cancelled.json
    assert (await Buyer(buyer.caller, user=buyer.user + 1).hold(number, [1, 2])).status == 201


async def test_a_sold_out_schedule_shows_no_seats_and_leaves_the_list(caller: HttpCaller, number: int) -> None:
    async def take(user: int, seats: list[int]) -> None:
        buyer = Buyer(caller, user=user)
        held = await buyer.hold(number, seats)
        assert held.status == 201, held.body
        paid = await buyer.pay(held.json["id"])
        assert paid.status == 200, paid.body

    await asyncio.gather(*(take(10 + n, list(range(5 * n + 1, 5 * n + 6))) for n in range(10)))
    buyer = Buyer(caller)

    async def is_gone() -> bool:
        listed = [schedule["id"] for schedule in await buyer.schedules()]
        reply = await buyer.call("GET", f"/concert/{number}/available-seats")
        return number not in listed and reply.json == {"concertSeatInfo": []}

    await eventually(is_gone, within_s=3)


async def test_leaving_the_line_ends_the_ticket(newcomer: Buyer) -> None:
    await newcomer.join()
    assert (await newcomer.leave()).status == 204
    reply = await newcomer.call("GET", "/token")
    assert reply.json["waitingQueueWithPositionResult"]["state"] == "ENDED"
    assert (await newcomer.schedules_reply()).code == "SESSION_EXPIRED"


async def test_the_gateway_describes_itself(caller: HttpCaller) -> None:
    ready = await caller.call("GET", "/readyz")
    assert ready.status == 200
    assert set(ready.json["dependencies"]) >= {"broker", "queue", "catalog", "reservation", "wallet"}
    document = (await caller.call("GET", "/openapi.json")).json
    assert document["openapi"].startswith("3.1")
    assert (await caller.call("GET", "/docs")).headers["content-type"].startswith("text/html")
    assert (await caller.call("GET", "/metrics")).status == 404
    assert (await caller.call("GET", "/internal/v1/rooms")).status == 404
