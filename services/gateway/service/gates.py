"""How many calls of a class a service is given at a time: as many as it answers within the time meant for the class.

One gate per service and class, so that a slow service takes its own routes along and nothing else. While answers are in
time a gate is as wide as the gateway itself: a crowd that comes at once waits a moment and is served. When the answers
of a tenth of a second took longer on average than meant, there is a standing queue, and the gate closes to what would
have come in time (Little's law: calls in flight = calls per second x seconds each); then it opens again step by step.

What people can do without is meant to be faster, so where all services share a machine reads give way first, then the
line, then holds. Payments take what time they take: only the slots bound them. However slow a service is, a gate never
closes below `OPEN_MIN`: who sees no seats buys none.
"""

from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import TypeVar

from prometheus_client import Counter

from libs.common.clock import Clock
from libs.common.contract.operation import Priority
from libs.common.errors import Overloaded

MEANT_S = {Priority.READ: 0.4, Priority.POLL: 0.5, Priority.HOLD: 0.6, Priority.PAYMENT: inf}
"""The time an answer of a class may take on average before the gate begins to close."""

T = TypeVar("T")

LOOK_S = 0.1
LOOK_COUNT_MIN = 5
"""Answers that make an average; fewer say nothing."""

OPEN_MIN = 40
GROWTH_FULL, GROWTH_FREE = 1.1, 1.5
"""How much wider after a tenth of a second in time: with care while people wait outside, else at once."""


class Gate:
    """The gate of one class at one service. `open` is how many may be through it at a time."""

    def __init__(self, meant_s: float, open_max: int, clock: Clock, shed: Counter) -> None:
        self.in_flight = 0
        self.open = float(open_max)
        self._meant_s = meant_s
        self._open_max = float(open_max)
        self._clock = clock
        self._shed = shed
        self._looked_s = 0.0
        self._answers = 0
        self._took_s = 0.0
        self._was_full = False

    @property
    def is_full(self) -> bool:
        return self.in_flight >= self.open

    async def let_through(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call, if there is room for it. Raises Overloaded, and what the call raises."""
        if self.is_full:
            self.note_refusal()
            raise Overloaded("This takes longer than it should; try again in a moment.", retry_after_s=1)
        self.in_flight += 1
        began_s = self._clock.monotonic_s()
        try:
            answer = await call()
            # Only answers count: a call that fails says nothing about a queue, and is the breaker's business.
            self._count(began_s)
            return answer
        finally:
            self.in_flight -= 1

    def note_refusal(self) -> None:
        """Somebody was turned away because the gate is full."""
        self._was_full = True
        self._shed.inc()

    def _count(self, began_s: float) -> None:
        now_s = self._clock.monotonic_s()
        self._answers += 1
        self._took_s += now_s - began_s
        if now_s - self._looked_s >= LOOK_S and self._answers >= LOOK_COUNT_MIN:
            self._look(now_s)

    def _look(self, now_s: float) -> None:
        average_s = self._took_s / self._answers
        if average_s > self._meant_s:
            in_time = self.in_flight * self._meant_s / average_s
            self.open = max(float(min(OPEN_MIN, self._open_max)), min(self.open, in_time))
        else:
            growth = GROWTH_FULL if self._was_full else GROWTH_FREE
            self.open = min(self._open_max, self.open * growth)
        self._looked_s, self._answers, self._took_s, self._was_full = now_s, 0, 0.0, False


class Gates:
    """The gates of all services, made when first asked for: by services and classes, which are few."""

    def __init__(self, open_max: int, clock: Clock, shed: Mapping[Priority, Counter]) -> None:
        self._open_max = open_max
        self._clock = clock
        self._shed = shed
        self._gates: dict[tuple[str, Priority], Gate] = {}

    def of(self, service: str, priority: Priority) -> Gate:
        """The gate of a class at a service."""
        gate = self._gates.get((service, priority))
        if gate is None:
            gate = Gate(MEANT_S[priority], self._open_max, self._clock, self._shed[priority])
            self._gates[service, priority] = gate
        return gate
