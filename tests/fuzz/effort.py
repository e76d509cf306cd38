"""How much is tried, and from which seed: the same seed and budget try the same inputs in the same order.

    FUZZ_BUDGET_S   seconds of trying, shared out among the suites; the sample of `make check` by default
    FUZZ_SEED       where the search begins; a failure names the seed of its round

A search goes round by round, each from a seed of its own, until its share of the time is spent. One round is always
whole, so that a slow machine tries less, but never nothing.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

BUDGET_S = float(os.environ.get("FUZZ_BUDGET_S", "6"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
SEEDS_PER_RUN = 1_000_000

TRIED: Counter[str] = Counter()
"""Inputs by suite, for the report."""

REPORT: list[str] = []
"""Figures that a run found out, one line each."""

OVERLOADED: Counter[str] = Counter()
"""503 with Retry-After by suite: the one 5xx that may be real."""

QUIET = settings(
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
"""Nothing is kept on disk and nothing is timed: a seed says it all."""


def search(suite: str, claim: Callable[[T], None], inputs: SearchStrategy[T], *, share: float, examples: int) -> None:
    """Try `claim` on `inputs`, so many a round, for a share of the budget. A failure says how to see it again."""
    ends_s = time.monotonic() + share * BUDGET_S
    number = SEED * SEEDS_PER_RUN
    while True:
        try:
            seed(number)(settings(QUIET, max_examples=examples)(given(inputs)(counted(suite, claim))))()
        except BaseException as wrong:
            wrong.add_note(f"round {number - SEED * SEEDS_PER_RUN} of {suite}: see it again with FUZZ_SEED={SEED}")
            raise
        number += 1
        if time.monotonic() >= ends_s:
            return


def counted(suite: str, claim: Callable[[T], None]) -> Callable[[T], None]:
    """`claim`, with each input counted."""

    def tried(value: T) -> None:
        TRIED[suite] += 1
        claim(value)

    return tried


def percentile(latencies_s: list[float], share: float) -> float:
    """In milliseconds; 0.99 is the p99."""
    ranked = sorted(latencies_s)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))] * 1000
