"""A world written by hand, for the tests of the checkers: any document, any answer, however wrong."""

from dataclasses import asdict
from typing import Any

import orjson

from libs.common.testing.app_client import Answered
from libs.common.testing.virtual import START_MS
from libs.common.tickets import TicketCodec
from services.wallet.domain import Entry, charge, pay_or_decline
from tests.simulation.history import History
from tests.simulation.invariants.answers import CHARGE, HOLD, JOIN, PAY, AnswerWatch, Sent
from tests.simulation.invariants.watch import Watch
from tests.simulation.storing import Commit
from tests.simulation.world import TICKET_KEYS

NOW_MS = START_MS
UNTIL_MS = NOW_MS + 10_000
CODEC = TicketCodec.from_settings(TICKET_KEYS, 1)


class StillClock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None: ...


class Damaged:
    """The checkers on a world that a test writes by hand."""

    def __init__(self) -> None:
        self.history = History(lambda: 0.0)
        self.watch = Watch(StillClock(), self.history, {"max_seats_per_user": 4, "clock_skew_s": 0.0})
        self.answers = AnswerWatch(self.watch.findings, self.history, self.watch, CODEC)

    def write(self, collection: str, id_: str, before: Any, after: Any) -> None:
        self.watch.committed(Commit("any", collection, id_, before, after, []))

    def block(self, *rows: list[Any], schedule: int = 1) -> None:
        self.write("blocks", f"{schedule}:0", None, {"schedule": schedule, "index": 0, "seats": list(rows)})

    def reservation(self, status: str, *, before: Any = None, id_: str = "r-1", **changed: Any) -> dict[str, Any]:
        body = {
            "id": id_, "schedule": 1, "user": 7, "seats": [[1, 0, 1]], "amount": 10_000, "status": status,
            "expires_ms": UNTIL_MS, "updated_ms": NOW_MS,
            "attempts": [], "owes": None, "room": None, "sequence": None, **changed,
        }  # fmt: skip
        self.write("reservations", id_, before, body)
        return body

    def held(self) -> dict[str, Any]:
        self.block([1, 1, "held", "r-1", 7, UNTIL_MS])
        return self.reservation("HELD")

    def sold(self) -> dict[str, Any]:
        body = self.held()
        self.block([1, 1, "paying", "r-1", 7, None])
        paying = self.reservation("PAYING", before=body, attempts=[{"deadline_ms": NOW_MS}])
        self.paid()
        confirmed = self.reservation("CONFIRMED", before=paying, attempts=paying["attempts"])
        self.block([1, 1, "sold", "r-1", 7, None])
        return confirmed

    def paid(self, op: str = "pay:r-1:1") -> Entry:
        head = self.watch.ledger.heads.get(7)
        if head is None:
            head = charge(None, 7, 10_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS)
            self.entry(head)
        entry = pay_or_decline(head, 7, 10_000, op, NOW_MS)
        self.entry(entry)
        return entry

    def entry(self, entry: Entry, **changed: Any) -> None:
        self.write("entries", f"{entry.user}:{entry.seq}", None, {**asdict(entry), **changed})

    def room(self, **changed: Any) -> dict[str, Any]:
        body = {
            "id": 1, "capacity": 2, "issued": 5, "watermark": 2, "settled": 0, "floor": 0, "fence": 1, "tick": 1,
            "leader": "a", "returning": [], **changed,
        }  # fmt: skip
        self.write("rooms", "1", None, body)
        return body

    def session(self, sequence: int, state: str = "open", before: Any = None) -> dict[str, Any]:
        body = {"room": 1, "sequence": sequence, "state": state, "round": 1, "until_ms": UNTIL_MS}
        self.write("sessions", f"1:{sequence}", before, body)
        return body

    def answer(
        self, kind: str, told: Any, *, user: int = 7, key: str = "k", status: int = 200, ticket: str = "t"
    ) -> None:
        method, path = {
            JOIN: ("POST", "/api/v1/token/create"),
            HOLD: ("POST", "/api/v1/concert/reservation"),
            PAY: ("POST", "/api/v1/payment"),
            CHARGE: ("PATCH", "/api/v1/users/charge/point"),
            "poll": ("GET", "/api/v1/token"),
            "cancel": ("DELETE", "/api/v1/concert/reservation/r-1"),
        }[kind]
        body = orjson.dumps({"reservationId": "r-1", "concertScheduleId": 1, "seatIds": [1]})
        sent = Sent(user, method, path, ticket, kind if kind in (JOIN, HOLD, PAY, CHARGE) else "", key, body)
        sent_s = self.answers.sending(sent)
        self.answers.answered(sent, Answered(status, {}, orjson.dumps(told)), "gateway-1/1", sent_s)

    def place(self, sequence: int, position: int) -> dict[str, Any]:
        return {"uuid": CODEC.sign(1, sequence), "position": position, "state": "WAITING"}

    def poll(self, sequence: int, position: int) -> None:
        place = self.place(sequence, position)
        self.answer("poll", {"waitingQueueWithPositionResult": place}, ticket=place["uuid"])

    @property
    def broken(self) -> set[str]:
        return {finding.invariant for finding in self.watch.findings.found}
