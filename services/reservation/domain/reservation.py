"""A reservation: the seats one user wants, and the attempts to pay for them.

    HELD ──pay(n)──▶ PAYING(n) ──Completed(n)──▶ CONFIRMED
      ▲               │   │ Declined(n): back to HELD with the first expiry, or EXPIRED when that has passed
      └───────────────┘   └─ deadline ──▶ CANCELLING(n) ──Voided(n), Refunded(n), Declined(n)──▶ CANCELLED
    HELD ──cancel──▶ CANCELLED    HELD ──lapse──▶ EXPIRED
    CONFIRMED ──refund──▶ REFUNDING ──Refunded(n)──▶ REFUNDED

The one invariant: at most one attempt runs at a time, and every outcome names the attempt it is about, so that no late
or doubled answer of the wallet moves a reservation it does not belong to. What a reservation still owes its seats (to
be sold, to be freed) is part of it until it is done: a crash cannot forget it.
"""

from dataclasses import dataclass, replace
from typing import Literal

from libs.common.contract.reservation import PaymentStatus, ReservationStatus
from libs.common.errors import IdempotencyMismatch, NotYours, RateLimited, RequestInProgress, SessionExpired
from libs.common.events.reservation import (
    PaymentCancelled,
    PaymentRequested,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationPaymentDeclined,
    SeatAt,
)
from libs.common.storage.ports import Decision
from libs.common.web.admission import Admission
from services.reservation.domain.lapse import lapsed
from services.reservation.domain.problems import (
    AlreadyPaid,
    HoldExpired,
    NotEnoughPoints,
    NotPaid,
    ReservationNotFound,
)

ATTEMPTS_MAX = 50
OTHER_BODY = "This key has paid with another body; use a new key for a new payment."
RESEND_MS, RESEND_MAX_MS = 5_000, 20_000
"""Quiet time after which the wallet is asked again: as long as it has been silent already, within these."""

LOOK_AGAIN_MAX_S = 10
"""The longest pause that whoever waits for an outcome is asked to make."""

DUTY_GRACE_MS = 1_000
"""How long whoever changed a reservation may take to do what it owes, before a sweeper does it."""

REMEMBERED_MS = 24 * 60 * 60 * 1000
"""How long after its last change a ticket whose visit is over may still look at its reservation."""

DEAD: frozenset[ReservationStatus] = frozenset({"CANCELLING", "CANCELLED", "EXPIRED", "REFUNDING", "REFUNDED"})
"""Nothing returns from these, so their seats may be freed."""

