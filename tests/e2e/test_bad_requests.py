"""Wrong requests get the errors of the contract, never a 5xx, and change nothing."""

from typing import Any

import pytest

from tests.buyer import Buyer
from tests.e2e.conftest import HttpCaller

pytestmark = pytest.mark.e2e

WRONG_IDS: list[Any] = [None, True, "7", 0, -1, 1.5, 2**53, 2**63, 2**64, [], {"$ne": None}]


@pytest.mark.parametrize("wrong", WRONG_IDS, ids=repr)
async def test_a_wrong_id_in_any_body_is_named_and_changes_nothing(buyer: Buyer, number: int, wrong: Any) -> None:
    before = await buyer.balance()
    bodies = {
        ("POST", "/concert/reservation"): ({"userId": wrong, "concertScheduleId": wrong, "seatIds": [wrong]}, 3),
        ("POST", "/payment"): ({"userId": wrong, "reservationId": 7}, 2),
        ("PATCH", "/users/charge/point"): ({"userId": wrong, "point": wrong}, 2),
    }
    for (method, path), (body, wrong_count) in bodies.items():
        reply = await buyer.call(method, path, body)
        assert (reply.status, reply.code) == (422, "INVALID_FIELD"), (path, reply.body)
        assert len(reply.json["errors"]) >= wrong_count, reply.body
    assert await buyer.balance() == before


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 5000, 400),
        (b"\xff", 400),
        (b"[]", 422),
        (b'{"x":"' + b"y" * 20_000 + b'"}', 413),
    ],
)
async def test_a_body_that_cannot_be_read(buyer: Buyer, raw: bytes, status: int) -> None:
    for method, path in (("POST", "/concert/reservation"), ("POST", "/payment"), ("PATCH", "/users/charge/point")):
        reply = await buyer.call(method, path, raw=raw)
        assert reply.status == status, (path, reply.body)
        assert reply.headers["content-type"] == "application/problem+json"


async def test_refusals_of_the_hold(buyer: Buyer, number: int) -> None:
    assert (await buyer.hold(999_999, [1])).code == "SCHEDULE_NOT_FOUND"
    unknown = await buyer.hold(number, [1, 888])
    assert (unknown.status, unknown.code) == (404, "SEAT_NOT_FOUND")
    assert [error["pointer"] for error in unknown.json["errors"]] == ["/seatIds/1"]
    assert (await buyer.hold(number, [1, 1])).code == "INVALID_FIELD"
    assert (await buyer.hold(number, [])).code == "INVALID_FIELD"
    assert (await buyer.hold(number, list(range(1, 52)))).code == "INVALID_FIELD"
    assert (await buyer.hold(number, list(range(1, 10)))).code == "TOO_MANY_SEATS"
    assert (await buyer.hold(number, list(range(1, 9)))).status == 201
    assert (await buyer.hold(number, [9])).code == "TOO_MANY_SEATS"


async def test_what_belongs_to_others_stays_theirs(buyer: Buyer, number: int) -> None:
    held = (await buyer.hold(number, [1])).json["id"]
    thief = Buyer(buyer.caller, user=buyer.user + 1)
    assert (await thief.pay(held)).code == "NOT_YOURS"
    ticketed = Buyer(buyer.caller, user=buyer.user)
    await ticketed.join()
    assert (await ticketed.reservation(held)).status == 403
    assert (await buyer.reservation(held)).json["status"] == "HELD"


async def test_what_is_not_there(buyer: Buyer) -> None:
    assert (await buyer.reservation("r-none")).code == "RESERVATION_NOT_FOUND"
    assert (await buyer.pay("r-none")).code == "RESERVATION_NOT_FOUND"
    assert (await buyer.payment("r-none-1")).status == 404
    assert (await buyer.call("GET", "/users/987654/wallet")).code == "USER_NOT_FOUND"
    assert (await buyer.schedules_reply(concert=999)).code == "CONCERT_NOT_FOUND"
    assert (await buyer.call("GET", "/concert/999999/available-seats")).code == "SCHEDULE_NOT_FOUND"
    assert (await buyer.call("GET", "/concert/x/available-seats")).status == 422
    assert (await buyer.join(room=77)).code == "ROOM_NOT_FOUND"
    assert (await buyer.caller.call("GET", "/api/v1/nothing")).code == "ROUTE_NOT_FOUND"
    refused = await buyer.caller.call("PUT", "/api/v1/payment")
    assert (refused.status, refused.headers["allow"]) == (405, "POST")


async def test_a_ticket_that_does_not_verify(caller: HttpCaller, number: int) -> None:
    assert (await caller.call("GET", "/api/v1/token")).code == "TOKEN_MISSING"
    for token in ("x", "00000000-0000-0000-0000-000000000000", "test-token2", "TEST-TOKEN"):
        stranger = Buyer(caller, token=token)
        assert (await stranger.schedules_reply()).code == "TOKEN_INVALID"
        assert (await stranger.hold(number, [1])).code == "TOKEN_INVALID"
    # What the gateway tells its services cannot be said by a client.
    smuggled = {"X-Ticket": "t", "X-Ticket-Room": "1", "X-Ticket-Sequence": "1"}
    reply = await caller.call("GET", "/api/v1/concert/1/available-schedules", headers=smuggled)
    assert reply.code == "TOKEN_MISSING"


@pytest.mark.parametrize("key", ["", " ", "x" * 65, "a b", "ключ"])
async def test_an_idempotency_key_that_cannot_be_used(caller: HttpCaller, number: int, key: str) -> None:
    headers = {"X-Waiting-Token": "test-token", "Idempotency-Key": key}
    body = {"userId": 1, "point": 1}
    reply = await caller.call("PATCH", "/api/v1/users/charge/point", body, headers=headers)
    assert (reply.status, reply.code) == (422, "INVALID_FIELD")
