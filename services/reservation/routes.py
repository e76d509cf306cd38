"""HTTP in: the reservation's operations, each translated into one call of the service."""

from aiohttp.web import Response

from libs.common.clock import iso_utc
from libs.common.contract import reservation as contract
from libs.common.web.endpoints import Call, Endpoint, answer
from services.reservation.domain.reservation import Reservation
from services.reservation.service import ReservationService
from services.reservation.service.holding import Wanted
from services.reservation.service.paying import Payment


async def hold_seats(call: Call[ReservationService]) -> Response:
    body: contract.HoldRequest = call.body
    wanted = Wanted(body.user_id, body.concert_schedule_id, tuple(body.seat_ids))
    reservation, replayed = await call.service.holding.hold(call.admission, wanted, call.key)
    return answer(_reservation(reservation), 201, replayed=replayed)


async def read_reservation(call: Call[ReservationService]) -> Response:
    return answer(_reservation(await call.service.reading.reservation(call.admission, call.params["id"])))


async def cancel_reservation(call: Call[ReservationService]) -> Response:
    return answer(_reservation(await call.service.holding.cancel(call.admission, call.params["id"])))


async def pay(call: Call[ReservationService]) -> Response:
    body: contract.PayRequest = call.body
    payment = await call.service.paying.pay(call.admission, body.user_id, body.reservation_id, call.key)
    told = _payment(payment)
    if told.status == "PENDING":
        location = contract.READ_PAYMENT.path.format(id=told.id)
        return answer(told, 202, location=location, retry_after_s=payment.look_again_s)
    return answer(told, replayed=payment.replayed)


async def read_payment(call: Call[ReservationService]) -> Response:
    payment = await call.service.reading.payment(call.admission, call.params["id"])
    return answer(_payment(payment), retry_after_s=payment.look_again_s)


async def refund(call: Call[ReservationService]) -> Response:
    body: contract.RefundRequest = call.body
    return answer(_reservation(await call.service.settling.refund(call.params["id"], body.who, body.why)))


async def read_seats(call: Call[ReservationService]) -> Response:
    query: contract.SeatsQuery = call.query
    seats = await call.service.reading.touched_seats(query.schedule)
    return answer(contract.TouchedSeats(schedule=query.schedule, seats=seats))


def _reservation(reservation: Reservation) -> contract.Reservation:
    return contract.Reservation(
        id=reservation.id,
        user_id=reservation.user,
        concert_schedule_id=reservation.schedule,
        seat_ids=[seat.seat for seat in reservation.seats],
        status=reservation.status,
        amount=reservation.amount,
        expires_at=iso_utc(reservation.expires_ms),
        created_at=iso_utc(reservation.created_ms),
        updated_at=iso_utc(reservation.updated_ms),
    )


def _payment(payment: Payment) -> contract.Payment:
    reservation, attempt = payment.reservation, payment.attempt
    return contract.Payment(
        id=f"{reservation.id}-{attempt.n}",
        user_id=reservation.user,
        reservation_id=reservation.id,
        amount=reservation.amount,
        status=attempt.status,
        created_at=iso_utc(attempt.began_ms),
    )


ENDPOINTS = (
    Endpoint(contract.HOLD_SEATS, hold_seats),
    Endpoint(contract.READ_RESERVATION, read_reservation),
    Endpoint(contract.CANCEL_RESERVATION, cancel_reservation),
    Endpoint(contract.PAY, pay),
    Endpoint(contract.READ_PAYMENT, read_payment),
    Endpoint(contract.REFUND, refund),
    Endpoint(contract.READ_SEATS, read_seats),
)
