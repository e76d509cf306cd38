"""From what people saw to figures: errors by kind, latency by second, recovery. Pure; times in monotonic seconds.

A second is calm when nobody who asked in it met an error, and the slow ones among those who wrote something waited no
longer than before the fault (`patience_s`). One slow second alone, or one without a write, is the machine's; two
in a row are the fault's.
Recovery is the time from the end of the fault to the first second from which on all are calm.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor

from loadtest.buying.client import Seen
from loadtest.buying.crowd import Visit

WRITES = ("hold", "pay", "cancel", "join")
SLOW_FLOOR_S = 0.25
"""Faster than that nobody notices; and on a machine with other work a smaller bound measures that work."""

SLOWER_TIMES = 3.0

GAVE_UP = "gave up: "
TOO_LATE = ("payment CANCELLED", "payment refused: 409 HOLD_EXPIRED", "hold refused: 403 SESSION_EXPIRED")
"""What being kept out explains, beside giving up: a payment that is called off, or begins after its hold is over, and a
hold after the visit's end."""


@dataclass(frozen=True, slots=True)
class Second:
    """All calls that were sent within one second. `at_s` counts from the beginning of the load; latencies are those
    of writes, and None where there were none."""

    at_s: int
    calls: int
    errors: int
    p50_s: float | None
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class Fault:
    """From the first action's start to the last one's end. `actions` are the begin and the end of each from whose end
    recovery counts, in order."""

    began_s: float
    ended_s: float
    actions: Sequence[tuple[float, float]]


def seconds(seen: Iterable[Seen], began_s: float) -> list[Second]:
    """Every second of the load from its first to its last, those without a call too."""
    by_second: dict[int, list[Seen]] = {}
    for call in seen:
        by_second.setdefault(floor(call.at_s - began_s), []).append(call)
    return [_second(at_s, by_second.get(at_s, [])) for at_s in range(max(by_second, default=-1) + 1)]


def _second(at_s: int, calls: Sequence[Seen]) -> Second:
    took = sorted(call.took_s for call in calls if call.what in WRITES)
    errors = sum(call.is_error for call in calls)
    return Second(at_s, len(calls), errors, quantile(took, 0.5), quantile(took, 0.95))


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Of numbers in order; None where there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def patience_s(before: Sequence[Second]) -> float:
    """The longest p95 that still counts as before, from the seconds before the fault."""
    known = sorted(second.p95_s for second in before if second.p95_s is not None)
    return max(SLOW_FLOOR_S, SLOWER_TIMES * (quantile(known, 0.5) or 0.0))


def recovery_s(series: Sequence[Second], end_s: float, until_s: float, patient_s: float) -> float | None:
    """From `end_s` (from the beginning of the load) to the first second from which on all are calm until `until_s`;
    None when the last of them is not."""
    after = [second for second in series if floor(end_s) <= second.at_s < floor(until_s)]
    slow = [second.p95_s is None or second.p95_s > patient_s for second in after]
    last = None
    for place, second in enumerate(after):
        is_slow = slow[place] and any(slow[near] for near in (place - 1, place + 1) if 0 <= near < len(after))
        if second.errors or is_slow:
            last = second.at_s
    if last is None:
        return 0.0
    is_over = last + 1 < floor(until_s)
    return max(0.0, last + 1 - end_s) if is_over else None


def slowest_recovery_s(series: Sequence[Second], fault: Fault, began_s: float, until_s: float) -> float | None:
    """Over all actions of the fault; what people meet from the next one's begin on is its doing."""
    patient_s = patience_s([second for second in series if second.at_s < floor(fault.began_s - began_s)])
    nexts_s = [*(begin_s for begin_s, _ in fault.actions[1:]), until_s]
    found = [
        recovery_s(series, end_s - began_s, next_s - began_s, patient_s)
        for (_, end_s), next_s in zip(fault.actions, nexts_s, strict=True)
    ]
    known = [each for each in found if each is not None]
    return max(known, default=0.0) if len(known) == len(found) else None


def errors_by_kind(seen: Iterable[Seen]) -> dict[str, int]:
    """`hold: 503 DEPENDENCY_DOWN` → how often; the most frequent first."""
    counts = Counter(f"{call.what}: {call.told}" for call in seen if call.is_error)
    return dict(counts.most_common())


@dataclass(frozen=True, slots=True)
class People:
    """How many came, and who went without what they came for: kept out while that may be, and all others."""

    count: int
    failed: list[str]
    failed_meanwhile: list[str]


def people(visits: Sequence[Visit], closed: tuple[float, float] | None) -> People:
    """`closed`: the time (monotonic) in which the fault keeps people from buying; None where it must not. Whoever is
    told anything else than to come later, their own seat being taken, say, has failed at any time."""
    failed: list[str] = []
    meanwhile: list[str] = []
    for visit in visits:
        if visit.why:
            overlaps = closed is not None and visit.began_s <= closed[1] and visit.ended_s >= closed[0]
            is_kept_out = overlaps and (visit.why.startswith(GAVE_UP) or visit.why in TOO_LATE)
            (meanwhile if is_kept_out else failed).append(f"{visit.kind}: {visit.why}")
    return People(len(visits), failed, meanwhile)
