"""Tickets that are not ours, not yours, not here or not any more: refused by name, and no seat is held."""

import asyncio
import time
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import strategies as st

from libs.common.tickets import KEY_ID_MAX, TicketCodec
from tests.fuzz.effort import search
from tests.fuzz.wire import Reply, Wire, check_reply, request

pytestmark = pytest.mark.e2e

SUITE = "forged tickets"
SHARE, EXAMPLES = 0.08, 40
SCHEDULE = 119
COME_IN_S = 10.0
OTHERS = bytes(range(32))
"""A key of somebody who would like to sign tickets of ours."""


class Gate:
    """The calls these tests make, on one connection."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def join(self, room: int = 1) -> str:
        body = orjson.dumps({"room": room})
        joined = await self.wire.ask(
            request("POST", "/api/v1/token/create", [("Content-Type", b"application/json")], body)
        )
        return str(joined.json["uuid"])

    async def come_in(self, room: int = 1) -> str:
        ticket = await self.join(room)
        give_up_s = time.monotonic() + COME_IN_S
        while time.monotonic() < give_up_s:
            told = await self.wire.ask(request("GET", "/api/v1/token", [("X-Waiting-Token", ticket.encode())]))
            if told.json["waitingQueueWithPositionResult"]["state"] == "INSIDE":
                return ticket
            await asyncio.sleep(0.1)
        raise AssertionError("the ticket did not come in")

    async def hold(self, ticket: bytes) -> Reply:
        body = orjson.dumps({"userId": 44, "concertScheduleId": SCHEDULE, "seatIds": [1, 2]})
        headers = [("X-Waiting-Token", ticket), ("Content-Type", b"application/json")]
        sent = request("POST", "/api/v1/concert/reservation", headers, body)
        reply = await self.wire.ask(sent)
        check_reply(SUITE, reply, sent)
        return reply

    async def free(self) -> list[int]:
        token = [("X-Waiting-Token", b"test-token")]
        told = await self.wire.ask(request("GET", f"/api/v1/concert/{SCHEDULE}/available-seats", token))
        return [seat["id"] for seat in told.json["concertSeatInfo"]["concertSeat"]]


@pytest.fixture
def gate(wire: Wire, loop: asyncio.Runner) -> Iterator[Gate]:
    """The gate, and after the test the proof that nothing was held."""
    gate = Gate(wire)
    before = loop.run(gate.free())
    yield gate
    assert loop.run(gate.free()) == before


def refused(gate: Gate, loop: asyncio.Runner, ticket: str | bytes) -> tuple[int, str]:
    reply = loop.run(gate.hold(ticket if isinstance(ticket, bytes) else ticket.encode()))
    return reply.status, str(reply.json["code"])


def test_one_turned_bit_anywhere_makes_a_ticket_invalid(gate: Gate, loop: asyncio.Runner) -> None:
    ticket = loop.run(gate.come_in())
    value = int(ticket.replace("-", ""), 16)
    for bit in range(128):
        text = f"{value ^ (1 << bit):032x}"
        forged = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
        assert refused(gate, loop, forged) == (401, "TOKEN_INVALID"), f"bit {bit}"


def test_a_second_spelling_of_a_ticket_is_no_ticket(gate: Gate, loop: asyncio.Runner) -> None:
    ticket = loop.run(gate.come_in())
    spellings = {
        ticket.upper(), ticket.replace("-", ""), "{" + ticket + "}", f"urn:uuid:{ticket}", ticket + "0", ticket[:-1],
        ticket + "\u00a0", f"{ticket},{ticket}", ticket.replace("-", "\u2010"), "TEST-TOKEN", "test-token2",
    "test_token",
    } - {ticket}  # fmt: skip
    for spelling in spellings:
        assert refused(gate, loop, spelling) == (401, "TOKEN_INVALID"), spelling


def test_a_ticket_signed_by_another_key_is_invalid_under_every_key_id(gate: Gate, loop: asyncio.Runner) -> None:
    for key_id in range(KEY_ID_MAX + 1):
        forged = TicketCodec({key_id: OTHERS}, key_id).sign(room=1, sequence=1)
        assert refused(gate, loop, forged) == (401, "TOKEN_INVALID"), f"key {key_id}"


def test_a_real_ticket_opens_nothing_in_another_room_or_after_its_visit(gate: Gate, loop: asyncio.Runner) -> None:
    stranger = loop.run(gate.come_in(room=2))
    assert refused(gate, loop, stranger) == (403, "WRONG_ROOM")
    left = loop.run(gate.join())
    loop.run(gate.wire.ask(request("DELETE", "/api/v1/token", [("X-Waiting-Token", left.encode())])))
    for _ in range(100):
        assert refused(gate, loop, left) == (403, "SESSION_EXPIRED")


def test_no_made_up_ticket_comes_in(gate: Gate, loop: asyncio.Runner) -> None:
    hexadecimal = st.text("0123456789abcdef-", min_size=30, max_size=40).map(str.encode)
    shaped = st.uuids().map(lambda made: str(made).encode())
    printable = st.binary(max_size=80).map(lambda raw: bytes(byte for byte in raw if 32 < byte < 127 or byte > 159))

    def claim(ticket: bytes) -> None:
        assert refused(gate, loop, ticket) in {(401, "TOKEN_INVALID"), (401, "TOKEN_MISSING")}, ticket

    search(SUITE, claim, st.one_of(hexadecimal, shaped, printable), share=SHARE, examples=EXAMPLES)
