"""Events in: the wallet's answers, what the copies of this service settled, and schedules that go on sale."""

from libs.common.events.catalog import SchedulePublished
from libs.common.events.reservation import (
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationPaymentDeclined,
)
from libs.common.events.topics import CATALOG_SCHEDULES, RESERVATION_OUTCOMES, WALLET_PAYMENTS
from libs.common.events.wallet import PaymentCompleted, PaymentDeclined, PaymentRefunded, PaymentVoided
from libs.common.messaging.consuming import Listening, Subscription
from libs.common.messaging.dispatch import dispatcher
from services.reservation.service import ReservationService


def consumed_by(service: ReservationService) -> list[Subscription | Listening]:
    """Everything this room hears, and who handles it."""

    async def on_payment_completed(event: PaymentCompleted) -> None:
        await service.settling.completed(event.reservation, event.attempt)

    async def on_payment_declined(event: PaymentDeclined) -> None:
        await service.settling.declined(event.reservation, event.attempt)

    async def on_payment_called_off(event: PaymentVoided | PaymentRefunded) -> None:
        await service.settling.called_off(event.reservation, event.attempt)

    async def on_schedule_published(event: SchedulePublished) -> None:
        await service.reading.warm(event.schedule)

    async def on_reservation_confirmed(event: ReservationConfirmed) -> None:
        service.settling.heard_confirmed(event.reservation, event.ticket, event.user, is_static=event.room is None)

    async def on_reservation_declined(event: ReservationPaymentDeclined) -> None:
        service.settling.heard_declined(event.reservation)

    async def on_reservation_ended(event: ReservationCancelled | ReservationExpired) -> None:
        service.settling.heard(event.reservation)

    payments = dispatcher(
        {
            PaymentCompleted: on_payment_completed,
            PaymentDeclined: on_payment_declined,
            PaymentVoided: on_payment_called_off,
            PaymentRefunded: on_payment_called_off,
        }
    )
    outcomes = dispatcher(
        {
            ReservationConfirmed: on_reservation_confirmed,
            ReservationPaymentDeclined: on_reservation_declined,
            ReservationCancelled: on_reservation_ended,
            ReservationExpired: on_reservation_ended,
        }
    )
    return [
        Listening(RESERVATION_OUTCOMES, outcomes, service.settling.missed),
        Subscription(WALLET_PAYMENTS, "reservation", payments),
        Subscription(CATALOG_SCHEDULES, "reservation", dispatcher({SchedulePublished: on_schedule_published})),
    ]
