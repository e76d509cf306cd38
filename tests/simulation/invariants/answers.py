"""What clients were told, checked at every answer and held against the stores at the end.

| | |
|---|---|
| I6 | what a 2xx told is there, and stays; a place in line is told to one join |
| I9 | all sendings of one key get one answer and have one effect |
| I11 | a position is never smaller than the truth, never grows at one gateway (but for who returns), and whoever is told 0 has a session |
| I12 | no answer to one user shows or changes an object of another |
| I15 | no answer is an internal error |
| refusals | "the hold is over" is told of one that is, "taken" of seats that were while the request was under way, "not enough" of a balance that was |
"""  # noqa: E501  a table

from dataclasses import dataclass, field
from typing import Any

import orjson

from libs.common.testing.app_client import Answered
from libs.common.tickets import TicketCodec
from tests.simulation.history import History
from tests.simulation.invariants.findings import Findings
from tests.simulation.invariants.sale import DEAD
from tests.simulation.invariants.watch import Watch

JOIN, CHARGE, HOLD, PAY = "joins", "charges", "holds", "pays"


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of a client. `kind` is one of the four writes with a key, or empty; `ticket` what it was sent with;
    `key` the client's own."""

    user: int
    method: str
    path: str
    ticket: str
    kind: str = ""
    key: str = ""
    body: bytes = b""


@dataclass
class Acked:
    """The 2xx of a run, by what they told."""

    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    paid: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    refunded: set[str] = field(default_factory=set)
    joined: dict[tuple[int, int], tuple[int, str]] = field(default_factory=dict)
    """By room and sequence the user and the key of the join that got the place; no key is an empty one."""
    charged: dict[int, list[str]] = field(default_factory=dict)
    """Per user the key of each charge that was answered, or empty."""


