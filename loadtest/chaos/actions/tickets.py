"""People who come with a ticket that is not theirs, not real, or not good any more. Each has to be turned away.

Every answer counts the attempts, those that were refused as they should be, and the first that were not. They go to
the gateway at `url`; empty: that of the running system, which has to let people in while this runs. The seats they want
are of the last schedule on sale, which others come to last.
"""

import time
from collections import Counter
from collections.abc import Iterable
from http.client import HTTPException
from random import Random
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import orjson

from libs.common.errors import ConfigError
from libs.common.tickets import KEY_ID_MAX, SEQUENCE_MAX, TicketCodec
from loadtest.chaos.actions import place
from loadtest.chaos.actions.place import Needs

CALL_S = 15.0
COME_IN_S = 30.0
POLL_S = 0.2
KNOWN_S = 1.5
"""Until every gateway knows that a visit has ended."""

USER = 900_001 + int(time.time()) % 40_000
"""The first of the users that these people say they are: away from those of the demo and of the load, and another from
series to series, as one may buy only so many seats of a schedule."""

ROOM = 1
ANY = 1
"""A schedule and a seat of it: whoever asks for them with a bad ticket does not get as far."""

PRICE_MAX = 1_000_000
WRONG_COUNT_MAX = 5

UNVERIFIED = {(401, "TOKEN_INVALID"), (401, "TOKEN_MISSING")}
ENDED = {(403, "SESSION_EXPIRED")}
NOT_THEIRS = {(403, "NOT_YOURS")}

Answer = tuple[int, Any]


def needs() -> Needs:
    """Nothing."""
    return {}


def forged(count: int, seed: int, url: str = "") -> dict[str, Any]:
    """Tickets with one bit turned, signed with somebody else's key under any key id, and made of nothing: 401."""
    gate = _Gate(url)
    chance = Random(seed)  # noqa: S311 (repeatable on purpose)
    real = gate.join()
    try:
        return _summary((gate.hold(_forgery(chance, real), USER, ANY, ANY) for _ in range(count)), UNVERIFIED)
    finally:
        gate.leave(real)


def expired(count: int, url: str = "") -> dict[str, Any]:
    """Tickets of visits that have ended: 403 SESSION_EXPIRED."""
    gate = _Gate(url)
    tickets = gate.come_in(count)
    for ticket in tickets:
        gate.leave(ticket)
    time.sleep(KNOWN_S)
    return _summary((gate.hold(ticket, USER, ANY, ANY) for ticket in tickets), ENDED)


def shared(users: int, url: str = "") -> dict[str, Any]:
    """One ticket, passed on to so many others after its owner has held a seat with it: 403 NOT_YOURS. The seat is given
    back."""
    gate = _Gate(url)
    (ticket,) = gate.come_in(1)
    schedule = gate.last_schedule(ticket)
    held = gate.hold_any(ticket, USER, schedule)
    try:
        seat = gate.free_seats(ticket, schedule)[-1]
        return _summary((gate.hold(ticket, USER + n, schedule, seat) for n in range(1, users + 1)), NOT_THEIRS)
    finally:
        gate.call("DELETE", f"/concert/reservation/{held}", ticket)
        gate.leave(ticket)


def replayed(count: int, url: str = "") -> dict[str, Any]:
    """A ticket that has bought, used so many times again: 403 SESSION_EXPIRED. A seat is sold for it, to a user whose
    wallet is charged first; `reservation` is it."""
    gate = _Gate(url)
    gate.call("PATCH", "/users/charge/point", "", {"userId": USER, "point": PRICE_MAX})
    (ticket,) = gate.come_in(1)
    held = gate.hold_any(ticket, USER, gate.last_schedule(ticket))
    gate.pay(ticket, USER, held)
    time.sleep(KNOWN_S)
    again = _summary((gate.hold(ticket, USER, ANY, ANY) for _ in range(count)), ENDED)
    return {**again, "reservation": held}


def _forgery(chance: Random, real: str) -> str:
    kind = chance.choice(("bit", "key", "nothing"))
    if kind == "key":
        key = chance.randint(0, KEY_ID_MAX)
        return TicketCodec({key: chance.randbytes(32)}, key).sign(ROOM, chance.randint(1, SEQUENCE_MAX))
    if kind == "nothing":
        return chance.randbytes(chance.randint(1, 40)).hex()
    digits = list(real)
    turned = chance.choice([position for position, digit in enumerate(digits) if digit != "-"])
    digits[turned] = f"{int(digits[turned], 16) ^ (1 << chance.randrange(4)):x}"
    return "".join(digits)


def _summary(answers: Iterable[Answer], wanted: set[tuple[int, str]]) -> dict[str, Any]:
    seen = list(answers)
    codes = [(status, str(body.get("code", ""))) for status, body in seen]
    wrong = [{"status": status, "code": code} for status, code in codes if (status, code) not in wanted]
    return {
        "sent": len(codes),
        "refused": len(codes) - len(wrong),
        "statuses": {str(status): count for status, count in Counter(status for status, _ in codes).items()},
        "wrong": wrong[:WRONG_COUNT_MAX],
    }


