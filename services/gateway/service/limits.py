"""What is refused early, so that what is let in is answered in time: too many at once, and too many from one client.

Both are counted in this process only. Two gateways let a client have twice its rate, which is the lesser evil: a
shared counter would put a call to Redis before every request. How many calls one service is given is in `gates.py`.
"""

from collections import OrderedDict
from types import TracebackType

from prometheus_client import Counter

from libs.common.clock import Clock
from libs.common.contract.operation import Priority
from libs.common.errors import Overloaded, RateLimited
from services.gateway.metrics import GatewayMetrics

SHARES = {Priority.READ: 0.6, Priority.POLL: 0.75, Priority.HOLD: 0.9, Priority.PAYMENT: 1.0}
"""The part of all slots up to which a class is let in: as slots fill, catalog reads go first and payments last."""

BUCKETS_MAX = 100_000
"""Clients remembered by a limit; the one seen longest ago goes first, and starts afresh."""


class Slots:
    """Requests in flight, one number for all classes. `with slots.of(priority):` holds a slot."""

    def __init__(self, in_flight_max: int, metrics: GatewayMetrics) -> None:
        self.in_flight = 0
        self._doors = {
            priority: SlotDoor(self, max(1, int(in_flight_max * SHARES[priority])), metrics.shed[priority])
            for priority in Priority
        }
        metrics.in_flight.set_function(lambda: self.in_flight)

    def of(self, priority: Priority) -> "SlotDoor":
        return self._doors[priority]


class SlotDoor:
    """Lets one class in. Made once and entered by every request, because one object per request adds up."""

    def __init__(self, slots: Slots, in_flight_max: int, shed: Counter) -> None:
        self._slots = slots
        self._in_flight_max = in_flight_max
        self._shed = shed

    @property
    def is_full(self) -> bool:
        return self._slots.in_flight >= self._in_flight_max

    def note_refusal(self) -> None:
        """Somebody was turned away because the slots are full."""
        self._shed.inc()

    def __enter__(self) -> None:
        if self.is_full:
            self.note_refusal()
            raise Overloaded("Too many requests are being worked on; try again in a moment.", retry_after_s=1)
        self._slots.in_flight += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._slots.in_flight -= 1


class RateLimit:
    """A token bucket per client: `burst` requests at once, then `rate_per_s`. A rate of 0 is no limit."""

    def __init__(self, rate_per_s: float, burst: int, clock: Clock, refused: Counter) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._clock = clock
        self._refused = refused
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Take one token of a client. Raises RateLimited when none is left."""
        if not self._rate_per_s:
            return
        now_s = self._clock.monotonic_s()
        tokens, counted_s = self._buckets.get(client, (float(self._burst), now_s))
        tokens = min(float(self._burst), tokens + (now_s - counted_s) * self._rate_per_s)
        if tokens < 1:
            self._refused.inc()
            wait_s = (1 - tokens) / self._rate_per_s
            raise RateLimited("You are sending requests too fast; slow down.", retry_after_s=max(1, round(wait_s)))
        self._buckets[client] = (tokens - 1, now_s)
        self._buckets.move_to_end(client)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