class AnswerWatch:
    """Knows every answer; `gateway` in the calls is who gave it and in which life."""

    def __init__(self, findings: Findings, history: History, watch: Watch, codec: TicketCodec) -> None:
        self._findings = findings
        self._history = history
        self._sale = watch.sale
        self._ledger = watch.ledger
        self._line = watch.line
        self._codec = codec
        self.acked = Acked()
        self._sent_s: dict[Sent, float] = {}
        self.sent_charges: dict[int, list[str]] = {}
        """Per user one entry for each charge that was sent: its key, or empty."""
        self.holders: dict[str, tuple[int, str]] = {}
        """Who made each reservation, and with which ticket."""
        self._first: dict[tuple[int, str, str], tuple[int, Any]] = {}
        self._positions: dict[tuple[str, str], int] = {}

    def sending(self, sent: Sent) -> float:
        """A client sends a request; when that is."""
        self._sent_s.setdefault(sent, self._sale.now_s())
        if sent.kind == CHARGE:
            self.sent_charges.setdefault(sent.user, []).append(sent.key)
        return self._sale.now_s()

    def answered(self, sent: Sent, reply: Answered, gateway: str, sent_s: float) -> None:
        """A client has got an answer."""
        told: Any = orjson.loads(reply.body) if reply.body else {}
        self._history.add(
            "answer", f"user {sent.user}", f"{sent.method} {sent.path} {sent.key} → {reply.status} {_brief(told)}"
        )
        self._findings.check(
            reply.status < 500 or reply.status == 503, "I15", f"{sent.method} {sent.path} → {reply.status} {told}"
        )
        if not 200 <= reply.status < 300:
            self._refused(sent, told, sent_s)
            return
        self._whose(sent, told)
        if sent.kind and sent.key and reply.status != 202:
            self._same(sent, reply.status, told)
        if "/concert/reservation" in sent.path:
            self._reservation(sent, told)
        elif sent.kind == PAY and reply.status == 200:
            self.acked.paid[told["reservationId"]] = told
        elif sent.kind == CHARGE:
            self.acked.charged.setdefault(sent.user, []).append(sent.key)
        elif sent.path.endswith("/token") and sent.method == "GET":
            self._place(told["waitingQueueWithPositionResult"], gateway)
        elif sent.kind == JOIN:
            self._joined(sent, told, gateway)

    def _refused(self, sent: Sent, told: Any, sent_s: float) -> None:
        if sent.kind == PAY and told.get("code") == "HOLD_EXPIRED":
            id_ = orjson.loads(sent.body)["reservationId"]
            self._findings.check(self._sale.is_over(id_), "refusals", f"{id_} was told to be over and is not", (id_,))
        if sent.kind == PAY and told.get("code") == "NOT_ENOUGH_POINTS":
            self._declined(orjson.loads(sent.body)["reservationId"], sent_s)
        if sent.kind == HOLD and told.get("code") == "SEAT_TAKEN":
            asked = orjson.loads(sent.body)
            # A hold that was undone stays refused under its key, with the seats that were in the way then.
            since_s = self._sent_s[sent]
            for error in told["errors"]:
                seat = (asked["concertScheduleId"], asked["seatIds"][int(error["pointer"].rsplit("/")[-1])])
                was_taken = self._sale.was_taken(seat, since_s)
                self._findings.check(was_taken, "refusals", f"seat {seat} was told to be taken and was free")

    def _declined(self, id_: str, sent_s: float) -> None:
        """A call may have joined an attempt that was decided before it came."""
        found = self._sale.reservations[id_]
        since_ms = self._sale.attempts_since(id_, self._sale.at_ms(sent_s))
        was_short = self._ledger.was_short(found["user"], found["amount"], since_ms)
        self._findings.check(was_short, "refusals", f"{id_} was declined with enough points", (id_,))

    def _whose(self, sent: Sent, told: Any) -> None:
        user = told.get("userId", sent.user)
        self._findings.check(user == sent.user, "I12", f"user {sent.user} was shown {told}", (f"user {sent.user}",))
        place = told.get("waitingQueueWithPositionResult")
        self._findings.check(
            place is None or place["uuid"] == sent.ticket, "I12", f"{sent} was shown {place}", (f"user {sent.user}",)
        )
        id_ = told.get("reservationId") or (told.get("id") if "/reservation" in sent.path else None)
        if not isinstance(id_, str):
            return
        holder = self.holders.setdefault(id_, (sent.user, sent.ticket))
        self._findings.check(
            holder == (sent.user, sent.ticket), "I12", f"{sent} was shown {id_}, which {holder} made", (id_,)
        )

    def _same(self, sent: Sent, status: int, told: Any) -> None:
        answer = (status, told["uuid"] if sent.kind == JOIN else told)
        first = self._first.setdefault((sent.user, sent.kind, sent.key), answer)
        self._findings.check(
            first == answer,
            "I9",
            f"key {sent.key} of user {sent.user} {sent.kind}: {first}, then {answer}",
            (sent.key,),
        )

    def _reservation(self, sent: Sent, told: Any) -> None:
        id_ = told["id"]
        self._findings.check(id_ in self._sale.reservations, "I6", f"{id_} was told and is not there", (id_,))
        if sent.kind == HOLD:
            self.acked.held[id_] = told
        if sent.method == "DELETE" and told["status"] == "CANCELLED":
            self.acked.cancelled.add(id_)

    def _joined(self, sent: Sent, told: Any, gateway: str) -> None:
        ticket = self._codec.verify(told["uuid"])
        if ticket is None:
            self._findings.add("I6", f"a join was answered with {told['uuid']}, which is no ticket")
            return
        place, join = (ticket.room, ticket.sequence), (sent.user, sent.key)
        known = self.acked.joined.setdefault(place, join)
        is_first = known is join
        is_again = bool(sent.key) and known == join
        self._findings.check(
            is_first or is_again, "I6", f"place {place} was told to {known} and to {join}", (ticket.text,)
        )
        issued = self._line.rooms[ticket.room]["issued"]
        self._findings.check(ticket.sequence <= issued, "I6", f"{ticket} was told and not issued", (ticket.text,))
        self._place(told, gateway)

    def _place(self, told: Any, gateway: str) -> None:
        ticket = self._codec.verify(told["uuid"])
        if ticket is None:
            return
        position, about = told["position"], (f"{ticket.room}:{ticket.sequence}",)
        session = self._line.sessions.get((ticket.room, ticket.sequence))
        truth = max(0, ticket.sequence - self._line.rooms[ticket.room]["watermark"])
        self._findings.check(position >= truth, "I11", f"{ticket} was told {position} and is {truth}", about)
        if position == 0:
            is_in = session is not None and session["state"] != "lapsed"
            self._findings.check(is_in, "I11", f"{ticket} was told 0 and has {session}", about)
        known = self._positions.get((ticket.text, gateway), position)
        returns = session is not None and session["state"] == "lapsed"
        self._findings.check(position <= known or returns, "I11", f"{ticket} was told {known}, then {position}", about)
        self._positions[ticket.text, gateway] = position

    def compare(self) -> None:
        """Hold what was told against the stores as they are."""
        kept = self._sale.reservations
        for id_ in self.acked.held:
            self._findings.check(id_ in kept, "I6", f"{id_} was held and is not there", (id_,))
        for id_ in self.acked.paid:
            status = kept[id_]["status"] if id_ in kept else None
            fits = status == "CONFIRMED" or (id_ in self.acked.refunded and status in ("REFUNDING", "REFUNDED"))
            self._findings.check(fits, "I6", f"{id_} was paid and is {status}", (id_,))
        for id_ in self.acked.cancelled:
            status = kept[id_]["status"] if id_ in kept else None
            self._findings.check(status in DEAD, "I6", f"{id_} was cancelled and is {status}", (id_,))
        self._one_effect()

    def _one_effect(self) -> None:
        holds: dict[tuple[int, str], set[str]] = {}
        for (user, kind, key), (_, told) in self._first.items():
            if kind == HOLD:
                holds.setdefault((user, key), set()).add(told["id"])
        for name, ids in holds.items():
            self._findings.check(len(ids) == 1, "I9", f"{name} made {ids}", tuple(ids))


def _brief(told: Any) -> str:
    if not isinstance(told, dict):
        return ""
    place = told.get("waitingQueueWithPositionResult", told)
    names = ("code", "id", "status", "uuid", "position", "state", "amount", "reservationId")
    return " ".join(f"{name}={place[name]}" for name in names if place.get(name) is not None)