def _answer(request: Request) -> tuple[int, bytes]:
    """Status and body, of a refusal, too. Raises OSError or HTTPException when there is none."""
    try:
        with urlopen(request, timeout=CALL_S) as answer:  # noqa: S310 (the same)
            return answer.status, answer.read()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read()


class _Gate:
    """The calls that these people make."""

    def __init__(self, url: str) -> None:
        self._url = url or place.address("GATEWAY_URL").partition(",")[0]

    def call(self, method: str, path: str, ticket: str, body: dict[str, Any] | None = None) -> Answer:
        """Status and JSON of the answer. Raises ConfigError when there is none."""
        headers = {"Content-Type": "application/json", **({"X-Waiting-Token": ticket} if ticket else {})}
        data = None if body is None else orjson.dumps(body)
        request = Request(f"{self._url}/api/v1{path}", data, headers, method=method)  # noqa: S310 (whatever TARGET names)
        try:
            status, said = _answer(request)
            return status, orjson.loads(said) if said else {}
        except (OSError, HTTPException, orjson.JSONDecodeError) as why:
            raise ConfigError(f"url: {self._url} did not answer {method} {path} ({why})") from None

    def join(self) -> str:
        return str(self._wanted("POST", "/token/create", "", {"userId": USER, "room": ROOM}, statuses={201})["uuid"])

    def come_in(self, count: int) -> list[str]:
        """Tickets whose turn has come."""
        tickets = [self.join() for _ in range(count)]
        waiting = set(tickets)
        give_up_s = time.monotonic() + COME_IN_S
        while waiting:
            if time.monotonic() > give_up_s:
                raise ConfigError(
                    f"{len(waiting)} people were not let in within {COME_IN_S:g} s; give the room capacity"
                )
            time.sleep(POLL_S)
            waiting = {ticket for ticket in waiting if not self._is_inside(ticket)}
        return tickets

    def _is_inside(self, ticket: str) -> bool:
        told = self._wanted("GET", "/token", ticket, statuses={200})
        return bool(told["waitingQueueWithPositionResult"]["state"] == "INSIDE")

    def leave(self, ticket: str) -> None:
        self._wanted("DELETE", "/token", ticket, statuses={204})

    def last_schedule(self, ticket: str) -> int:
        """Of the concerts of our room, the last schedule with a seat left."""
        concerts = self._wanted("GET", "/concert", "", statuses={200})["concerts"]
        found: list[int] = []
        for concert in concerts:
            if concert["room"] == ROOM:
                path = f"/concert/{concert['id']}/available-schedules"
                told = self._wanted("GET", path, ticket, statuses={200})
                found += [schedule["id"] for schedule in told["concertSchedules"]]
        if not found:
            raise ConfigError("everything is sold out; give the system more schedules")
        return max(found)

    def free_seats(self, ticket: str, schedule: int) -> list[int]:
        told = self._wanted("GET", f"/concert/{schedule}/available-seats", ticket, statuses={200})
        if not told["concertSeatInfo"]:
            raise ConfigError(f"schedule {schedule} is sold out; give the system more schedules")
        return [seat["id"] for seat in told["concertSeatInfo"]["concertSeat"]]

    def hold(self, ticket: str, user: int, schedule: int, seat: int) -> Answer:
        body = {"userId": user, "concertScheduleId": schedule, "seatIds": [seat]}
        return self.call("POST", "/concert/reservation", ticket, body)

    def hold_any(self, ticket: str, user: int, schedule: int) -> str:
        """The reservation of one of the last free seats: others may want them, too."""
        for seat in reversed(self.free_seats(ticket, schedule)):
            status, body = self.hold(ticket, user, schedule, seat)
            if status == 201:
                return str(body["id"])
            if body.get("code") != "SEAT_TAKEN":
                raise ConfigError(f"a good ticket could not hold a seat: {status} {body.get('code')}")
        raise ConfigError(f"nobody leaves a seat of schedule {schedule} to us; give the system more schedules")

    def pay(self, ticket: str, user: int, reservation: str) -> None:
        body = {"userId": user, "reservationId": reservation, "token": ticket}
        status, paid = self.call("POST", "/payment", ticket, body)
        give_up_s = time.monotonic() + COME_IN_S
        while status == 202 or (status == 200 and paid["status"] == "PENDING"):
            if time.monotonic() > give_up_s:
                break
            time.sleep(POLL_S)
            status, paid = self.call("POST", "/payment", ticket, body)
        if status != 200 or paid["status"] != "COMPLETED":
            raise ConfigError(f"a good ticket could not pay: {status} {paid.get('code') or paid.get('status')}")

    def _wanted(
        self, method: str, path: str, ticket: str, body: dict[str, Any] | None = None, *, statuses: set[int]
    ) -> Any:
        status, told = self.call(method, path, ticket, body)
        if status not in statuses:
            raise ConfigError(f"{method} {path}: {status} {told.get('code', '')}")
        return told
