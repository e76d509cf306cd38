"""Valid requests with something wrong in them: in the body, a header or the path. Each is answered with a named error
or, where it is still valid, carried out; and nothing but what was carried out has changed."""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from hypothesis import strategies as st

from libs.common.testing.eventually import eventually
from tests.fuzz.effort import REPORT, percentile, search
from tests.fuzz.values import HEADER_VALUES, NAMES, PATH_VALUES, VALUES, Pairs, anything, written
from tests.fuzz.wire import UNPROCESSABLE, Reply, Wire, check_reply, request

pytestmark = pytest.mark.e2e

SUITE = "mutated requests"
SHARE, EXAMPLES = 0.3, 150
TOKEN = b"test-token"
SCHEDULE = 120
HELD_SEAT, PAID_SEAT, FREE_SEAT = 1, 2, 40
USER, POOR_USER = 41, 300_041
USERS = (*range(1, 51), POOR_USER)
"""All there are, for a wrong id may be the right one of somebody else."""

TARGET_MS = 20.0
SETTLE_S = 5.0
USED_KEY = b"used-by-the-fuzzer"

JSON = ("Content-Type", b"application/json")
TICKET = ("X-Waiting-Token", TOKEN)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request in its parts. `text` is the body where it is not the JSON of `body`; an empty `body` is none."""

    method: str
    path: str
    headers: tuple[tuple[str, bytes], ...]
    body: dict[str, Any]
    text: bytes | None = None

    @property
    def raw(self) -> bytes:
        return request(
            self.method, self.path, self.headers, self.text if self.text is not None else _encoded(self.body)
        )


HOLD_BODY = {"userId": USER, "concertScheduleId": SCHEDULE, "seatIds": [FREE_SEAT], "dateTime": "2026-01-01T00:00:00Z"}
RECORDED = (
    Sent("POST", "/api/v1/token/create", (JSON,), {"userId": USER, "room": 1}),
    Sent("DELETE", "/api/v1/token", (TICKET,), {}),
    Sent("POST", "/api/v1/concert/reservation", (JSON, TICKET), HOLD_BODY),
    Sent("DELETE", "/api/v1/concert/reservation/PAID", (TICKET,), {}),
    Sent("POST", "/api/v1/payment", (JSON, TICKET), {"userId": POOR_USER, "reservationId": "HELD", "token": "x"}),
    Sent("PATCH", "/api/v1/users/charge/point", (JSON,), {"userId": USER, "point": 1}),
    Sent("GET", "/api/v1/concert/reservation/PAID", (TICKET,), {}),
    Sent("GET", "/api/v1/payment/PAID-1", (TICKET,), {}),
    Sent("GET", "/api/v1/users/41/wallet/entries?limit=2", (), {}),
    Sent("GET", "/api/v1/concert/1/available-schedules", (TICKET,), {}),
    Sent("GET", "/api/v1/concert/1/available-seats", (TICKET,), {}),
)

RAW_BODIES = (
    b"", b" ", b"{", b"}", b"[]", b"null", b"0", b"\xff", b"\xef\xbb\xbf{}", b"{}{}", b"{} x", b'{"a":1,}',
    b"[" * 5_000, b"{'userId':1}", b"userId=1", b"\x00" * 100, b'{"userId":1', "{}".encode("utf-16"), b"x" * 16_385,
    b" " * 16_384, b"\x1f\x8b\x08\x00",
)  # fmt: skip


@st.composite
def mutants(draw: st.DrawFn) -> Sent:
    sent = draw(st.sampled_from(RECORDED))
    kinds = [_wrong_header, _wrong_path]
    if sent.body:
        kinds += [_wrong_value, _wrong_value, _wrong_value, _left_out, _added, _named_twice, _wrong_text]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2)):
        sent = kind(draw, sent)
    return sent


def _encoded(body: Any) -> bytes:
    return written(body).encode("utf-8", "surrogatepass") if body else b""


def _wrong_value(draw: st.DrawFn, sent: Sent) -> Sent:
    name = draw(st.sampled_from(sorted(sent.body))) if sent.body else "userId"
    return replace(sent, body={**sent.body, name: draw(anything)})


def _left_out(draw: st.DrawFn, sent: Sent) -> Sent:
    gone = draw(st.sampled_from(sorted(sent.body))) if sent.body else ""
    return replace(sent, body={name: value for name, value in sent.body.items() if name != gone})


def _added(draw: st.DrawFn, sent: Sent) -> Sent:
    return replace(sent, body={**sent.body, draw(st.sampled_from(NAMES)): draw(st.sampled_from(VALUES))})


def _named_twice(draw: st.DrawFn, sent: Sent) -> Sent:
    members = tuple(sent.body.items())
    again = (draw(st.sampled_from(sorted(sent.body))) if sent.body else "userId", draw(st.sampled_from(VALUES)))
    where = draw(st.integers(0, len(members)))
    twice = Pairs((*members[:where], again, *members[where:]))
    return replace(sent, text=_encoded(twice))


def _wrong_text(draw: st.DrawFn, sent: Sent) -> Sent:
    if draw(st.booleans()):
        return replace(sent, text=draw(st.sampled_from(RAW_BODIES) | st.binary(max_size=60)))
    text = _encoded(sent.body)
    return replace(sent, text=text[: draw(st.integers(0, len(text)))])


def _wrong_header(draw: st.DrawFn, sent: Sent) -> Sent:
    name = draw(st.sampled_from(("Content-Type", "Idempotency-Key", "X-Waiting-Token", "traceparent", "Accept")))
    value = draw(st.sampled_from((*HEADER_VALUES, USED_KEY)))
    return replace(sent, headers=(*(header for header in sent.headers if header[0] != name), (name, value)))


def _wrong_path(draw: st.DrawFn, sent: Sent) -> Sent:
    parts = sent.path.split("/")
    where = draw(st.integers(3, len(parts) - 1))
    return replace(sent, path="/".join((*parts[:where], draw(st.sampled_from(PATH_VALUES)), *parts[where + 1 :])))


class Books:
    """What the system should hold, by what it was seen to carry out."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.points: Counter[int] = Counter()
        self.holds: list[str] = []
        self.refused_s: list[float] = []

    async def open(self) -> None:
        """Make what the recorded requests name (two users, a hold too dear for its user, a reservation that is paid),
        and note all that is there."""
        for user in (USER, POOR_USER):
            await self.call("PATCH", "/users/charge/point", {"userId": user, "point": 1}, key=USED_KEY)
        self.held, self.paid = await self._hold(POOR_USER, HELD_SEAT), await self._hold(USER, PAID_SEAT)
        await self.call("POST", "/payment", {"userId": USER, "reservationId": self.paid})
        self.points.update({user: await self._balance(user) for user in USERS})
        self.free = [seat for seat in await self._free() if seat not in (HELD_SEAT, PAID_SEAT)]
        await self._settled()

    async def call(self, method: str, path: str, body: Any = None, key: bytes = b"") -> Reply:
        headers = [TICKET, JSON, *([("Idempotency-Key", key)] if key else [])]
        sent = request(method, f"/api/v1{path}", headers, b"" if body is None else orjson.dumps(body))
        return await self.wire.ask(sent)

    async def tried(self, sent: Sent) -> None:
        raw = sent.raw.replace(b"PAID", self.paid.encode()).replace(b"HELD", self.held.encode())
        reply = await self.wire.ask(raw)
        check_reply(SUITE, reply, raw)
        if reply.is_refusal:
            self.refused_s.append(reply.took_s)
        elif reply.is_done:
            self._enter(sent, reply)

    def _enter(self, sent: Sent, reply: Reply) -> None:
        if sent.path.endswith("/charge/point") and sent.method == "PATCH":
            told = reply.json
            if told["userId"] in self.points:
                self.points[told["userId"]] += _points_sent(sent)
        elif sent.method == "POST" and sent.path.endswith("/reservation"):
            self.holds.append(reply.json["id"])

    async def check(self) -> None:
        """Give back what was held by requests that were valid after all; then everything is as it was."""
        for held in self.holds:
            assert (await self.call("DELETE", f"/concert/reservation/{held}")).status == 200
        assert {user: await self._balance(user) for user in USERS} == self.points
        assert await self._status(self.held) == "HELD"
        assert await self._status(self.paid) == "CONFIRMED"
        await self._settled()

    async def _hold(self, user: int, seat: int) -> str:
        held = await self.call("POST", "/concert/reservation", {**HOLD_BODY, "userId": user, "seatIds": [seat]})
        return str(held.json["id"])

    async def _status(self, reservation: str) -> str:
        return str((await self.call("GET", f"/concert/reservation/{reservation}")).json["status"])

    async def _settled(self) -> None:
        """Wait until the free seats are those there were: what shows them is a moment behind."""
        await eventually(self._is_as_before, within_s=SETTLE_S, message="the free seats are not those there were")

    async def _is_as_before(self) -> bool:
        return await self._free() == self.free

    async def _balance(self, user: int) -> int:
        return int((await self.call("GET", f"/users/{user}/wallet")).json["amount"])

    async def _free(self) -> list[int]:
        told = (await self.call("GET", f"/concert/{SCHEDULE}/available-seats")).json["concertSeatInfo"]
        return [seat["id"] for seat in told["concertSeat"]]


