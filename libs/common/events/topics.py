"""The topics: what travels where. Adapters read retention here; `docs` and the broker's provisioning do too."""

from dataclasses import dataclass

QUEUE_LINE = "queue.line.v1"
QUEUE_SESSION = "queue.session.v1"
RESERVATION_SEATS = "reservation.seats.v1"
RESERVATION_PAYMENTS = "reservation.payments.v1"
RESERVATION_OUTCOMES = "reservation.outcomes.v1"
WALLET_PAYMENTS = "wallet.payments.v1"
CATALOG_SCHEDULES = "catalog.schedules.v1"


LISTEN_RETENTION_MS = 10 * 60 * 1000
"""How long a topic without groups keeps its messages."""

GROUP_RETENTION_MS = 7 * 24 * 60 * 60 * 1000
"""The same for one with groups, on a broker that trims by age alone: longer than a group may ever be away."""


@dataclass(frozen=True, slots=True)
class Topic:
    """`groups` finish their messages before those are trimmed; a topic that is only listened to is trimmed by age.

    The rest is for brokers that split and copy a topic. Instances of a group beyond `partitions` have nothing to do. Of
    a `compacted` topic the newest message of each key is kept for good. A publish counts once `insync_count_min` copies
    have it, or all of them where there are fewer.
    """

    name: str
    key: str
    groups: tuple[str, ...] = ()
    partitions: int = 12
    compacted: bool = False
    insync_count_min: int = 2

    @property
    def retention_ms(self) -> int:
        """How long messages are kept where only their age is known."""
        return GROUP_RETENTION_MS if self.groups else LISTEN_RETENTION_MS


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(QUEUE_LINE, "room", partitions=3),
        Topic(QUEUE_SESSION, "ticket"),
        Topic(RESERVATION_SEATS, "schedule"),
        Topic(RESERVATION_PAYMENTS, "user", groups=("wallet",)),
        Topic(WALLET_PAYMENTS, "reservation", groups=("reservation",)),
        Topic(RESERVATION_OUTCOMES, "reservation", groups=("queue",)),
        Topic(CATALOG_SCHEDULES, "schedule", groups=("reservation",), partitions=3, compacted=True),
    )
}
