"""From records to figures: what was served in time, what was refused and how fast, and when all was as before."""

from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.overload.mix import BROWSING, CHARGE, HOLD, JOIN, KINDS, PAY, POLL
from loadtest.overload.offering import REFUSED, SERVED, Record

IN_TIME_S = 1.0
BUCKET_S = 0.5
NORMAL_BUCKETS = 4
"""So many half seconds in a row have to be as before."""

NORMAL_FACTOR, NORMAL_MARGIN_MS = 2.0, 20.0
"""As before: a p95 of at most twice that of before, or 20 ms more. Half a second's p95 is of some hundred requests."""

CLASSES = {"browse": BROWSING, "join": (JOIN,), "hold": (HOLD,), "poll": (POLL,), "pay": (CHARGE, PAY)}
"""In the order in which they are to be refused."""


@dataclass(frozen=True, slots=True)
class KindFigures:
    """One kind in one phase; times in ms, NaN where there were none."""

    kind: str
    offered: int
    refused_share: float
    served_p50_ms: float
    served_p99_ms: float
    refused_p50_ms: float
    refused_p99_ms: float


def goodput_per_s(record: Record) -> float:
    """Wanted answers within a second of when they were meant to be asked for, per second of the phase."""
    took = zip(record.outcomes, record.took_s, strict=True)
    return sum(outcome == SERVED and took_s <= IN_TIME_S for outcome, took_s in took) / record.seconds


def refused_p99_ms(record: Record, from_s: float = 0.0) -> float:
    """Of the refusals of what was due later than so many seconds after the begin."""
    rows = zip(record.due_s, record.outcomes, record.took_s, strict=True)
    return quantile_ms([took_s for due_s, what, took_s in rows if what == REFUSED and due_s >= from_s], 0.99)


def refused_shares(record: Record) -> dict[str, float]:
    """The refused share of each class, in the order in which they are to be refused."""
    return {name: _refused_share(record, kinds) for name, kinds in CLASSES.items()}


def by_kind(record: Record) -> Iterator[KindFigures]:
    for kind, name in enumerate(KINDS):
        served, refused = _took(record, (kind,), SERVED), _took(record, (kind,), REFUSED)
        yield KindFigures(
            name,
            record.kinds.count(kind),
            _refused_share(record, (kind,)),
            quantile_ms(served, 0.5),
            quantile_ms(served, 0.99),
            quantile_ms(refused, 0.5),
            quantile_ms(refused, 0.99),
        )


def seconds_until_normal(record: Record, before: Record) -> float:
    """When people were served as before, counted from the begin of the phase: as fast, and nobody refused.
    Infinite when they were not by its end."""
    usual_ms = quantile_ms(_took(before, range(len(KINDS)), SERVED), 0.95)
    bound_ms = max(usual_ms * NORMAL_FACTOR, usual_ms + NORMAL_MARGIN_MS)
    buckets: list[list[float]] = [[] for _ in range(int(record.seconds / BUCKET_S) + 1)]
    clean = [True] * len(buckets)
    for due_s, took_s, outcome in zip(record.due_s, record.took_s, record.outcomes, strict=True):
        bucket = int(due_s / BUCKET_S)
        buckets[bucket].append(took_s)
        clean[bucket] &= outcome == SERVED
    normal = 0
    for number, (took, is_clean) in enumerate(zip(buckets, clean, strict=True)):
        normal = normal + 1 if took and is_clean and quantile_ms(took, 0.95) <= bound_ms else 0
        if normal == NORMAL_BUCKETS:
            return (number + 1 - NORMAL_BUCKETS) * BUCKET_S
    return float("inf")


def quantile_ms(took_s: list[float], share: float) -> float:
    """In milliseconds; NaN of nothing."""
    ranked = sorted(took_s)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))] * 1000 if ranked else float("nan")


def _took(record: Record, kinds: range | tuple[int, ...], outcome: int) -> list[float]:
    rows = zip(record.kinds, record.outcomes, record.took_s, strict=True)
    return [took_s for kind, what, took_s in rows if what == outcome and kind in kinds]


def _refused_share(record: Record, kinds: tuple[int, ...]) -> float:
    outcomes = [what for kind, what in zip(record.kinds, record.outcomes, strict=True) if kind in kinds]
    return outcomes.count(REFUSED) / max(1, len(outcomes))
