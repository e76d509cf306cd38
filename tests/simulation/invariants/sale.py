"""Seats and reservations, checked at every commit.

| | |
|---|---|
| I1 | a seat is in at most one CONFIRMED reservation |
| I2 | a seat's `n` never falls; within one `n` its owner stays and it only goes held → paying → sold; a live hold, a pinned and a sold seat change their owner only through their own reservation's end; a reservation that pays has pinned all its seats |
| I5 | a CONFIRMED reservation was charged, once, its price |
| I7 | a reservation holds all of its seats |
| I13 | nobody has more seats of a schedule than the cap |
| states | a reservation only moves along the arrows of the saga |
"""  # noqa: E501  a table

from collections.abc import Sequence
from typing import Any

from libs.common.clock import Clock
from tests.simulation.invariants.findings import Findings

Body = dict[str, Any]

ARROWS: dict[str | None, set[str]] = {
    None: {"HELD", "CANCELLED"},
    "HELD": {"PAYING", "CANCELLED", "EXPIRED"},
    "PAYING": {"CONFIRMED", "HELD", "EXPIRED", "CANCELLING"},
    "CANCELLING": {"CANCELLED"},
    "CONFIRMED": {"REFUNDING"},
    "REFUNDING": {"REFUNDED"},
}
BY_WAY_OF = {("PAYING", "ReservationPaymentDeclined"): "HELD", ("PAYING", "PaymentCancelled"): "CANCELLING"}
"""States that a write may pass through on its way, by the state before and the event that tells of the step."""
DEAD = {"CANCELLING", "CANCELLED", "EXPIRED", "REFUNDING", "REFUNDED"}
ORDER = {"free": 0, "held": 1, "paying": 2, "sold": 3}
SEAT_PRICE = 10_000


