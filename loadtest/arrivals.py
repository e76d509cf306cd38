"""Iterations that begin at a rate, whatever the system does: k6's arrival-rate executor, without any I/O.

When each start is due follows from the stages alone. Whoever drives this asks at that moment for the starts that are
due; each takes an idle user. Users are made beforehand, more of them up to a maximum when all are busy; where even that
is not enough, the start is dropped and counted, never put off: a queue of starts would hide what people wait.
A start that comes late because the generator itself was held up keeps the time at which it was due.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Ramp:
    """In `seconds`, in a straight line from the rate before to `rate_per_s`."""

    seconds: float
    rate_per_s: float


@dataclass(frozen=True, slots=True)
class Start(Generic[U]):
    """One start: when it was due (s after the begin), and the user who makes it, None where it was dropped."""

    due_s: float
    user: U | None


def due_times(ramps: Sequence[Ramp]) -> Iterator[float]:
    """Seconds after the begin at which iterations are due: the n-th where the area under the rate reaches n."""
    began_s, before, area, number = 0.0, 0.0, 0.0, 0
    for ramp in ramps:
        slope = (ramp.rate_per_s - before) / ramp.seconds
        whole = ramp.seconds * (before + ramp.rate_per_s) / 2
        while number < area + whole:
            yield began_s + _when(number - area, before, slope)
            number += 1
        began_s, before, area = began_s + ramp.seconds, ramp.rate_per_s, area + whole


def offered_until(ramps: Sequence[Ramp], at_s: float) -> float:
    """How many iterations are due by then."""
    began_s, before, area = 0.0, 0.0, 0.0
    for ramp in ramps:
        within_s = min(max(at_s - began_s, 0.0), ramp.seconds)
        slope = (ramp.rate_per_s - before) / ramp.seconds
        area += within_s * (before + slope * within_s / 2)
        began_s, before = began_s + ramp.seconds, ramp.rate_per_s
    return area


def _when(area: float, rate: float, slope: float) -> float:
    """The t at which rate · t + slope · t² / 2 reaches the area."""
    if area <= 0:
        return 0.0
    # The form of the root that stays exact when the slope is next to nothing.
    return 2 * area / (rate + math.sqrt(max(0.0, rate * rate + 2 * slope * area)))


def share(count: int, part: int, of: int) -> int:
    """How many of `count` users the process number `part` has, so that all of them together have all."""
    return count // of + (part < count % of)


class Pool(Generic[U]):
    """Users by whether they are free: `ready` of them from the begin, never more than `count_max`."""

    def __init__(self, make: Callable[[], U], ready: int, count_max: int) -> None:
        self._make = make
        self._count_max = count_max
        self._idle = [make() for _ in range(min(ready, count_max))]
        self._made = len(self._idle)

    def take(self) -> U | None:
        if self._idle:
            return self._idle.pop()
        if self._made == self._count_max:
            return None
        self._made += 1
        return self._make()

    def give_back(self, user: U) -> None:
        self._idle.append(user)


class Arrivals(Generic[U]):
    """The starts of one process: of all that are due, every `of`-th, beginning with number `part`."""

    def __init__(self, ramps: Sequence[Ramp], pool: Pool[U], part: int = 0, of: int = 1) -> None:
        self._due = (due for number, due in enumerate(due_times(ramps)) if number % of == part)
        self._pool = pool
        self.next_due_s = next(self._due, None)

    def starts(self, now_s: float) -> Iterator[Start[U]]:
        """All that are due by now, in order."""
        while self.next_due_s is not None and self.next_due_s <= now_s:
            due_s, self.next_due_s = self.next_due_s, next(self._due, None)
            yield Start(due_s, self._pool.take())
