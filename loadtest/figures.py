"""From a run to its figures, from its figures to a verdict.

A figure that this run could not take (no CPU of a system elsewhere, no intended start with k6) is missing, and a
threshold on it is named as not checked. The verdict is one sentence, and an exit code: 0 all holds, 1 something does
not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from loadtest.arrivals import offered_until
from loadtest.engines.ports import Measured, Sample
from loadtest.plan import Plan
from loadtest.profiles import STOP_SAMPLES, Profile, Threshold
from loadtest.watching import Reading, largest

HOLDS, MISSED = 0, 1
KEEPS_UP = (Threshold("started_ratio", at_least=0.99), Threshold("generator_busy", at_most=0.8))
"""A generator that misses one of these fell behind: it did not offer what the profile says."""

AUDIT_HOLDS = Threshold("audit_offences", at_most=0)

BUSY_SPAN = 5
"""Readings over which a generator's core is looked at: ten seconds."""

FIGURES = {
    "offered": "iterations offered",
    "started": "iterations started",
    "dropped": "iterations dropped: no user was free",
    "completed": "iterations completed",
    "interrupted": "iterations cut off at the end",
    "started_ratio": "started of offered",
    "requests": "requests",
    "requests_per_s": "requests per second",
    "p50_ms": "p50, ms",
    "p90_ms": "p90, ms",
    "p95_ms": "p95, ms",
    "p99_ms": "p99, ms",
    "max_ms": "longest, ms",
    "intended_p95_ms": "p95 from the intended start, ms",
    "intended_p99_ms": "p99 from the intended start, ms",
    "late_p99_ms": "p99 of how late an iteration began, ms",
    "last_stage_p95_ms": "p95 in the last stage (median of its samples), ms",
    "outcomes": "refusals that are answers (seat taken, sold out, …)",
    "refused": "requests shed (429, 503)",
    "failures": "failures",
    "failures_ratio": "failures of requests",
    "lost_ratio": "failed, shed or dropped, of all tried",
    "breaks_at_per_s": "iterations/s offered when it broke (the most offered, where it did not)",
    "cpu_ms_per_request": "CPU of the product per request, ms",
    "generator_busy": "busiest ten seconds of the generator's core",
    "rss_growth_mb_per_min": "growth of the product's memory in the second half, MB a minute",
    "outbox_age_max_s": "oldest event not yet published, s",
    "settle_p95_max_s": "worst p95 of a payment's time to settle, s",
    "waiting_max": "longest line, people",
    "inside_max": "most people inside",
    "inside_before_opening": "people inside before the opening",
    "audit_offences": "offences the audit found",
}


@dataclass(slots=True)
class Run:
    """All that was seen of one run. `opened_s`: when the room did, s after the begin. `audit_offences` None: not
    audited. `generator`: names of its processes. `notes` say what was left out, and why."""

    profile: Profile
    plan: Plan
    measured: Measured
    samples: Sequence[Sample]
    readings: Sequence[Reading]
    broke: bool = False
    opened_s: float | None = None
    audit_offences: int | None = None
    generator: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def loops(self) -> bool:
        """Whether users looped, as k6's do where everybody comes once: then nothing was offered."""
        return self.plan.comes_once and not self.measured.late


def figures(run: Run) -> dict[str, float]:
    """By the names of `FIGURES`; what could not be taken is not there."""
    counts = run.measured.counts
    found: dict[str, float] = {
        name: float(counts[name]) for name in ("started", "dropped", "completed", "interrupted", "requests")
    }
    lasted_s = run.samples[-1].at_s if run.broke and run.samples else run.plan.seconds
    if not run.loops:
        # What was cut short may have begun a little more than its last whole sample tells.
        tried = found["started"] + found["dropped"]
        found["offered"] = max(tried, float(round(offered_until(run.plan.ramps, lasted_s))))
        found["started_ratio"] = found["started"] / max(1.0, found["offered"])
    requests = max(1.0, found["requests"])
    found["requests_per_s"] = found["requests"] / max(1.0, sum(s.span_s for s in run.samples if s.requests))
    found |= {f"{name}_ms": value for name, value in run.measured.latency.items()}
    found |= {f"intended_{name}_ms": run.measured.intended[name] for name in ("p95", "p99") if run.measured.intended}
    if run.measured.late:
        found["late_p99_ms"] = run.measured.late["p99"]
    for kind in ("outcomes", "refused", "failures"):
        found[kind] = float(getattr(run.measured, kind).total())
    found["failures_ratio"] = found["failures"] / requests
    lost = found["failures"] + found["refused"] + found["dropped"]
    found["lost_ratio"] = lost / (requests + found["dropped"])
    found |= _by_time(run, lasted_s) | _of_system(run, requests)
    if run.audit_offences is not None:
        found["audit_offences"] = float(run.audit_offences)
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _by_time(run: Run, lasted_s: float) -> dict[str, float]:
    last_began_s = run.plan.seconds - run.plan.ramps[-1].seconds
    last = [s.p95 for s in run.samples if last_began_s < s.at_s - s.span_s / 2 < run.plan.seconds and s.requests]
    found = {"last_stage_p95_ms": median(last)} if last and not run.broke else {}
    if run.profile.stops_at:
        at_s = lasted_s - STOP_SAMPLES * run.samples[-1].span_s if run.broke else lasted_s
        found["breaks_at_per_s"] = rate_at(run.plan, at_s)
    return found