class SaleWatch:
    """Knows every seat and every reservation as last committed. `net_charged` is the ledger's word on a reservation."""

    def __init__(
        self,
        findings: Findings,
        clock: Clock,
        *,
        seats_max: int,
        skew_ms: int,
        clocks_are_bounded: bool = True,
    ) -> None:
        self._clock = clock
        self.skew_ms = skew_ms
        self._findings = findings
        self._seats_max = seats_max
        self._clocks_are_bounded = clocks_are_bounded
        self.seats: dict[tuple[int, int], list[Any]] = {}
        self.reservations: dict[str, Body] = {}
        self.confirmed: dict[tuple[int, int], str] = {}
        self.net_charged: dict[str, int] = {}
        self.sales_count = 0
        self._attempts: dict[str, list[tuple[int, int | None]]] = {}
        """Per reservation when each attempt to pay began and ended, by the true clock."""
        self._freed_s: dict[tuple[int, int], float] = {}

    def now_s(self) -> float:
        return self._clock.monotonic_s()

    def at_ms(self, now_s: float) -> int:
        """The wall time of a moment, by the true clock."""
        return self._clock.now_ms() - round((self.now_s() - now_s) * 1000)

    def is_over(self, id_: str) -> bool:
        """Whether some clock within the bound may say that nothing can be paid here any more."""
        found = self.reservations.get(id_)
        if found is None or found["status"] in DEAD or not self._clocks_are_bounded:
            return True
        return bool(found["expires_ms"] <= self._clock.now_ms() + self.skew_ms)

    def attempts_since(self, id_: str, since_ms: int) -> int:
        """When the first of the attempts began that had not ended at a time; that time where all had."""
        running = [began for began, ended in self._attempts.get(id_, ()) if ended is None or ended >= since_ms]
        return min(running, default=since_ms)

    def was_taken(self, seat: tuple[int, int], since_s: float) -> bool:
        """Whether somebody had a seat at any time since `since_s`."""
        row = self.seats.get(seat)
        return row is not None and (row[2] != "free" or self._freed_s.get(seat, 0.0) >= since_s)

    def block(self, after: Body, now_ms: int) -> None:
        """A block was written."""
        schedule = after["schedule"]
        for row in after["seats"]:
            known = self.seats.get((schedule, row[0]))
            if known is None or list(known) != list(row):
                self._seat(schedule, known or [row[0], 0, "free", None, None, None], row, now_ms)
                self.seats[schedule, row[0]] = row
                if row[2] == "free":
                    self._freed_s[schedule, row[0]] = self.now_s()

    def _seat(self, schedule: int, old: list[Any], new: list[Any], now_ms: int) -> None:
        name = f"seat {schedule}/{old[0]}"
        text = f"{name} went from {old[1:]} to {new[1:]}"
        about = (str(old[3] or ""), str(new[3] or ""))
        if new[1] < old[1]:
            self._findings.add("I2", f"{text}: n fell", *about)
        elif new[1] == old[1]:
            fits = new[3] == old[3] and ORDER[new[2]] >= ORDER[old[2]]
            self._findings.check(fits, "I2", f"{text} within one n", about)
        elif not self._may_be_taken(schedule, old, new, now_ms):
            self._findings.add("I2", f"{text} although its owner had not ended", *about)
        if new[2] == "sold" and old[2] != "sold":
            status = self._status(new[3])
            self._findings.check(
                status in ("CONFIRMED", "REFUNDING", "REFUNDED"), "I2", f"{text}, sold to one that is {status}", about
            )

    def _may_be_taken(self, schedule: int, old: list[Any], new: list[Any], now_ms: int) -> bool:
        seat, n, state, owner, _, until_ms = old
        if state == "free":
            return True
        status = self._status(owner)
        # One write may hold several decisions: whoever frees and whoever then takes both add to n.
        was_freed = new[2] == "free" or new[1] >= n + 2
        if state == "sold":
            return was_freed and status in ("REFUNDING", "REFUNDED")
        if state == "paying":
            return was_freed and status in DEAD
        reservation = self.reservations.get(owner)
        names_it = reservation is not None and any((each[0], each[2]) == (seat, n) for each in reservation["seats"])
        if not self._clocks_are_bounded or (until_ms <= now_ms and not (names_it and self._is_held(owner, now_ms))):
            return True
        return was_freed and (status in DEAD or (reservation is not None and not names_it))

    def _is_held(self, owner: str, now_ms: int) -> bool:
        reservation = self.reservations[owner]
        return bool(reservation["status"] == "HELD" and reservation["expires_ms"] > now_ms)

    def reservation(self, before: Body | None, after: Body, now_ms: int, told: Sequence[str] = ()) -> None:
        """A reservation was written; `told` are the types of the events in that write, in order."""
        id_, status = after["id"], after["status"]
        was = before["status"] if before else None
        if was != status:
            self._note_attempt(id_, was, status, now_ms)
            fits = _follows_arrows(was, status, told)
            self._findings.check(fits, "states", f"{id_} went from {was} to {status}", (id_,))
            entered = {"HELD": self._held, "PAYING": self._paying, "CONFIRMED": self._confirmed}.get(status)
            self.reservations[id_] = after
            if was == "CONFIRMED":
                self._unconfirmed(after)
            if entered is not None:
                entered(before, after, now_ms)
        self.reservations[id_] = after

    def _note_attempt(self, id_: str, was: str | None, status: str, now_ms: int) -> None:
        known = self._attempts.setdefault(id_, [])
        if status == "PAYING":
            known.append((now_ms, None))
        elif was == "PAYING" and known:
            known[-1] = (known[-1][0], now_ms)

    def _held(self, before: Body | None, after: Body, now_ms: int) -> None:
        if before is None:
            prices = SEAT_PRICE * len(after["seats"])
            self._findings.check(
                after["amount"] == prices, "I5", f"{after['id']} has price {after['amount']}", (after["id"],)
            )
            self._cap(after, now_ms)
        if after["expires_ms"] > now_ms and self._clocks_are_bounded:
            lost = [seat for seat in after["seats"] if not self._has(after, seat, ("held", "paying"))]
            self._findings.check(not lost, "I7", f"{after['id']} is HELD without its seats {lost}", (after["id"],))

    def _paying(self, _: Body | None, after: Body, now_ms: int) -> None:
        self._cap(after, now_ms)
        lost = [seat for seat in after["seats"] if not self._has(after, seat, ("paying",))]
        self._findings.check(not lost, "I2", f"{after['id']} is PAYING without having pinned {lost}", (after["id"],))

    def _confirmed(self, _: Body | None, after: Body, __: int) -> None:
        id_: str = after["id"]
        self.sales_count += 1
        lost = [seat for seat in after["seats"] if not self._has(after, seat, ("paying", "sold"))]
        self._findings.check(not lost, "I7", f"{id_} is CONFIRMED without its seats {lost}", (id_,))
        charged = self.net_charged.get(id_, 0)
        self._findings.check(charged == after["amount"], "I5", f"{id_} is CONFIRMED and charged {charged}", (id_,))
        for seat in after["seats"]:
            key = (after["schedule"], seat[0])
            other: str = self.confirmed.get(key, id_)
            self._findings.check(other == id_, "I1", f"seat {key} is sold to {other} and to {id_}", (other, id_))
            self.confirmed[key] = id_

    def _unconfirmed(self, after: Body) -> None:
        for seat in after["seats"]:
            if self.confirmed.get((after["schedule"], seat[0])) == after["id"]:
                del self.confirmed[after["schedule"], seat[0]]

    def cap_of(self, schedule: int, user: int, now_ms: int) -> int:
        """Seats of a schedule that a user has, by the reservations."""
        return sum(
            len(each["seats"])
            for each in self.reservations.values()
            if (each["schedule"], each["user"]) == (schedule, user)
            and (
                each["status"] in ("PAYING", "CONFIRMED") or (each["status"] == "HELD" and each["expires_ms"] > now_ms)
            )
        )

    def _cap(self, after: Body, now_ms: int) -> None:
        if not self._clocks_are_bounded:
            return
        has = self.cap_of(after["schedule"], after["user"], now_ms)
        self._findings.check(
            has <= self._seats_max,
            "I13",
            f"user {after['user']} has {has} seats of {after['schedule']}",
            (after["id"],),
        )

    def _has(self, reservation: Body, seat: list[Any], states: tuple[str, ...]) -> bool:
        row = self.seats.get((reservation["schedule"], seat[0]))
        return row is not None and row[3] == reservation["id"] and row[1] == seat[2] and row[2] in states

    def _status(self, id_: str | None) -> str | None:
        found = self.reservations.get(id_ or "")
        return None if found is None else str(found["status"])


def _follows_arrows(was: str | None, status: str, told: Sequence[str]) -> bool:
    """Whether one arrow leads there, or, as updates fold, two: a decline and then what was asked of a held one, or
    the deadline and then the wallet's answer, which was on its way.

    Each step that left its event in the write is one that was decided on the document as it then was.
    """
    if status in ARROWS.get(was, set()):
        return True
    between = BY_WAY_OF.get((was or "", told[0])) if len(told) > 1 else None
    return between is not None and status in ARROWS[between]
