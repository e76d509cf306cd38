"""What an engine gives, whichever it is."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from loadtest.errors import CannotRun
from loadtest.plan import Plan

SAMPLE_S = 2.0
"""Length of a sample."""

STOP_TIMEOUT_S = 60.0
"""What a generator gets to end once it was asked to; then it is killed."""


class EngineMissing(CannotRun):
    """This machine lacks the engine; the sentence says how to get it."""


class EngineFailed(CannotRun):
    """The engine ended without a result; the sentence says what it said."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen in one stretch of a run that ends `at_s` after its begin. Counts are of this stretch; times in ms,
    NaN where nothing was timed. `intended_p95` counts from when a request was meant to be sent; an engine that cannot
    tell leaves it NaN."""

    at_s: float
    span_s: float
    started: int = 0
    completed: int = 0
    dropped: int = 0
    requests: int = 0
    p50: float = math.nan
    p95: float = math.nan
    p99: float = math.nan
    intended_p95: float = math.nan
    outcomes: int = 0
    refused: int = 0
    failures: int = 0

    @property
    def lost_ratio(self) -> float:
        """Requests that failed or were refused, and starts that were dropped, among all that were tried."""
        tried = self.requests + self.dropped
        return (self.failures + self.refused + self.dropped) / tried if tried else 0.0


@dataclass(slots=True)
class Measured:
    """A whole run. Times in ms by the names of `loadtest.tally.QUANTILES`; `intended` and `late` are empty where the
    engine cannot tell. `broken` names thresholds that the script itself set and that did not hold."""

    counts: Counter[str]
    latency: Mapping[str, float]
    intended: Mapping[str, float] = field(default_factory=dict)
    late: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    broken: Sequence[str] = ()


class Generator(Protocol):
    """A load under way."""

    def is_running(self) -> bool: ...

    def processes(self) -> Mapping[str, psutil.Process]:
        """Its processes by name; each has one core at most to itself, or is said to have."""

    def began_s(self) -> float | None:
        """When the first iteration was due, in s since the epoch; None while that is to come."""

    def samples(self) -> Sequence[Sample]:
        """Those that are complete and were not given before."""

    def stop(self) -> None:
        """Ask it to end before its time."""

    def finish(self) -> Measured:
        """Add up what it saw. One that still runs is asked to end, and killed after `STOP_TIMEOUT_S`. Raises
        EngineFailed."""

    def kill(self) -> None:
        """End whatever is left of it."""


class Engine(Protocol):
    name: str

    def start(self, plan: Plan, url: str, folder: Path) -> Generator:
        """Begin the load. `folder` is for files of its own."""
