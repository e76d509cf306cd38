"""What a generator counted, in a form that adds up across processes and moments."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

_WIDTH = math.log(1.02)
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "max": 1.0}


@dataclass(slots=True)
class Histogram:
    """Durations in ms, in classes 2 % wide."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, ms: float) -> None:
        self.counts[math.ceil(math.log(max(ms, 0.01)) / _WIDTH)] += 1

    def merge(self, other: "Histogram") -> None:
        self.counts.update(other.counts)

    @property
    def total(self) -> int:
        return self.counts.total()

    def quantile(self, share: float) -> float:
        """The duration that this share does not exceed; NaN where there is none."""
        wanted, seen = share * self.total, 0
        for index, count in sorted(self.counts.items()):
            seen += count
            if seen >= wanted:
                return float(math.exp(index * _WIDTH))
        return math.nan

    def quantiles(self) -> dict[str, float]:
        return {name: self.quantile(share) for name, share in QUANTILES.items()} if self.counts else {}


@dataclass(slots=True)
class Tally:
    """`counts` has iterations (started or dropped, and in the end completed or interrupted) and requests.

    `steps` is the time of each request by its step, `intended` that of all of them counted from the moment at which the
    user meant to send it. Answers that are no plain success are `outcomes` (a seat was taken: people's business),
    `refused` (shed: 429, 503) or `failures`, by step and kind.
    """

    counts: Counter[str] = field(default_factory=Counter)
    steps: dict[str, Histogram] = field(default_factory=dict)
    intended: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def request(self, step: str, took_ms: float, intended_ms: float) -> None:
        self.counts["requests"] += 1
        if step not in self.steps:
            self.steps[step] = Histogram()
        self.steps[step].add(took_ms)
        self.intended.add(intended_ms)

    @property
    def latency(self) -> Histogram:
        merged = Histogram()
        for step in self.steps.values():
            merged.merge(step)
        return merged

    def merge(self, other: "Tally") -> None:
        self.counts.update(other.counts)
        for step, histogram in other.steps.items():
            self.steps.setdefault(step, Histogram()).merge(histogram)
        self.intended.merge(other.intended)
        self.late.merge(other.late)
        self.outcomes.update(other.outcomes)
        self.refused.update(other.refused)
        self.failures.update(other.failures)

    def as_json(self) -> dict[str, Any]:
        return {
            "counts": self.counts,
            "steps": {step: histogram.counts for step, histogram in self.steps.items()},
            "intended": self.intended.counts,
            "late": self.late.counts,
            "outcomes": self.outcomes,
            "refused": self.refused,
            "failures": self.failures,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        def histogram(given: Mapping[str, int]) -> Histogram:
            return Histogram(Counter({int(index): count for index, count in given.items()}))

        return cls(
            counts=Counter(told["counts"]),
            steps={step: histogram(given) for step, given in told["steps"].items()},
            intended=histogram(told["intended"]),
            late=histogram(told["late"]),
            outcomes=Counter(told["outcomes"]),
            refused=Counter(told["refused"]),
            failures=Counter(told["failures"]),
        )


class Drain:
    """A tally that is taken away piece by piece, while others go on counting in it."""

    def __init__(self) -> None:
        self.tally = Tally()

    def take(self) -> Tally:
        taken, self.tally = self.tally, Tally()
        return taken