Outcome = Literal["completed", "declined", "cancelled"]
Change = Decision["Reservation", "Step"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to pay. Times are epoch ms: `sent_ms` is when the wallet was last asked to charge or to call off,
    `settled_ms` when the outcome became known here."""

    n: int
    key: str
    body_digest: str
    began_ms: int
    deadline_ms: int
    sent_ms: int
    outcome: Outcome | None = None
    settled_ms: int | None = None

    @property
    def status(self) -> PaymentStatus:
        statuses: dict[Outcome, PaymentStatus] = {
            "completed": "COMPLETED",
            "declined": "DECLINED",
            "cancelled": "CANCELLED",
        }
        return "PENDING" if self.outcome is None else statuses[self.outcome]

    def look_again_s(self, now_ms: int) -> int | None:
        """After how many seconds it is worth asking for the outcome again, a quarter of what it has taken so far; None
        when it is known. A wallet that was away is not asked for by a crowd that grows with every second of it."""
        if self.outcome is not None:
            return None
        return min(max(1, (now_ms - self.began_ms) // 4_000), LOOK_AGAIN_MAX_S)


@dataclass(frozen=True, slots=True)
class PlacedSeat:
    """A seat of a reservation: the block it lies in and the `n` it was taken with (0: it was not)."""

    seat: int
    block: int
    n: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a hold that had taken a block was undone: the code of the problem, and the seats in the way."""

    code: str
    seats: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reservation:
    """`ticket`, `room` and `sequence` are those of the visit that made it (no room: a static ticket). `capped`: its
    user has a place for it among `Places`. `owes` is what its seats still have to be told."""

    id: str
    schedule: int
    user: int
    ticket: str
    room: int | None
    sequence: int | None
    seats: tuple[PlacedSeat, ...]
    capped: bool
    amount: int
    body_digest: str
    status: ReservationStatus
    created_ms: int
    updated_ms: int
    expires_ms: int
    attempts: tuple[Attempt, ...] = ()
    owes: Literal["free", "sell"] | None = None
    refusal: Refusal | None = None

    @property
    def due_ms(self) -> int | None:
        """When a sweeper has to look at it next; None when it is at rest."""
        times = [self.updated_ms + DUTY_GRACE_MS] if self.owes else []
        if self.status == "HELD":
            times.append(self.expires_ms)
        elif self.status == "PAYING":
            times += [self.asks_again_ms, self.attempts[-1].deadline_ms]
        elif self.status in ("CANCELLING", "REFUNDING"):
            times.append(self.asks_again_ms)
        return min(times, default=None)

    @property
    def asks_again_ms(self) -> int:
        """When a silent wallet is asked again. The pauses grow: one that was away for a while has all the questions of
        that time before it when it is back, and has to answer each."""
        running = self.attempts[-1]
        since_ms = running.began_ms if self.status == "PAYING" else self.updated_ms
        return running.sent_ms + max(RESEND_MS, min(running.sent_ms - since_ms, RESEND_MAX_MS))

    @property
    def is_dead(self) -> bool:
        return self.status in DEAD

    def seats_by_block(self) -> dict[int, list[SeatAt]]:
        grouped: dict[int, list[SeatAt]] = {}
        for seat in self.seats:
            grouped.setdefault(seat.block, []).append(SeatAt(seat.seat, seat.n))
        return grouped

    def attempt(self, n: int) -> Attempt | None:
        return self.attempts[n - 1] if 1 <= n <= len(self.attempts) else None

    def is_running(self, n: int, status: ReservationStatus) -> bool:
        """True in `status` with attempt `n` as the one that runs."""
        return self.status == status and bool(self.attempts) and self.attempts[-1].n == n


@dataclass(frozen=True, slots=True)
class Step:
    """What came of a decision: the reservation as it is now, and the status it has just entered, if it moved."""

    reservation: Reservation
    entered: ReservationStatus | None = None
    resent: bool = False


def found(reservation: Reservation | None) -> Reservation:
    """Raises ReservationNotFound."""
    if reservation is None:
        raise ReservationNotFound("No reservation has this id; the answer to the hold gives it.")
    return reservation


def owned(reservation: Reservation | None, admission: Admission, now_ms: int, user: int | None = None) -> Reservation:
    """The reservation, if the ticket made it (and for `user`, where one is named).

    A ticket whose visit is over sees only what it made, for 24 h after the last change. Raises SessionExpired,
    ReservationNotFound or NotYours.
    """
    is_mine = reservation is not None and reservation.ticket == admission.ticket
    if admission.ended and (reservation is None or not is_mine or now_ms - reservation.updated_ms > REMEMBERED_MS):
        raise SessionExpired("This visit is over; join the line again.")
    reservation = found(reservation)
    if not is_mine or user not in (None, reservation.user):
        raise NotYours("Another ticket or another user made this reservation.")
    return reservation


def first_answer(reservation: Reservation) -> Reservation:
    """The reservation as the answer to its hold gave it, whatever became of it since."""
    return replace(reservation, status="HELD", updated_ms=reservation.created_ms)


def undone(draft: Reservation, refusal: Refusal) -> Reservation:
    """What is filed of a hold that was refused after it had taken a block: dead, its seats to be freed."""
    return replace(draft, status="CANCELLED", owes="free", refusal=refusal)


def begin_payment(known: Reservation | None, attempt: Attempt, seen_count: int, now_ms: int, skew_ms: int) -> Change:
    """Begin `attempt`, or join the one that runs under the same key, or find the reservation paid.

    `seen_count` is how many attempts there were when the call began: an attempt of the same key beyond those is this
    call's own. No new state: nothing began. Raises HoldExpired, RequestInProgress, IdempotencyMismatch, RateLimited.
    """
    reservation = found(known)
    if any(tried.key == attempt.key and tried.body_digest != attempt.body_digest for tried in reservation.attempts):
        raise IdempotencyMismatch(OTHER_BODY)
    last = reservation.attempts[-1] if reservation.attempts else None
    is_own = last is not None and last.key == attempt.key
    if reservation.status == "CONFIRMED" or (is_own and last is not None and last.outcome == "completed"):
        return Decision(Step(reservation))  # whatever became of it since, the payment was answered
    if reservation.is_dead:
        raise HoldExpired
    if is_own and (reservation.status == "PAYING" or len(reservation.attempts) > seen_count):
        return Decision(Step(reservation))
    if reservation.status == "PAYING" or len(reservation.attempts) > seen_count:
        raise RequestInProgress("Another payment of this reservation is running; ask again.", retry_after_s=1)
    if lapsed(reservation.expires_ms, now_ms, skew_ms):
        raise HoldExpired
    if len(reservation.attempts) >= ATTEMPTS_MAX:
        raise RateLimited(f"This reservation was paid for {ATTEMPTS_MAX} times in vain; hold the seats anew.")
    begun = replace(
        reservation,
        status="PAYING",
        updated_ms=now_ms,
        attempts=(*reservation.attempts, replace(attempt, n=len(reservation.attempts) + 1)),
    )
    return Decision(Step(begun, "PAYING"), begun, [_requested(begun, now_ms)])


def is_paid(reservation: Reservation, n: int) -> bool:
    """True when attempt `n` has charged, False while nobody knows. Raises NotEnoughPoints or HoldExpired."""
    attempt = reservation.attempt(n)
    if attempt is not None and attempt.outcome == "completed":
        return True
    if attempt is not None and attempt.outcome == "declined":
        raise NotEnoughPoints(reservation.amount)
    if reservation.is_dead:
        raise HoldExpired
    return False


def completed(known: Reservation | None, n: int, now_ms: int) -> Change:
    """The wallet charged attempt `n`. One that nobody waits for any more is called off: the points go back. One that is
    being called off already is asked about again only when the wallet is silent."""
    reservation = found(known)
    if reservation.is_running(n, "PAYING"):
        after = _settled(reservation, "completed", now_ms, status="CONFIRMED", owes="sell")
        told = ReservationConfirmed(
            after.id, n, after.user, after.ticket, room=after.room, sequence=after.sequence, at_ms=now_ms
        )
        return Decision(Step(after, "CONFIRMED"), after, [told])
    if reservation.is_running(n, "CONFIRMED") or reservation.is_running(n, "CANCELLING"):
        return Decision(Step(reservation))
    return Decision(Step(reservation), None, [_cancelled(reservation, n, now_ms)])


def declined(known: Reservation | None, n: int, now_ms: int, skew_ms: int) -> Change:
    """The balance did not allow attempt `n`. The seats stay pinned; the reservation's own expiry decides."""
    reservation = found(known)
    if not reservation.is_running(n, "PAYING"):
        return called_off(reservation, n, now_ms)
    told: list[object] = [ReservationPaymentDeclined(reservation.id, n, reservation.user, now_ms)]
    if not lapsed(reservation.expires_ms, now_ms, skew_ms):
        held = _settled(reservation, "declined", now_ms, status="HELD", owes=None)
        return Decision(Step(held, "HELD"), held, told)
    expired = _settled(reservation, "declined", now_ms, status="EXPIRED", owes="free")
    told.append(ReservationExpired(reservation.id, n, reservation.user, now_ms))
    return Decision(Step(expired, "EXPIRED"), expired, told)


def called_off(known: Reservation | None, n: int, now_ms: int) -> Change:
    """Attempt `n` is void, refunded, or was declined: nothing is charged any more."""
    reservation = found(known)
    if reservation.is_running(n, "REFUNDING"):
        after = replace(reservation, status="REFUNDED", updated_ms=now_ms)
        return Decision(Step(after, "REFUNDED"), after, [ReservationCancelled(after.id, n, after.user, now_ms)])
    if not reservation.is_running(n, "CANCELLING"):
        return Decision(Step(reservation))
    after = _settled(reservation, "cancelled", now_ms, status="CANCELLED", owes=reservation.owes)
    told = ReservationCancelled(after.id, n, after.user, now_ms)
    return Decision(Step(after, "CANCELLED"), after, [told])


def cancel(known: Reservation | None, now_ms: int) -> Change:
    """Give the seats back. One that has ended stays as it is. Raises RequestInProgress, AlreadyPaid."""
    reservation = found(known)
    if reservation.status == "PAYING":
        raise RequestInProgress("A payment of this reservation is running; wait for its outcome.", retry_after_s=1)
    if reservation.status == "CONFIRMED":
        raise AlreadyPaid("Paid reservations are not cancelled here.")
    if reservation.status != "HELD":
        return Decision(Step(reservation))
    after = replace(reservation, status="CANCELLED", owes="free", updated_ms=now_ms)
    told = ReservationCancelled(after.id, len(after.attempts), after.user, now_ms)
    return Decision(Step(after, "CANCELLED"), after, [told])


def refund(known: Reservation | None, now_ms: int) -> Change:
    """Give the points of a paid reservation back, and its seats to others; the payment stays what it was, completed.
    One whose refund has begun stays as it is. Raises NotPaid, RequestInProgress."""
    reservation = found(known)
    if reservation.status in ("REFUNDING", "REFUNDED"):
        return Decision(Step(reservation))
    if reservation.status != "CONFIRMED":
        raise NotPaid("Only a confirmed reservation can be refunded.")
    if reservation.owes is not None:
        raise RequestInProgress("Its seats are being sold; ask again.", retry_after_s=1)
    after = replace(_asked_again(reservation, now_ms), status="REFUNDING", owes="free", updated_ms=now_ms)
    return Decision(Step(after, "REFUNDING"), after, [_cancelled(after, after.attempts[-1].n, now_ms)])


def swept(known: Reservation | None, now_ms: int, skew_ms: int) -> Change:
    """What time asks of a reservation: expire a hold, call an overdue attempt off, ask a silent wallet again.
    Several sweepers may come by: whoever is late finds nothing to do."""
    reservation = found(known)
    if reservation.status == "HELD" and lapsed(reservation.expires_ms, now_ms, skew_ms):
        after = replace(reservation, status="EXPIRED", owes="free", updated_ms=now_ms)
        told = ReservationExpired(after.id, len(after.attempts), after.user, now_ms)
        return Decision(Step(after, "EXPIRED"), after, [told])
    if reservation.status not in ("PAYING", "CANCELLING", "REFUNDING"):
        return Decision(Step(reservation))
    running = reservation.attempts[-1]
    if reservation.status == "PAYING" and now_ms >= running.deadline_ms:
        after = replace(_asked_again(reservation, now_ms), status="CANCELLING", owes="free", updated_ms=now_ms)
        return Decision(Step(after, "CANCELLING"), after, [_cancelled(after, running.n, now_ms)])
    if now_ms < reservation.asks_again_ms:
        return Decision(Step(reservation))
    after = _asked_again(reservation, now_ms)
    is_paying = reservation.status == "PAYING"
    asked = _requested(after, now_ms) if is_paying else _cancelled(after, running.n, now_ms)
    return Decision(Step(after, resent=True), after, [asked])


def discharged(known: Reservation | None, owed: str | None) -> Decision[Reservation, None]:
    """What was owed is done."""
    reservation = found(known)
    return Decision(None, replace(reservation, owes=None) if owed and reservation.owes == owed else None)


def _settled(
    reservation: Reservation,
    outcome: Outcome,
    now_ms: int,
    *,
    status: ReservationStatus,
    owes: Literal["free", "sell"] | None,
) -> Reservation:
    last = replace(reservation.attempts[-1], outcome=outcome, settled_ms=now_ms)
    attempts = (*reservation.attempts[:-1], last)
    return replace(reservation, status=status, owes=owes, updated_ms=now_ms, attempts=attempts)


def _asked_again(reservation: Reservation, now_ms: int) -> Reservation:
    last = replace(reservation.attempts[-1], sent_ms=now_ms)
    return replace(reservation, attempts=(*reservation.attempts[:-1], last))


def _requested(reservation: Reservation, now_ms: int) -> PaymentRequested:
    n = reservation.attempts[-1].n
    return PaymentRequested(reservation.id, n, reservation.user, reservation.amount, now_ms)


def _cancelled(reservation: Reservation, n: int, now_ms: int) -> PaymentCancelled:
    return PaymentCancelled(reservation.id, n, reservation.user, reservation.amount, now_ms)
