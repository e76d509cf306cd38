"""What the reservation counts.

Holds by outcome show how the sale goes (`SEAT_TAKEN` is the crowd, not a fault). Reservations by status entered show
where they end; `CANCELLING` rising is the wallet not answering. Resends and due reservations rise when events or
sweepers are late; a seat that cannot be sold after its payment must never be seen.
"""

from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from libs.common.contract.reservation import ReservationStatus
from libs.common.metrics import LATENCY_BUCKETS_S, CommonMetrics

HOLD_OUTCOMES = ("held", "replayed", "SEAT_TAKEN", "TOO_MANY_SEATS", "refused")


class ReservationMetrics(CommonMetrics):
    """The common series and the sale's own."""

    def __init__(self) -> None:
        super().__init__("reservation")
        registry = self.registry
        holds = Counter("stagedoor_reservation_holds_total", "Holds by outcome", ["outcome"], registry=registry)
        self.holds = {outcome: holds.labels(outcome) for outcome in HOLD_OUTCOMES}
        self.conflicts = Counter(
            "stagedoor_reservation_conflicting_seats_total",
            "Seats that were asked for and taken",
            registry=registry,
        )
        entered = Counter(
            "stagedoor_reservation_status_entered_total",
            "Reservations that entered a status",
            ["status"],
            registry=registry,
        )
        self.entered = {status: entered.labels(status) for status in get_args(ReservationStatus)}
        self.settle_seconds = Histogram(
            "stagedoor_reservation_settle_seconds",
            "Time from the begin of a payment attempt to its outcome",
            buckets=(*LATENCY_BUCKETS_S, 10.0, 30.0, 60.0),
            registry=registry,
        )
        self.waiting = Gauge(
            "stagedoor_reservation_waiting_callers", "Calls that wait for the outcome of a payment", registry=registry
        )
        self.due = Gauge(
            "stagedoor_reservation_due_reservations",
            "Reservations the last sweep found due: lapsed, overdue, or owing their seats something",
            registry=registry,
        )
        self.resends = Counter(
            "stagedoor_reservation_resends_total", "Times the wallet was asked again", registry=registry
        )
        self.wallet_silent = Gauge(
            "stagedoor_reservation_wallet_silent",
            "1 while payments are refused because the wallet let a whole deadline pass without a word",
            registry=registry,
        )
        self.lapsed_seats = Counter(
            "stagedoor_reservation_lapsed_seats_total", "Seats a sweeper found lapsed and freed", registry=registry
        )
        self.unsold_seats = Counter(
            "stagedoor_reservation_unsold_seats_total",
            "Paid seats that were no longer the reservation's: a broken invariant",
            registry=registry,
        )