def _points_sent(sent: Sent) -> int:
    """The points of a charge that was carried out; the last of two members of one name counts."""
    points: int = orjson.loads(sent.text if sent.text is not None else _encoded(sent.body))["point"]
    return points


def test_wrong_requests_are_named_and_change_nothing(wire: Wire, loop: asyncio.Runner) -> None:
    books = Books(wire)
    loop.run(books.open())
    search(SUITE, lambda sent: loop.run(books.tried(sent)), mutants(), share=SHARE, examples=EXAMPLES)
    loop.run(books.check())
    p50, p99 = (percentile(books.refused_s, share) for share in (0.5, 0.99))
    REPORT.append(f"{len(books.refused_s):,} refusals: p50 {p50:.1f} ms, p99 {p99:.1f} ms (target {TARGET_MS:g} ms)")


def test_a_key_that_was_used_is_refused_for_any_other_body_of_its_user(wire: Wire, loop: asyncio.Runner) -> None:
    async def reuse() -> None:
        books = Books(wire)
        body: dict[str, Any] = {"userId": 43, "point": 5}
        first = await books.call("PATCH", "/users/charge/point", body, key=USED_KEY)
        assert first.status == 200
        for other in ({**body, "point": 6}, {**body, "more": None}, {"point": 5, "userId": 43}):
            refused = await books.call("PATCH", "/users/charge/point", other, key=USED_KEY)
            assert (refused.status, refused.json["code"]) == (UNPROCESSABLE, "IDEMPOTENCY_MISMATCH"), other
        again = await books.call("PATCH", "/users/charge/point", body, key=USED_KEY)
        assert (again.status, again.json, again.is_done) == (200, first.json, False)

    loop.run(reuse())
