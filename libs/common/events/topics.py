"""The topics: what travels where. Adapters read retention here; `docs` and the broker's provisioning do too."""

from dataclasses import dataclass

QUEUE_LINE = "queue.line.v1"
QUEUE_SESSION = "queue.session.v1"
RESERVATION_SEATS = "reservation.seats.v1"
RESERVATION_PAYMENTS = "reservation.payments.v1"
RESERVATION_OUTCOMES = "reservation.outcomes.v1"
WALLET_PAYMENTS = "wallet.payments.v1"
CATALOG_SCHEDULES = "catalog.schedules.v1"


@dataclass(frozen=True, slots=True)
class Topic:
    """`groups` finish their messages before those are trimmed; a topic that is only listened to is trimmed by age."""

    name: str
    key: str
    groups: tuple[str, ...] = ()


LISTEN_RETENTION_MS = 10 * 60 * 1000
"""How long a topic without groups keeps its messages."""

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(QUEUE_LINE, "room"),
        Topic(QUEUE_SESSION, "ticket"),
        Topic(RESERVATION_SEATS, "schedule"),
        Topic(RESERVATION_PAYMENTS, "user", groups=("wallet",)),
        Topic(WALLET_PAYMENTS, "reservation", groups=("reservation",)),
        Topic(RESERVATION_OUTCOMES, "reservation", groups=("queue",)),
        Topic(CATALOG_SCHEDULES, "schedule", groups=("reservation",)),
    )
}