def offered_per_s(plan: Plan, sample: Sample) -> float:
    """Iterations a second offered in the stretch of a sample."""
    until, before = (offered_until(plan.ramps, at_s) for at_s in (sample.at_s, sample.at_s - sample.span_s))
    return (until - before) / sample.span_s


def rate_at(plan: Plan, at_s: float) -> float:
    """Iterations a second offered at a moment."""
    return offered_until(plan.ramps, at_s + 0.5) - offered_until(plan.ramps, at_s - 0.5)


def _of_system(run: Run, requests: float) -> dict[str, float]:
    readings = run.readings
    found = {"generator_busy": _busiest(readings, run.generator)}
    with_system = [reading for reading in readings if reading.series]
    if len(with_system) < 2:
        return found
    first, last = with_system[0], with_system[-1]
    product = [name for name in first.cpu_s if name not in run.generator]
    spent_s = sum(max(0.0, last.cpu_s.get(name, 0.0) - first.cpu_s[name]) for name in product)
    found["cpu_ms_per_request"] = spent_s / requests * 1000
    middle = with_system[len(with_system) // 2]
    grown = sum(last.rss_mb.get(name, 0.0) - middle.rss_mb.get(name, 0.0) for name in product)
    found["rss_growth_mb_per_min"] = grown / max(1.0, last.at_s - middle.at_s) * 60
    found["outbox_age_max_s"] = largest(readings, "outbox_age_s")
    found["settle_p95_max_s"] = largest(readings, "settle_p95_s")
    found["waiting_max"], found["inside_max"] = largest(readings, "waiting"), largest(readings, "inside")
    if run.opened_s is not None:
        before = [r.series["inside"] for r in readings if r.series.get("held_back") and "inside" in r.series]
        found["inside_before_opening"] = max(before, default=math.nan)
    return found


def _busiest(readings: Sequence[Reading], generator: Sequence[str]) -> float:
    """The share of a core of the generator's busiest process in its busiest ten seconds."""
    during = readings[1:]
    span = min(BUSY_SPAN, len(during))
    return max(
        (
            sum(reading.cpu.get(name, 0.0) for reading in during[first : first + span]) / span
            for name in generator
            for first in range(len(during) - span + 1)
            if span
        ),
        default=math.nan,
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """A threshold and what came of it; `value` None: this run has no such figure."""

    threshold: Threshold
    value: float | None

    @property
    def holds(self) -> bool | None:
        return None if self.value is None else self.threshold.holds(self.value)


@dataclass(frozen=True, slots=True)
class Verdict:
    first_line: str
    exit_code: int
    checked: Sequence[Checked]


def judge(run: Run, found: Mapping[str, float]) -> Verdict:
    """What the thresholds say, and whether the generator can be believed."""
    behind = [Checked(threshold, found.get(threshold.figure)) for threshold in KEEPS_UP]
    wanted = [Checked(threshold, found.get(threshold.figure)) for threshold in (*run.profile.thresholds, AUDIT_HOLDS)]
    missed = [_told(each) for each in wanted if each.holds is False]
    missed += [f"the script's own threshold {name}" for name in run.measured.broken]
    said = []
    if any(each.holds is False for each in behind):
        fell = f"the generator fell behind ({'; '.join(_told(each) for each in behind if each.holds is False)})"
        if run.profile.overloads:
            said.append(f"{fell}, as it may under an overload")
        else:
            missed.insert(0, fell)
    if run.profile.stops_at:
        broke = "it broke at" if run.broke else "it did not break up to"
        said.append(f"{broke} {found['breaks_at_per_s']:.0f} iterations/s")
    said.append(f"FAILED: {'; '.join(missed)}" if missed else "passed: every threshold holds")
    return Verdict(". ".join(said), MISSED if missed else HOLDS, [*wanted, *behind])


def _told(each: Checked) -> str:
    return f"{FIGURES[each.threshold.figure]}: {each.value:.4g}, wanted {each.threshold.bound}"
