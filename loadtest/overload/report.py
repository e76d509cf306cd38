"""The table of an overload, and the bounds it has to keep."""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console
from rich.table import Table

from loadtest.overload.course import Outcome
from loadtest.overload.figures import (
    by_kind,
    goodput_per_s,
    refused_p99_ms,
    refused_shares,
    seconds_until_normal,
)

REFUSED_P99_MS_MAX, GOODPUT_SHARE_MIN, NORMAL_S_MAX = 50.0, 0.9, 5.0
PEAK_FOUND_SHARE_MAX = 1.3
"""More goodput than this under too much: the search ended too early, as it does where others use the machine."""

ONSET_S = 2.0
"""In which the gateway finds out; told apart, and counted."""

ORDER_MARGIN = 0.02
"""Classes that are refused alike are in order."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What was asked for, what was seen, and whether that is enough."""

    claim: str
    seen: str
    holds: bool


def bounds(outcome: Outcome, offences: int | None) -> list[Bound]:
    """Every bound of an overload. `offences` are the auditor's, None when it could not look."""
    share = goodput_per_s(outcome.overload) / outcome.peak_per_s
    p99_ms = refused_p99_ms(outcome.overload)
    later_ms = refused_p99_ms(outcome.overload, ONSET_S)
    normal_s = seconds_until_normal(outcome.after, outcome.before)
    return [
        Bound(f"goodput at least {GOODPUT_SHARE_MIN:.0%} of the peak", f"{share:.0%}", share >= GOODPUT_SHARE_MIN),
        Bound("the peak was found", f"{outcome.peak_per_s:,.0f}/s", share <= PEAK_FOUND_SHARE_MAX),
        # Not "more than": where nobody was refused, nobody was refused late.
        Bound(
            f"refusals within {REFUSED_P99_MS_MAX:g} ms (p99)",
            f"{p99_ms:.0f} ms, {later_ms:.0f} ms after the first {ONSET_S:g} s",
            not p99_ms > REFUSED_P99_MS_MAX,
        ),
        in_order(outcome),
        only_refusals(outcome),
        Bound(f"as before within {NORMAL_S_MAX:g} s", f"{normal_s:g} s", normal_s <= NORMAL_S_MAX),
        clean(offences),
    ]


def in_order(outcome: Outcome) -> Bound:
    """Payments last; before them polls, holds, joins, and first of all who only looks."""
    shares = refused_shares(outcome.overload)
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    holds = all(later <= sooner + ORDER_MARGIN for sooner, later in pairwise(shares.values()))
    return Bound("refused in this order", told, holds)


def only_refusals(outcome: Outcome) -> Bound:
    """Every answer is the wanted one, or a refusal with `Retry-After`."""
    failures: Counter[str] = Counter()
    for record in (*outcome.steps, outcome.before, outcome.overload, outcome.after):
        failures.update(record.failures)
    seen = ", ".join(f"{count} x {what}" for what, count in failures.most_common()) or "nothing else"
    return Bound("served, or refused with Retry-After", seen, not failures)


def clean(offences: int | None) -> Bound:
    return Bound("the audit is clean", "could not look" if offences is None else f"{offences} offences", offences == 0)


def show(console: Console, outcome: Outcome, kept: list[Bound]) -> None:
    overload = outcome.overload
    steps = ", ".join(f"{step.rate_per_s:,.0f} → {goodput_per_s(step):,.0f}" for step in outcome.steps)
    console.print(f"offered → served within a second, per second: {steps}")
    console.print(
        f"peak {outcome.peak_per_s:,.0f}/s; offered {overload.rate_per_s:,.0f}/s for {overload.seconds:g} s, served "
        f"{goodput_per_s(overload):,.0f}/s; the generator took {overload.cpu_share:.0%} of one core, "
        f"{overload.unsent:,} requests found no connection"
    )
    for name, record in (("before", outcome.before), ("overload", overload), ("after", outcome.after)):
        table = Table(title=f"{name}: {record.rate_per_s:,.0f}/s offered", title_justify="left")
        for heading in ("request", "offered", "refused", "served p50 ms", "p99", "refused p50 ms", "p99"):
            table.add_column(heading, justify="left" if heading == "request" else "right")
        for kind in by_kind(record):
            times = (kind.served_p50_ms, kind.served_p99_ms, kind.refused_p50_ms, kind.refused_p99_ms)
            told = ("–" if math.isnan(time_ms) else f"{time_ms:.1f}" for time_ms in times)
            table.add_row(kind.kind, f"{kind.offered:,}", f"{kind.refused_share:.0%}", *told)
        console.print(table)
    for bound in kept:
        console.print(f"{'kept  ' if bound.holds else 'MISSED'} {bound.claim}: {bound.seen}")
