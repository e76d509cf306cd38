"""What the wallet tells: the outcome of every payment attempt, each with the attempt it answers."""

from dataclasses import dataclass

from libs.common.events.catalogue import event
from libs.common.events.topics import WALLET_PAYMENTS


@event(WALLET_PAYMENTS, key_field="reservation")
@dataclass(frozen=True, slots=True)
class PaymentCompleted:
    """The attempt was charged: `amount` points left the user's wallet."""

    reservation: str
    attempt: int
    user: int
    amount: int
    at_ms: int


@event(WALLET_PAYMENTS, key_field="reservation")
@dataclass(frozen=True, slots=True)
class PaymentDeclined:
    """The balance did not allow the attempt; nothing was charged."""

    reservation: str
    attempt: int
    user: int
    at_ms: int


@event(WALLET_PAYMENTS, key_field="reservation")
@dataclass(frozen=True, slots=True)
class PaymentVoided:
    """The attempt was called off before it was ever charged; a late request will find this."""

    reservation: str
    attempt: int
    user: int
    at_ms: int


@event(WALLET_PAYMENTS, key_field="reservation")
@dataclass(frozen=True, slots=True)
class PaymentRefunded:
    """The attempt had been charged and its points are back."""

    reservation: str
    attempt: int
    user: int
    amount: int
    at_ms: int
