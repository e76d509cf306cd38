"""Events in: what the reservation service asks of the wallet."""

from libs.common.events.reservation import PaymentCancelled, PaymentRequested
from libs.common.messaging.dispatch import dispatcher
from libs.common.messaging.ports import Handler
from services.wallet.service import WalletService


def payments_handler(service: WalletService) -> Handler:
    """The handler of `reservation.payments.v1`."""

    async def on_payment_requested(event: PaymentRequested) -> None:
        await service.pay(event.reservation, event.attempt, event.user, event.amount, asked_ms=event.at_ms)

    async def on_payment_cancelled(event: PaymentCancelled) -> None:
        await service.cancel(event.reservation, event.attempt, event.user, asked_ms=event.at_ms)

    return dispatcher({PaymentRequested: on_payment_requested, PaymentCancelled: on_payment_cancelled})
