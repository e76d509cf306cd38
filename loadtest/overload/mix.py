"""What people ask for while they buy, in the proportions of a purchase, as requests that are ready to send.

Of ten requests four browse (schedules, seats, a wallet), three are the line's (a join, two polls) and three cost points
or seats (a hold, a charge, a payment). Holds are of seats nobody had before; one in twenty asks for a seat that is
taken. Payments are of what was held and is not paid: where nothing is held somebody browses instead, as nobody pays for
what they could not get. A hold or a payment that was refused is tried again, under its key, in a later one's stead.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, cycle
from time import time_ns

import orjson

from infra.local.settings import DEMO_TOKEN
from loadtest.buying.history import History
from loadtest.raw_client import RawClient, body_of, written

KINDS = ("schedules", "seats", "wallet", "join", "poll", "hold", "charge", "pay")
SCHEDULES, SEATS, WALLET, JOIN, POLL, HOLD, CHARGE, PAY = range(len(KINDS))
BROWSING = (SCHEDULES, SEATS, WALLET)

# Spread, so that no moment has more of a kind than another.
ORDER = (SEATS, POLL, HOLD, WALLET, JOIN, SCHEDULES, CHARGE, POLL, SEATS, PAY)
TAKEN, TAKEN_EVERY = (1, 1), 20

HOLD_PATH, PAY_PATH, CHARGE_PATH = "/api/v1/concert/reservation", "/api/v1/payment", "/api/v1/users/charge/point"

TICKET = "X-Waiting-Token"
INSIDE = {TICKET: DEMO_TOKEN}
WAITING_PEOPLE = 1_000

CREATED, CONFLICT = 201, 409
WANTED = {200, CREATED, 202}


@dataclass(frozen=True, slots=True)
class Shop:
    """What is on sale, and to whom: schedules, seats and users by number from 1, all users with points."""

    schedules: int = 200
    seats: int = 250
    users: int = 1_000

    @property
    def environment(self) -> dict[str, str]:
        """Nobody is let in, so that polls are of people who wait; holds outlast any run."""
        return {
            "DEMO_SCHEDULES": str(self.schedules),
            "DEMO_SEATS": str(self.seats),
            "DEMO_USERS": str(self.users),
            "ROOM_CAPACITY": "0",
            "HOLD_S": "3600",
        }

    def places(self) -> Iterator[tuple[int, int]]:
        """Every seat once, the schedules in turn."""
        for seat in range(1, self.seats + 1):
            for schedule in range(1, self.schedules + 1):
                yield schedule, seat


@dataclass(slots=True)
class Request:
    """One request of a kind, and of whom."""

    kind: int
    raw: bytes
    sent: dict[str, object] | None = None
    key: str = ""
    sent_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes


@dataclass
class Mix:
    """Requests one after another; told of each answer, it says whether it was the wanted one."""

    shop: Shop

    def __post_init__(self) -> None:
        self._order = cycle(ORDER)
        self._places = self.shop.places()
        self._latecomers = count()
        self._held_next: deque[Request] = deque()
        self._unpaid: deque[Request] = deque()
        self._promised: list[tuple[Request, int, int, bytes]] = []
        schedules, users = range(1, self.shop.schedules + 1), range(1, self.shop.users + 1)
        # Made beforehand: the generator's own time is time that the system does not get.
        ready = {
            SCHEDULES: [written("GET", "/api/v1/concert/1/available-schedules", headers=INSIDE)],
            SEATS: [written("GET", f"/api/v1/concert/{it}/available-seats", headers=INSIDE) for it in schedules],
            WALLET: [written("GET", f"/api/v1/users/{user}/wallet") for user in users],
            CHARGE: [written("PATCH", CHARGE_PATH, orjson.dumps({"userId": user, "point": 1})) for user in users],
            JOIN: [written("POST", "/api/v1/token/create")],
            POLL: [written("GET", "/api/v1/token", headers=INSIDE)],
        }
        self._ready = {kind: cycle([Request(kind, raw) for raw in raws]) for kind, raws in ready.items()}

    async def prepare(self, client: RawClient) -> None:
        """People join the line who will ask where they are, and one seat is taken that others will want."""
        join = next(self._ready[JOIN]).raw
        joined = [await client.call(join) for _ in range(WAITING_PEOPLE)]
        tickets = [orjson.loads(body_of(reply))["uuid"] for _, reply in joined]
        polls = [written("GET", "/api/v1/token", headers={TICKET: ticket}) for ticket in tickets]
        self._ready[POLL] = cycle([Request(POLL, raw) for raw in polls])
        await client.call(self._hold(*next(self._places)).raw)

    def next(self) -> Request:
        """The next request of the mix."""
        kind = next(self._order)
        if kind == HOLD:
            return self._held_next.popleft() if self._held_next else self._next_hold()
        if kind == PAY:
            return self._unpaid.popleft() if self._unpaid else next(self._ready[SEATS])
        return next(self._ready[kind])

    def is_wanted(self, request: Request, status: int, reply: bytes) -> bool:
        """True for what the request was for, or for a seat that others were quicker to take."""
        wanted = status in WANTED or (request.kind == HOLD and status == CONFLICT and b'"SEAT_TAKEN"' in reply)
        if request.sent is None:
            return wanted
        if not wanted:
            (self._held_next if request.kind == HOLD else self._unpaid).append(request)
            return False
        self._promised.append((request, time_ns() // 1_000_000, status, body_of(reply)))
        if request.kind == HOLD and status == CREATED:
            held = orjson.loads(body_of(reply))
            self._unpaid.append(self._payment(held["userId"], held["id"]))
        return True

    def written_history(self) -> History:
        """What holds and payments were promised; written afterwards, because it costs as much as the request did."""
        history = History()
        for request, answered_ms, status, body in self._promised:
            path = PAY_PATH if request.kind == PAY else HOLD_PATH
            headers = {**INSIDE, "Idempotency-Key": request.key}
            times_ms = (request.sent_ms, answered_ms)
            history.add("POST", path, request.sent, headers, times_ms, _Answer(status, body))
        return history

    def _next_hold(self) -> Request:
        number = next(self._latecomers)
        return self._hold(*(TAKEN if number % TAKEN_EVERY == 0 else next(self._places, TAKEN)), number)

    def _hold(self, schedule: int, seat: int, number: int = 0) -> Request:
        user = (schedule * self.shop.seats + seat) % self.shop.users + 1  # nobody holds two seats of a schedule
        body = {"userId": user, "concertScheduleId": schedule, "seatIds": [seat]}
        return self._write(HOLD, HOLD_PATH, body, f"hold-{schedule}-{seat}-{number}")

    def _payment(self, user: object, reservation: str) -> Request:
        body = {"userId": user, "reservationId": reservation, "token": DEMO_TOKEN}
        return self._write(PAY, PAY_PATH, body, f"pay-{reservation}"[:64])

    @staticmethod
    def _write(kind: int, path: str, body: dict[str, object], key: str) -> Request:
        raw = written("POST", path, orjson.dumps(body), {**INSIDE, "Idempotency-Key": key})
        return Request(kind, raw, body, key, time_ns() // 1_000_000)
