"""The reservation's HTTP interface: who has which seat, and the payment for it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from libs.common.contract.operation import Amount, IsoTime, Model, Operation, PositiveInt, Priority

SEATS_PER_HOLD_MAX = 50

ReservationStatus = Literal[
    "HELD", "PAYING", "CONFIRMED", "CANCELLING", "CANCELLED", "EXPIRED", "REFUNDING", "REFUNDED"
]
PaymentStatus = Literal["PENDING", "COMPLETED", "DECLINED", "CANCELLED"]
SeatState = Literal["free", "held", "paying", "sold"]


def _distinct(seats: list[int]) -> list[int]:
    """The seats, if none is named twice; otherwise each repetition is an error of its own."""
    if len(set(seats)) == len(seats):
        return seats
    again = PydanticCustomError("repeated", "this seat is named before; name each seat once")
    raise ValidationError.from_exception_data(
        "seats",
        [
            InitErrorDetails(type=again, loc=(index,), input=seat)
            for index, seat in enumerate(seats)
            if seat in seats[:index]
        ],
    )


class HoldRequest(Model):
    user_id: PositiveInt
    concert_schedule_id: PositiveInt
    seat_ids: Annotated[
        list[PositiveInt],
        Field(
            min_length=1,
            max_length=SEATS_PER_HOLD_MAX,
            description="distinct seats, taken together or not at all",
            json_schema_extra={"uniqueItems": True},
        ),
        AfterValidator(_distinct),
    ]
    date_time: Annotated[Any, Field(description="ignored; the schedule says when")] = None


class Reservation(Model):
    """A reservation as it stands. `expiresAt` is when the hold ends by itself if it is not paid."""

    id: str
    user_id: PositiveInt
    concert_schedule_id: PositiveInt
    seat_ids: list[PositiveInt]
    status: ReservationStatus
    amount: Annotated[Amount, Field(description="price of the seats in points, by the server")]
    expires_at: IsoTime
    created_at: IsoTime
    updated_at: IsoTime


class PayRequest(Model):
    user_id: PositiveInt
    reservation_id: Annotated[str, Field(min_length=1, max_length=64)]
    token: Annotated[Any, Field(description="ignored; the ticket is in X-Waiting-Token")] = None


class Payment(Model):
    """One attempt to pay a reservation. `createdAt` is when the attempt began."""

    id: Annotated[str, Field(description="<reservation id>-<attempt>")]
    user_id: PositiveInt
    reservation_id: str
    amount: Amount
    status: PaymentStatus
    created_at: IsoTime


class RefundRequest(Model):
    """An operator's order to give the points back. `who` and `why` go to the log."""

    who: Annotated[str, Field(min_length=1, max_length=80, description="who asks for it")]
    why: Annotated[str, Field(min_length=3, max_length=200, description="the reason, one sentence")]


class SeatsQuery(Model):
    schedule: PositiveInt


class TouchedSeats(Model):
    """Every seat of a schedule that anybody ever held, free again ones too."""

    schedule: PositiveInt
    seats: Annotated[
        list[tuple[int, int, SeatState]],
        Field(description="[seat, n, state]; n grows at every change of owner, freeing included"),
    ]


HOLD_SEATS = Operation(
    "holdSeats", "reservation", "POST", "/api/v1/concert/reservation", "Hold seats, all or none", success=201,
    body=HoldRequest, answer=Reservation, ticket="inside", priority=Priority.HOLD,
    problems=("WRONG_ROOM", "NOT_YOURS", "SCHEDULE_NOT_FOUND", "SEAT_NOT_FOUND", "SEAT_TAKEN", "TOO_MANY_SEATS",
              "REQUEST_IN_PROGRESS", "IDEMPOTENCY_MISMATCH"),
)  # fmt: skip
READ_RESERVATION = Operation(
    "readReservation", "reservation", "GET", "/api/v1/concert/reservation/{id}", "A reservation as it stands",
    answer=Reservation, ticket="inside-or-ended", priority=Priority.HOLD,
    problems=("NOT_YOURS", "RESERVATION_NOT_FOUND"),
)  # fmt: skip
CANCEL_RESERVATION = Operation(
    "cancelReservation", "reservation", "DELETE", "/api/v1/concert/reservation/{id}", "Give held seats back at once",
    answer=Reservation, ticket="inside", priority=Priority.HOLD,
    problems=("NOT_YOURS", "RESERVATION_NOT_FOUND", "REQUEST_IN_PROGRESS", "ALREADY_PAID"),
)  # fmt: skip
PAY = Operation(
    "payReservation", "reservation", "POST", "/api/v1/payment",
    "Pay a reservation; 202 with Location and Retry-After when the outcome takes longer",
    body=PayRequest, answer=Payment, ticket="inside-or-ended", priority=Priority.PAYMENT, answers_later=True,
    problems=("NOT_YOURS", "RESERVATION_NOT_FOUND", "NOT_ENOUGH_POINTS", "HOLD_EXPIRED", "ALREADY_PAID",
              "REQUEST_IN_PROGRESS", "IDEMPOTENCY_MISMATCH"),
)  # fmt: skip
READ_PAYMENT = Operation(
    "readPayment", "reservation", "GET", "/api/v1/payment/{id}",
    "A payment as it stands; with Retry-After while it is PENDING",
    answer=Payment, ticket="inside-or-ended", priority=Priority.PAYMENT,
    problems=("NOT_YOURS", "RESERVATION_NOT_FOUND"),
)  # fmt: skip
REFUND = Operation(
    "refundReservation", "reservation", "POST", "/internal/v1/reservations/{id}/refund",
    "Give the points of a paid reservation back, and its seats to others",
    body=RefundRequest, answer=Reservation, problems=("RESERVATION_NOT_FOUND", "REQUEST_IN_PROGRESS", "NOT_PAID"),
)  # fmt: skip
READ_SEATS = Operation(
    "readTouchedSeats", "reservation", "GET", "/internal/v1/seats", "State of every seat ever touched",
    query=SeatsQuery, answer=TouchedSeats,
)  # fmt: skip

OPERATIONS = (HOLD_SEATS, READ_RESERVATION, CANCEL_RESERVATION, PAY, READ_PAYMENT, REFUND, READ_SEATS)
