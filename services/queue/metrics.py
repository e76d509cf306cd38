"""What the queue counts, per room.

`waiting`, `open`, `unclaimed` and `returning` are those of the room document, so every instance shows the same. What to
watch: `tick_age_seconds` above 10 (nobody is let in), a sum of `leader` other than 1, and `lapsed` growing faster than
half of `admitted` (people are let in and do not come).
"""

from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from libs.common.metrics import CommonMetrics

END_REASONS = ("paid", "left", "expired")
CLAIM_WAIT_BUCKETS_S = (1, 2, 5, 10, 20, 30, 45, 60, 120)


@dataclass(frozen=True, slots=True)
class RoomMetrics:
    """The children of one room."""

    joins: Counter
    admitted: Counter
    lapsed: Counter
    opened: Counter
    ended: dict[str, Counter]
    waiting: Gauge
    open: Gauge
    unclaimed: Gauge
    returning: Gauge
    capacity: Gauge
    wait_estimate_seconds: Gauge
    claim_wait_seconds: Histogram
    leader: Gauge
    fence: Gauge
    tick_age_seconds: Gauge
    head_wait_seconds: Gauge
    held_back: Gauge


class QueueMetrics(CommonMetrics):
    """The common series and the line's own."""

    def __init__(self, room_ids: tuple[int, ...]) -> None:
        super().__init__("queue")
        self._claim_wait = Histogram(
            "stagedoor_queue_claim_wait_seconds",
            "From the first offer to the visit that answers it",
            ["room"],
            buckets=CLAIM_WAIT_BUCKETS_S,
            registry=self.registry,
        )
        self._ended = Counter(
            "stagedoor_queue_sessions_ended_total",
            "Visits that ended, waits that were given up included (paid, left, expired)",
            ["room", "reason"],
            registry=self.registry,
        )
        joins = self._counter("stagedoor_queue_joins_total", "Places given out")
        admitted = self._counter(
            "stagedoor_queue_admitted_total", "Offers made: people let in, some of whom never come"
        )
        lapsed = self._counter("stagedoor_queue_lapsed_total", "Offers nobody answered in time")
        opened = self._counter("stagedoor_queue_sessions_opened_total", "Visits begun")
        waiting = self._gauge("stagedoor_queue_waiting_people", "People in line beyond the watermark")
        open_ = self._gauge("stagedoor_queue_open_sessions", "People inside, as the leader last counted")
        unclaimed = self._gauge(
            "stagedoor_queue_unclaimed_offers", "Offers nobody has answered yet, as the leader last counted"
        )
        returning = self._gauge("stagedoor_queue_returning_people", "People who came after their offer had lapsed")
        capacity = self._gauge("stagedoor_queue_capacity_sessions", "People the room takes at a time")
        estimate = self._gauge(
            "stagedoor_queue_wait_estimate_seconds", "Estimated wait of one who joins now; NaN while nobody can say"
        )
        leader = self._gauge("stagedoor_queue_leader", "1 while this process leads the room")
        fence = self._gauge("stagedoor_queue_fence", "Grows with every change of leader")
        tick_age = self._gauge("stagedoor_queue_tick_age_seconds", "Time since this process last saw the room tick")
        head_wait = self._gauge(
            "stagedoor_queue_head_wait_seconds",
            "How long this process has seen the next one in line wait; 0 while nobody waits",
        )
        held_back = self._gauge(
            "stagedoor_queue_held_back", "1 while nobody is let in by order: paused, or not open yet"
        )
        self.rooms = {
            id_: RoomMetrics(
                joins=joins.labels(id_),
                admitted=admitted.labels(id_),
                lapsed=lapsed.labels(id_),
                opened=opened.labels(id_),
                ended={reason: self._ended.labels(id_, reason) for reason in END_REASONS},
                waiting=waiting.labels(id_),
                open=open_.labels(id_),
                unclaimed=unclaimed.labels(id_),
                returning=returning.labels(id_),
                capacity=capacity.labels(id_),
                wait_estimate_seconds=estimate.labels(id_),
                claim_wait_seconds=self._claim_wait.labels(id_),
                leader=leader.labels(id_),
                fence=fence.labels(id_),
                tick_age_seconds=tick_age.labels(id_),
                head_wait_seconds=head_wait.labels(id_),
                held_back=held_back.labels(id_),
            )
            for id_ in room_ids
        }

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(name, what, ["room"], registry=self.registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(name, what, ["room"], registry=self.registry)
