"""Many at once: one wins, nobody is charged twice, nobody sees a server error."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from libs.common.testing.app_client import Answered
from tests.buyer import SEAT_PRICE, Buyer
from tests.e2e.conftest import HttpCaller

pytestmark = pytest.mark.e2e

SERVED_S = 20.0
"""Within this the last of a crowd is served, however slow the machine."""


async def test_of_200_people_who_want_one_seat_exactly_one_gets_it(caller: HttpCaller, number: int) -> None:
    crowd = [Buyer(caller, user=1000 + n) for n in range(200)]
    replies = await asyncio.gather(*(buyer.hold(number, [7]) for buyer in crowd))
    assert Counter(reply.status for reply in replies) == {201: 1, 409: 199}
    refused = next(reply for reply in replies if reply.status == 409)
    assert refused.code == "SEAT_TAKEN"
    assert [error["pointer"] for error in refused.json["errors"]] == ["/seatIds/0"]


async def test_seats_are_taken_together_or_not_at_all(caller: HttpCaller, number: int) -> None:
    crowd = [Buyer(caller, user=2000 + n) for n in range(60)]
    wanted = [[n % 20 + 1, (n + 7) % 20 + 1, (n + 13) % 20 + 1] for n in range(60)]
    replies = await asyncio.gather(*(buyer.hold(number, seats) for buyer, seats in zip(crowd, wanted, strict=True)))
    assert {reply.status for reply in replies} == {201, 409}
    held = Counter(seat for reply in replies if reply.status == 201 for seat in reply.json["seatIds"])
    assert max(held.values()) == 1
    for reply, seats in zip(replies, wanted, strict=True):
        if reply.status == 409:
            assert set(seats) & set(held)


async def test_the_same_hold_with_the_same_key_gets_the_same_answer(buyer: Buyer, number: int) -> None:
    first = await buyer.hold(number, [3], key="hold-once")
    again = await buyer.hold(number, [3], key="hold-once")
    assert (again.status, again.json) == (first.status, first.json)
    assert again.headers["idempotent-replayed"] == "true"
    other = await buyer.hold(number, [4], key="hold-once")
    assert (other.status, other.code) == (422, "IDEMPOTENCY_MISMATCH")


async def test_twenty_payments_at_once_are_one_debit(buyer: Buyer, number: int) -> None:
    debits = len(await buyer.debits())
    held = await buyer.hold(number, [5])
    replies = await asyncio.gather(*(buyer.pay(held.json["id"]) for _ in range(20)))
    assert {reply.status for reply in replies} <= {200, 202, 409}
    paid = [reply.json["id"] for reply in replies if reply.status == 200]
    assert paid
    assert len(set(paid)) == 1
    assert {reply.code for reply in replies if reply.status == 409} <= {"REQUEST_IN_PROGRESS"}
    assert len(await buyer.debits()) == debits + 1


async def test_without_points_the_payment_is_declined_and_after_a_charge_paid_once(
    newcomer: Buyer, number: int
) -> None:
    held = await newcomer.hold(number, [6])
    assert (await newcomer.pay(held.json["id"])).code == "NOT_ENOUGH_POINTS"
    await newcomer.charge(SEAT_PRICE - 1)
    declined = await newcomer.pay(held.json["id"])
    assert (declined.status, declined.code) == (402, "NOT_ENOUGH_POINTS")
    assert (await newcomer.reservation(held.json["id"])).json["status"] == "HELD"
    await newcomer.charge(1)
    assert (await newcomer.pay(held.json["id"])).status == 200
    assert await newcomer.balance() == 0
    assert len(await newcomer.debits()) == 1


async def test_a_hundred_charges_of_one_at_once_are_exactly_a_hundred(newcomer: Buyer) -> None:
    await newcomer.charge(1000)
    replies = await asyncio.gather(*(newcomer.charge(1) for _ in range(100)))
    assert {reply.status for reply in replies} == {200}
    assert await newcomer.balance() == 1100


async def test_1200_joins_stand_in_order_of_arrival_and_only_move_forward(caller: HttpCaller) -> None:
    crowd = [Buyer(caller, user=5000 + n) for n in range(1200)]
    first = [await buyer.join() for buyer in crowd[:20]]
    sequences = [_sequence(buyer.token) for buyer in crowd[:20]]
    assert {reply.status for reply in first} == {201}
    assert sequences == list(range(sequences[0], sequences[0] + 20))
    replies = await asyncio.gather(*(_patient(buyer.join) for buyer in crowd[20:]))
    assert {reply.status for reply in replies} == {201}
    places = sorted(_sequence(buyer.token) for buyer in crowd)
    assert places == list(range(sequences[0], sequences[0] + 1200))

    before = [reply.json["position"] for reply in [*first, *replies]]
    polls = await asyncio.gather(*(_patient(partial(buyer.call, "GET", "/token")) for buyer in crowd))
    seen = [poll.json["waitingQueueWithPositionResult"]["position"] for poll in polls]
    assert all(now <= then for now, then in zip(seen, before, strict=True))
    await asyncio.gather(*(buyer.leave() for buyer in crowd))


async def _patient(ask: Callable[[], Awaitable[Answered]]) -> Answered:
    """The answer, asked for again when the gateway says to: 1,200 at once are more than a slow machine answers in time,
    and who is refused as OVERLOADED has taken no place."""
    reply = await ask()
    async with asyncio.timeout(SERVED_S):
        while reply.status == 503 and reply.code == "OVERLOADED":
            await asyncio.sleep(int(reply.headers["retry-after"]))
            reply = await ask()
    return reply


def _sequence(ticket: str) -> int:
    """The place in order of arrival that is written in a ticket (see `libs.common.tickets`)."""
    digits = ticket.replace("-", "")
    return ((int(digits[:12], 16) << 12) | int(digits[13:16], 16)) & (2**40 - 1)
