"""The course of it: warm up, as before, to the peak, far beyond it, and back.

The peak is looked for in steps until so much more is offered for so little more served; its goodput is what the system
can do. `before` and `after` are the same half of it, so that after can be held against before.
"""

from dataclasses import dataclass

from loadtest.overload.figures import goodput_per_s
from loadtest.overload.offering import Offering, Record

WARM_UP_PER_S = 300.0
OVERLOAD_FACTOR = 4.0
STEP_FACTOR, STEPS_MAX = 1.25, 9
GROWN_FACTOR = 1.05
"""A step that serves less than this much more than the best before has not grown; two in a row end the search."""


@dataclass(frozen=True, slots=True)
class Course:
    """How long each phase takes (s), and where the search for the peak begins."""

    step_s: float = 4.0
    before_s: float = 6.0
    overload_s: float = 60.0
    after_s: float = 10.0
    first_step_per_s: float = 1_000.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The records of all phases; `peak_per_s` is goodput."""

    steps: list[Record]
    peak_per_s: float
    before: Record
    overload: Record
    after: Record


async def run(offering: Offering, course: Course) -> Outcome:
    await offering.offer(WARM_UP_PER_S, course.step_s)
    steps = await _to_the_peak(offering, course)
    peak_per_s = max(goodput_per_s(step) for step in steps)
    await offering.offer(peak_per_s / 4, course.step_s)  # a pause, so that `before` has nothing to make up for
    before = await offering.offer(peak_per_s / 2, course.before_s)
    overload = await offering.offer(peak_per_s * OVERLOAD_FACTOR, course.overload_s, waits=False)
    after = await offering.offer(peak_per_s / 2, course.after_s)
    await offering.settle(overload)
    return Outcome(steps, peak_per_s, before, overload, after)


async def _to_the_peak(offering: Offering, course: Course) -> list[Record]:
    steps: list[Record] = []
    best_per_s, stalled, rate_per_s = 0.0, 0, course.first_step_per_s
    while len(steps) < STEPS_MAX and stalled < 2:
        steps.append(await offering.offer(rate_per_s, course.step_s))
        served_per_s = goodput_per_s(steps[-1])
        stalled = 0 if served_per_s > best_per_s * GROWN_FACTOR else stalled + 1
        best_per_s = max(best_per_s, served_per_s)
        rate_per_s *= STEP_FACTOR
    return steps
