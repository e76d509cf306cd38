"""What the reservation service tells: who has which seat, what the wallet shall do, and how each reservation ended."""

from dataclasses import dataclass

from libs.common.events.catalogue import event
from libs.common.events.topics import RESERVATION_OUTCOMES, RESERVATION_PAYMENTS, RESERVATION_SEATS


@dataclass(frozen=True, slots=True)
class SeatAt:
    """A seat and the `n` of its ownership: it grows at every change of owner, freeing included."""

    seat: int
    n: int


@event(RESERVATION_SEATS, key_field="schedule")
@dataclass(frozen=True, slots=True)
class SeatsHeld:
    schedule: int
    reservation: str
    seats: tuple[SeatAt, ...]
    at_ms: int


@event(RESERVATION_SEATS, key_field="schedule")
@dataclass(frozen=True, slots=True)
class SeatsReleased:
    schedule: int
    reservation: str
    seats: tuple[SeatAt, ...]
    at_ms: int


@event(RESERVATION_SEATS, key_field="schedule")
@dataclass(frozen=True, slots=True)
class SeatsSold:
    schedule: int
    reservation: str
    seats: tuple[SeatAt, ...]
    at_ms: int


@event(RESERVATION_PAYMENTS, key_field="user")
@dataclass(frozen=True, slots=True)
class PaymentRequested:
    """Charge `amount` points for this attempt, once."""

    reservation: str
    attempt: int
    user: int
    amount: int
    at_ms: int


@event(RESERVATION_PAYMENTS, key_field="user")
@dataclass(frozen=True, slots=True)
class PaymentCancelled:
    """Call this attempt off: void it if it was never charged, refund it if it was."""

    reservation: str
    attempt: int
    user: int
    amount: int
    at_ms: int


@event(RESERVATION_OUTCOMES, key_field="reservation")
@dataclass(frozen=True, slots=True)
class ReservationConfirmed:
    """Paid and sold. `ticket` has done its work; `room` and `sequence` are None for a static ticket."""

    reservation: str
    attempt: int
    user: int
    ticket: str
    room: int | None
    sequence: int | None
    at_ms: int


@event(RESERVATION_OUTCOMES, key_field="reservation")
@dataclass(frozen=True, slots=True)
class ReservationPaymentDeclined:
    """The attempt was declined; the hold stands until its first expiry."""

    reservation: str
    attempt: int
    user: int
    at_ms: int


@event(RESERVATION_OUTCOMES, key_field="reservation")
@dataclass(frozen=True, slots=True)
class ReservationCancelled:
    reservation: str
    attempt: int
    user: int
    at_ms: int


@event(RESERVATION_OUTCOMES, key_field="reservation")
@dataclass(frozen=True, slots=True)
class ReservationExpired:
    reservation: str
    attempt: int
    user: int
    at_ms: int
